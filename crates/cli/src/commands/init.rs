use watershed_types::Result;
use crate::arguments::InitArguments;
pub fn run(_arguments: InitArguments) -> Result<u8> { unimplemented!() }
