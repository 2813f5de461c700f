//! The inside of the broker, for the simulation, the fuzz targets and the measurements of this
//! workspace. No promise is made about any of it: whoever builds on it builds on sand.

pub mod fuzz;
pub mod inside;
pub mod simulation;

pub use crate::planted::NAMES as PLANTED_BUGS;
pub use crate::store::reads::FAIL_READS;
