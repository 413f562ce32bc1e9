use watershed_types::Result;
use crate::arguments::DemoArguments;
pub fn run(_arguments: DemoArguments, _started: std::time::Instant) -> Result<u8> { unimplemented!() }
