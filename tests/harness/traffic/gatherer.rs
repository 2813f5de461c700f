//! Gatherers return the parts of chords. Several work on one chord: the one that gets its lease
//! submits the body, says that it is sent, and now and then is lost in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use celeriac_proto::wire;
use tokio::time::sleep;

use super::producer::tame;
use super::{QUEUE, RETRY_PAUSE, Traffic, soon};
use crate::RandomSource;
use crate::raw::{self, Answer, Lost, RawConnection, Request};

const MEMBERS: u64 = 4;
/// So short that some leases of chords are over before their caller is done.
const LEASE_MS: u64 = 100;

impl Traffic {
    /// Gathers one chord after the other.
    pub async fn gather(self: Arc<Self>, number: usize) {
        let mut random = self.random(3, number);
        let mut connection = None;
        let mut chord = 0;
        while self.producing.load(Ordering::SeqCst) {
            match self.gather_one(&mut connection, number, chord, &mut random).await {
                Ok(true) => chord += 1,
                Ok(false) => {}
                Err(Lost(_)) => connection = None,
            }
            // The other gatherers get their turn, and a broker that is down its time.
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Sends one request about a chord, and what follows from the answer. Says whether the chord is
    /// done.
    async fn gather_one(
        &self,
        connection: &mut Option<RawConnection>,
        number: usize,
        chord: u64,
        random: &mut RandomSource,
    ) -> Result<bool, Lost> {
        if connection.is_none() {
            *connection = Some(self.open(&format!("gatherer-{number}"), raw::hello()).await?.0);
        }
        let connection = connection.as_mut().expect("it was just opened");
        let group = format!("chord-{chord}");
        let answer = soon(connection.try_request(request(&group, random))).await?;
        let Answer::ChordReply(reply) = answer else { return Ok(false) };
        if reply.lease == 0 {
            return Ok(reply.done);
        }
        let body = wire::Task {
            submit_key: group.clone(),
            on_conflict: wire::OnConflict::RunAgainIfFinished.into(),
            ..tame(&format!("body-of-{group}"), QUEUE)
        };
        let submit = Request::Submit(wire::Submit { tasks: vec![body] });
        soon(connection.try_request(submit)).await?;
        match random.below(6) {
            0 => return Err(Lost("it was lost before it could say that the body is sent".into())),
            1 => sleep(std::time::Duration::from_millis(2 * LEASE_MS)).await,
            _ => {}
        }
        let done = wire::ChordDone { group, lease: reply.lease, result_ttl_ms: None };
        soon(connection.try_request(Request::ChordDone(done))).await?;
        Ok(false)
    }
}

fn request(group: &str, random: &mut RandomSource) -> Request {
    let (group, lease_ms) = (group.to_owned(), Some(LEASE_MS));
    if random.below(3) == 0 {
        let extend = wire::ChordExtend { group, claim: true, lease_ms, ..Default::default() };
        return Request::ChordExtend(extend);
    }
    let member = random.below(MEMBERS);
    Request::ChordPart(wire::ChordPart {
        group,
        member: format!("member-{member}"),
        index: Some(member as u32),
        size: Some(MEMBERS as u32),
        body: vec![b'p'; random.below(200) as usize].into(),
        lease_ms,
        ..Default::default()
    })
}
