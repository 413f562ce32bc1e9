use watershed_types::Result;
use crate::arguments::PlanArguments;
pub fn run(_arguments: PlanArguments) -> Result<u8> { unimplemented!() }
