//! The peers: each in a file of its own, with its server and its best client.

mod amqp;
mod beanstalkd;
mod celery;
mod nats;
mod process;
mod rabbitmq;
mod redis;
mod resp;
mod wire;

use std::path::PathBuf;

use super::system::{Missing, System};

pub(crate) use process::Server;

/// Every peer in every durability, found or not.
pub(crate) fn all() -> Vec<Box<dyn System>> {
    let mut all: Vec<Box<dyn System>> = Vec::new();
    all.extend(redis::systems());
    all.extend(rabbitmq::systems());
    all.extend(beanstalkd::systems());
    all.extend(nats::systems());
    all.extend(celery::systems());
    all
}

/// The Python that has Celery, or else any that there is.
pub(crate) fn python() -> Result<PathBuf, Missing> {
    match celery::python() {
        Ok((python, _)) => Ok(python),
        Err(_) => process::installed("python3", "python3"),
    }
}
