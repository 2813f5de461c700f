//! The client against a fake broker, which does what each test says, also what no good broker does.
//! The workspace's own `tests` have the real broker.

mod admission;
mod batches;
mod broker;
mod closing;
mod fake_broker;
mod reconnecting;
mod stats;
mod waiting;
mod watching;
