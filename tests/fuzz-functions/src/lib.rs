//! What the fuzz targets run: each function takes any bytes at all and panics only over a fault of
//! the broker.
//!
//! The targets in `tests/fuzz` hand them what libFuzzer makes up, the tests what is committed and
//! what a seeded generator makes of it. If you add one, add it to [`TARGETS`], and a target and a
//! corpus of its name to `tests/fuzz`.

mod chunk;
mod cost;
mod counting;
mod frame;
mod http;
mod input;
mod memory;
mod request;
mod shapes;
mod world;

pub use chunk::chunk;
pub use cost::cost;
pub use counting::{Counting, taken};
pub use frame::frame;
pub use http::http;
pub use request::request;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 5] =
    [("frame", frame), ("cost", cost), ("request", request), ("chunk", chunk), ("http", http)];
