//! The client against a broker that does what each test says: also what no good broker does. Tests
//! with the real broker are elsewhere.

mod admission;
mod closing;
mod fake_broker;
mod reconnecting;
mod submitting;
mod waiting;
mod watching;
