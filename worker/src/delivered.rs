//! One delivery on its way through the worker: as it waits for an execution, and as its handler
//! runs. `leases` decides which of the two a delivery does, and what is reported of it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use celeriac_proto::wire::Delivery;

use crate::signals::{Signal, Signals};

/// A delivery without its payload, and the signals for its handler.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// The broker's message, without payload and content type.
    pub(crate) delivery: Delivery,
    /// Raised from outside while the handler runs.
    pub(crate) signals: Signals,
}

impl Delivered {
    /// Whether the handler may have begun, once an execution has the delivery. A delivery with
    /// `report_start` first waits for the answer to the report of its start.
    pub(crate) fn may_have_begun(&self) -> bool {
        !self.delivery.report_start || self.signals.is_raised(Signal::MAY_BEGIN)
    }
}

/// A delivery that waits for an execution. The payload is apart from the rest: it is dropped as
/// soon as the handler has read it, while a handler may keep its context for ever.
#[derive(Debug)]
pub(crate) struct WaitingDelivery {
    pub(crate) delivered: Arc<Delivered>,
    pub(crate) payload: Bytes,
    pub(crate) content_type: String,
}

/// A delivery whose handler runs from now on.
#[derive(Debug)]
pub(crate) struct BegunDelivery {
    pub(crate) delivered: Arc<Delivered>,
    pub(crate) payload: Bytes,
    pub(crate) content_type: String,
    /// When the execution took the delivery.
    pub(crate) begun_at: Instant,
}

impl WaitingDelivery {
    /// The lease of the delivery.
    pub(crate) fn lease(&self) -> u64 {
        self.delivered.delivery.lease
    }
}

impl From<Delivery> for WaitingDelivery {
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
