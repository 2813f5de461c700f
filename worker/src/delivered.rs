//! One delivery on its way through the worker: as it waits for a slot, and as its handler runs.
//! Which of the two it does, and what is reported of it, is the matter of `leases.rs`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use celeriac_proto::wire::Delivery;

use crate::signals::{Signal, Signals};

/// A delivery without its payload, and what its handler is told from outside.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) delivery: Delivery,
    pub(crate) signals: Signals,
}

impl Delivered {
    /// Whether its handler may have begun, once a slot has it. Some wait for the answer to their
    /// start first.
    pub(crate) fn may_have_begun(&self) -> bool {
        !self.delivery.report_start || self.signals.is_raised(Signal::MAY_BEGIN)
    }
}

/// A delivery that waits for a slot. Its payload is apart: it goes as soon as the handler has read
/// it, while a handler's context may be kept for ever.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) delivered: Arc<Delivered>,
    pub(crate) payload: Bytes,
    pub(crate) content_type: String,
}

/// A delivery whose handler runs from now on.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) delivered: Arc<Delivered>,
    pub(crate) payload: Bytes,
    pub(crate) content_type: String,
    pub(crate) begun_at: Instant,
}

impl Waiting {
    pub(crate) fn lease(&self) -> u64 {
        self.delivered.delivery.lease
    }
}

impl From<Delivery> for Waiting {
    fn from(mut delivery: Delivery) -> Self {
        let (payload, content_type) =
            (std::mem::take(&mut delivery.payload), std::mem::take(&mut delivery.content_type));
        Self {
            delivered: Arc::new(Delivered { delivery, signals: Signals::default() }),
            payload,
            content_type,
        }
    }
}
