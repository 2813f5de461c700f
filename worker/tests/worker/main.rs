//! The worker against a fake broker, which does what each test says, over a real connection. The
//! workspace's own `tests` have the real broker.

mod around;
mod broker;
mod eager;
mod ending;
#[path = "../../../client/tests/all/fake_broker.rs"]
mod fake_broker;
mod macros;
mod middleware;
mod nasty;
mod reconnecting;
mod running;
mod setup;
mod spans;
mod starts;
mod taken_back;
