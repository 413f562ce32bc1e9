use watershed_types::Result;
use crate::arguments::QuarantineArguments;
pub fn run(_arguments: QuarantineArguments, _started: std::time::Instant) -> Result<u8> { unimplemented!() }
