//! Requests about chords.

use bytes::Bytes;
use celeriac_proto::TaskId;
use celeriac_record::Body;

use super::steps::{Chord, ChordStep};
use super::{CLIENT, Model};
use crate::command::{Answer, Ask, ChordAsk, ChordExtend, ChordPart, Message, Produce};

impl Model {
    pub(super) fn chord(&mut self, step: ChordStep) {
        let ChordStep { group, by_worker, ask: asked, result_ttl_ms, lease_ms } = step;
        let connected = |worker: &usize| self.reference.session_of(*worker).is_some();
        let peer = by_worker.filter(connected).unwrap_or(CLIENT);
        let caller = self.peers[peer].connection.expect("the peer is connected");
        let body = Body { bytes: Bytes::new(), content_type: "".into() };
        let ask = match asked {
            Chord::Part { member, index, size } => {
                let member = id("m", member);
                ChordAsk::Part(ChordPart { member, index, size, body, result_ttl_ms, lease_ms })
            }
            Chord::Extend { size, added, claim } => ChordAsk::Extend(ChordExtend {
                size,
                added: added.iter().map(|member| id("m", *member)).collect(),
                lease: 0,
                claim,
                parts_from: 0,
                result_ttl_ms,
                lease_ms,
            }),
            Chord::Renew => {
                let lease = self.reference.chord_lease(group);
                ChordAsk::Extend(ChordExtend {
                    size: None,
                    added: Vec::new(),
                    lease,
                    claim: false,
                    parts_from: 0,
                    result_ttl_ms,
                    lease_ms,
                })
            }
            Chord::Done { earlier } => {
                let lease = self.reference.chord_lease(group).saturating_sub(u64::from(earlier));
                ChordAsk::Done { lease, result_ttl_ms }
            }
        };
        let ask = Ask::Produce(Produce::Chord { group: id("g", group), ask });
        let shown = match self.answer(peer, ask) {
            Some(Message::Answer(_, Answer::Chord(state))) => {
                let lease = state.lease;
                assert_eq!(state.parts.len(), if lease == 0 { 0 } else { state.count as usize });
                Ok((state.count, state.size, state.added, lease, state.is_done))
            }
            Some(Message::Answer(_, Answer::Done)) => Ok((0, None, 0, 0, true)),
            Some(Message::Answer(_, Answer::Refused(refusal))) => Err(refusal.code),
            answer => panic!("no answer: {answer:?}"),
        };
        // The machine chooses the number of a new lease.
        let number = shown.as_ref().map_or(0, |shown| shown.3);
        let expected = self.reference.chord(step, caller, number);
        assert_eq!(shown, expected, "the machine, then the reference, of {asked:?}");
    }
}

fn id(kind: &str, number: u8) -> TaskId {
    TaskId::parse(format!("{kind}-{number}")).expect("the text is an id")
}
