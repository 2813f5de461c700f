//! Outcomes that clients put.

use bytes::Bytes;
use celeriac_proto::wire::client_frame::Body;
use celeriac_proto::wire::{ClientFrame, PutOutcome, TaskOutcome};

use super::work::broken_file;
use super::{ID, vector};
use crate::{HOUR_MS, Vector};

pub(super) fn outcomes() -> Vec<Vector<ClientFrame>> {
    let success = TaskOutcome {
        id: ID.into(),
        lease: 42,
        state: "SUCCESS".into(),
        body: Bytes::from_static(br#"{"tempo":114.0}"#),
        content_type: "application/json".into(),
        result_ttl_ms: Some(HOUR_MS as u64),
        error: None,
    };
    let failure = TaskOutcome {
        id: "user-0000".into(),
        state: "FAILURE".into(),
        error: broken_file(),
        ..TaskOutcome::default()
    };
    let progress = TaskOutcome { state: "DECODING".into(), result_ttl_ms: None, ..success.clone() };
    let put = |outcomes| Body::PutOutcome(PutOutcome { outcomes });
    vec![
        vector("put-outcome/success", "The result of a run.", 10, put(vec![success])),
        vector(
            "put-outcome/batch",
            "The failure of a task that nobody runs, and the progress of another.",
            11,
            put(vec![failure, progress]),
        ),
    ]
}
