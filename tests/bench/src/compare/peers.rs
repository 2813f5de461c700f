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

use super::system::System;

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
