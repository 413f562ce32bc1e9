use watershed_types::Result;
use crate::arguments::StatusArguments;
pub fn run(_arguments: StatusArguments) -> Result<u8> { unimplemented!() }
