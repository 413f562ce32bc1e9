use watershed_types::Result;
use crate::arguments::VerifyArguments;
pub fn run(_arguments: VerifyArguments) -> Result<u8> { unimplemented!() }
