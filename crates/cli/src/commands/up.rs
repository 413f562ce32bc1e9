use watershed_types::Result;
use crate::arguments::UpArguments;
pub fn run(_arguments: UpArguments, _started: std::time::Instant) -> Result<u8> { unimplemented!() }
