use watershed_types::Result;
use crate::arguments::CheckpointArguments;
pub fn run(_arguments: CheckpointArguments) -> Result<u8> { unimplemented!() }
