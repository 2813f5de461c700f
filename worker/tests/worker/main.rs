//! The worker against a broker that does what the test says, over a real connection.
//! The real broker is tested with the worker in the workspace's own `tests`.

mod around;
mod broker;
mod eager;
mod ending;
mod macros;
mod middleware;
mod nasty;
mod reconnecting;
mod running;
mod setup;
mod spans;
mod starts;
mod taken_back;
