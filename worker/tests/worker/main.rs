//! The worker against a broker that does what the test says, over a real connection.
//! The real broker is tested with the worker in the workspace's own `tests`.

mod broker;
mod eager;
mod ending;
mod macros;
mod middleware;
mod reconnecting;
mod running;
mod taken_back;
