//! Outcomes that a client puts.

use bytes::Bytes;
use celeriac_record::Body;

use super::steps::{Put, Says};
use super::{CLIENT, Model, PRESENT_LEASE, id_of};
use crate::command::{Answer, Ask, Failure, Message, OutcomeKind, Produce, TaskOutcome};

impl Model {
    pub(super) fn put(&mut self, id: u8, mut put: Put) {
        if put.lease == PRESENT_LEASE {
            put.lease = self.reference.tasks.get(&id).map_or(1, |task| task.lease);
        }
        let kind = match put.says {
            Says::Success => OutcomeKind::Success,
            Says::Failure => OutcomeKind::Failure(Failure::default()),
            Says::Revoked => OutcomeKind::Revoked(None),
            Says::Retry => {
                OutcomeKind::Progress { state: "RETRY".into(), error: Some(Failure::default()) }
            }
            Says::Progress => OutcomeKind::Progress { state: "HALF".into(), error: None },
        };
        let outcome = TaskOutcome {
            id: id_of(id),
            lease: put.lease,
            kind,
            body: Body { bytes: Bytes::new(), content_type: "".into() },
            result_ttl_ms: put.result_ttl_ms,
        };
        let ask = Ask::Produce(Produce::PutOutcome(vec![Ok(outcome)]));
        let Some(Message::Answer(_, Answer::Stored(mut stored))) = self.answer(CLIENT, ask) else {
            panic!("no answer")
        };
        let stored = stored.pop().expect("there is one answer for each outcome");
        let slot = self.log.last().and_then(|(slot, _)| *slot).unwrap_or(0);
        let expected = self.reference.put(id, put, self.marks.0, slot);
        assert_eq!(stored.map_err(|(refusal, _)| refusal.code), expected);
    }
}
