//! The Welcome of the broker that the kit plays.

use celeriac_proto::limits;
use celeriac_proto::wire::server_frame::Body;
use celeriac_proto::wire::{Limits, Welcome};

/// Fills the fields of a Welcome that a script leaves out with the values of a broker of version 1.
pub(crate) fn completed(body: Body) -> Body {
    let Body::Welcome(welcome) = body else { return body };
    let or = |value: u64, usual: u64| if value == 0 { usual } else { value };
    let given = welcome.limits.unwrap_or_default();
    let limits = Limits {
        frame_bytes_max: or(given.frame_bytes_max, limits::FRAME_BYTES_MAX as u64),
        payload_bytes_max: or(given.payload_bytes_max, limits::PAYLOAD_BYTES_MAX as u64),
        result_bytes_max: or(given.result_bytes_max, limits::RESULT_BYTES_MAX as u64),
        batch_items_max: or(given.batch_items_max.into(), limits::BATCH_ITEMS_MAX as u64) as u32,
        requests_in_flight_max: or(
            given.requests_in_flight_max.into(),
            limits::REQUESTS_IN_FLIGHT_MAX as u64,
        ) as u32,
        credit_max: or(given.credit_max.into(), limits::CREDIT_MAX.into()) as u32,
    };
    Body::Welcome(Welcome {
        protocol: or(welcome.protocol.into(), limits::PROTOCOL_VERSION.into()) as u32,
        server_name: "conformance".into(),
        server_version: "1".into(),
        heartbeat_ms: or(welcome.heartbeat_ms, 5_000),
        lease_ms: or(welcome.lease_ms, 15_000),
        server_time_ms: 1_790_000_000_000,
        limits: Some(limits),
        ..welcome
    })
}
