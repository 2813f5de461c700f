//! The inside of the broker, for the simulation, the fuzz targets and the measurements of this
//! workspace. No promise is made about any of it: whoever builds on it builds on sand.

mod disk;
pub mod fuzz;
pub mod inside;
pub mod simulation;

pub use celeriac_store::FAIL_READS;
