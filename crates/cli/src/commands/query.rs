use watershed_types::Result;
use crate::arguments::QueryArguments;
pub fn run(_arguments: QueryArguments) -> Result<u8> { unimplemented!() }
