//! Chords, from outside: the broker is killed between the steps, and callers are lost.

use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::CHORD_PART_TASK_NAME;
use celeriac_proto::wire::{self, ChordReply, ErrorCode, TaskState};
use celeriac_tests::raw::{Answer, Request};
use celeriac_tests::{BrokerProcess, RawConnection};

const GROUP: &str = "group";

fn part(member: &str, index: u32) -> wire::ChordPart {
    wire::ChordPart {
        group: GROUP.into(),
        member: member.into(),
        index: Some(index),
        body: Bytes::copy_from_slice(member.as_bytes()),
        ..wire::ChordPart::default()
    }
}

fn extend() -> wire::ChordExtend {
    wire::ChordExtend { group: GROUP.into(), ..wire::ChordExtend::default() }
}

async fn chord(connection: &mut RawConnection, request: Request) -> ChordReply {
    match connection.request(request).await {
        Ok(Answer::ChordReply(reply)) => reply,
        other => panic!("no ChordReply but {other:?}"),
    }
}

async fn take(connection: &mut RawConnection, part: wire::ChordPart) -> ChordReply {
    chord(connection, Request::ChordPart(part)).await
}

async fn done(connection: &mut RawConnection, lease: u64) -> Result<(), ErrorCode> {
    let done = wire::ChordDone { group: GROUP.into(), lease, result_ttl_ms: None };
    match connection.request(Request::ChordDone(done)).await {
        Ok(Answer::Done(_)) => Ok(()),
        Ok(other) => panic!("no Done but {other:?}"),
        Err(error) => Err(error.code()),
    }
}

async fn code(connection: &mut RawConnection, request: Request) -> ErrorCode {
    connection.request(request).await.expect_err("the broker refuses the request").code()
}

/// Kills the broker, starts it again, and connects.
async fn over_a_kill(broker: &mut BrokerProcess) -> RawConnection {
    broker.kill().await;
    broker.restart().await;
    RawConnection::open(broker.address()).await
}

#[tokio::test]
async fn a_chord_is_counted_over_a_kill_between_each_pair_of_steps() {
    let mut broker = BrokerProcess::start().await;
    let mut client = RawConnection::open(broker.address()).await;
    assert_eq!(take(&mut client, part("b", 1)).await.count, 1);
    let mut client = over_a_kill(&mut broker).await;
    let sized = wire::ChordExtend { size: Some(2), ..extend() };
    assert_eq!(chord(&mut client, Request::ChordExtend(sized)).await.size, Some(2));
    let mut client = over_a_kill(&mut broker).await;
    let added = wire::ChordExtend { added: vec!["c".into()], ..extend() };
    assert_eq!(chord(&mut client, Request::ChordExtend(added.clone())).await.added, 1);
    let mut client = over_a_kill(&mut broker).await;
    // The answer may have been lost, so the same request comes again.
    assert_eq!(chord(&mut client, Request::ChordExtend(added)).await.added, 1);
    let again = take(&mut client, part("b", 1)).await;
    assert_eq!((again.count, again.size, again.added, again.lease), (1, Some(2), 1, 0));
    take(&mut client, part("a", 0)).await;
    let mut client = over_a_kill(&mut broker).await;
    let last = take(&mut client, part("c", 2)).await;
    assert!(last.lease > 0, "the last part gives the lease: {last:?}");
    assert_eq!(last.parts, ["group/0/a", "group/1/b", "group/2/c"]);
    for (id, body) in [("group/0/a", b"a"), ("group/2/c", b"c")] {
        let info = client.info(id).await;
        assert_eq!((&*info.name, &*info.result), (CHORD_PART_TASK_NAME, &body[..]));
    }
    let mut client = over_a_kill(&mut broker).await;
    // The caller comes back after it sent the body.
    assert_eq!(done(&mut client, last.lease).await, Ok(()));
    let mut client = over_a_kill(&mut broker).await;
    assert_eq!(done(&mut client, last.lease).await, Ok(()));
    let late = take(&mut client, part("c", 2)).await;
    assert!(late.done && late.lease == 0, "a chord that is done gives no lease: {late:?}");
    for id in ["group/0/a", "group/1/b", "group/2/c"] {
        assert_eq!(client.info(id).await.state(), TaskState::Unknown, "{id}");
    }
}

#[tokio::test]
async fn exactly_one_of_many_callers_at_once_gets_the_lease() {
    let broker = BrokerProcess::start().await;
    let mut client = RawConnection::open(broker.address()).await;
    let sized = wire::ChordExtend { size: Some(20), ..extend() };
    chord(&mut client, Request::ChordExtend(sized)).await;
    let callers = (0..40_u32).map(|caller| {
        let address = broker.address();
        tokio::spawn(async move {
            let mut connection = RawConnection::open(address).await;
            // Each part comes from two callers at once, as when a member runs twice.
            let index = caller % 20;
            let reply = take(&mut connection, part(&format!("member-{index}"), index)).await;
            (connection, reply)
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut leases = Vec::new();
    let mut connections = Vec::new();
    for caller in callers {
        let (connection, reply) = caller.await.expect("the caller gets its answer");
        leases.extend(Some(reply.lease).filter(|lease| *lease > 0));
        connections.push(connection);
    }
    assert_eq!(leases.len(), 1, "one caller has the lease: {leases:?}");
    assert_eq!(done(&mut client, leases[0]).await, Ok(()));
    assert_eq!(done(&mut client, leases[0] + 1).await, Err(ErrorCode::StaleLease));
}

#[tokio::test]
async fn the_next_caller_gets_the_lease_when_the_first_is_lost_or_too_slow() {
    let broker = BrokerProcess::start().await;
    let mut first = RawConnection::open(broker.address()).await;
    let mut second = RawConnection::open(broker.address()).await;
    let only = wire::ChordPart { size: Some(1), ..part("a", 0) };
    let given = take(&mut first, only.clone()).await.lease;
    assert!(given > 0);
    assert_eq!(take(&mut second, only.clone()).await.lease, 0, "the first caller holds it");
    drop(first);
    let claim = || wire::ChordExtend { claim: true, lease_ms: Some(100), ..extend() };
    let next = celeriac_tests::within("the lease of the lost caller", async {
        loop {
            let lease = chord(&mut second, Request::ChordExtend(claim())).await.lease;
            if lease > 0 {
                return lease;
            }
        }
    })
    .await;
    assert!(next > given);
    assert_eq!(done(&mut second, given).await, Err(ErrorCode::StaleLease));
    let mut third = RawConnection::open(broker.address()).await;
    let last = celeriac_tests::within("the lease of the slow caller", async {
        loop {
            let lease = take(&mut third, only.clone()).await.lease;
            if lease > 0 {
                return lease;
            }
            // This test is about time itself.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(done(&mut second, next).await, Err(ErrorCode::StaleLease));
    assert_eq!(done(&mut third, last).await, Ok(()));
}

#[tokio::test]
async fn the_parts_of_a_large_chord_are_named_page_by_page() {
    let broker = BrokerProcess::start().await;
    let mut client = RawConnection::open(broker.address()).await;
    let mut last = ChordReply::default();
    for index in 0..1_500_u32 {
        let part = wire::ChordPart { size: Some(1_500), ..part("m", index) };
        last = take(&mut client, part).await;
    }
    assert_eq!((last.parts.len(), last.parts_left), (1_000, 500));
    let next = wire::ChordExtend { lease: last.lease, parts_from: 1_000, ..extend() };
    let rest = chord(&mut client, Request::ChordExtend(next)).await;
    assert_eq!((rest.parts.len(), rest.parts_left, rest.lease), (500, 0, last.lease));
    let parts = last.parts.iter().chain(&rest.parts).cloned();
    let expected = (0..1_500).map(|index| format!("group/{index}/m"));
    assert!(parts.eq(expected), "the parts come in the order of their indexes");
}

#[tokio::test]
async fn each_field_of_a_chord_request_is_checked() {
    let broker = BrokerProcess::start().await;
    let mut client = RawConnection::open(broker.address()).await;
    let good = || part("a", 0);
    let long = "x".repeat(256);
    for bad in [
        wire::ChordPart { group: String::new(), ..good() },
        wire::ChordPart { group: "x".repeat(254), ..good() },
        wire::ChordPart { member: String::new(), ..good() },
        wire::ChordPart { content_type: long.clone(), ..good() },
        wire::ChordPart { index: Some(u32::MAX), ..good() },
        wire::ChordPart { size: Some(0), ..good() },
        wire::ChordPart { size: Some(100_001), ..good() },
        wire::ChordPart { result_ttl_ms: Some(0), ..good() },
        wire::ChordPart { lease_ms: Some(0), ..good() },
    ] {
        let refused = code(&mut client, Request::ChordPart(bad.clone())).await;
        assert_eq!(refused, ErrorCode::InvalidArgument, "{bad:?}");
    }
    for bad in [
        wire::ChordExtend { group: long.clone(), size: Some(1), ..extend() },
        wire::ChordExtend { size: Some(0), ..extend() },
        wire::ChordExtend { added: vec![String::new()], ..extend() },
        wire::ChordExtend { added: vec!["a".into(); 10_001], ..extend() },
        wire::ChordExtend { size: Some(1), lease_ms: Some(u64::MAX), ..extend() },
    ] {
        let refused = code(&mut client, Request::ChordExtend(bad)).await;
        assert_eq!(refused, ErrorCode::InvalidArgument);
    }
    assert_eq!(code(&mut client, Request::ChordExtend(extend())).await, ErrorCode::NotFound);
    assert_eq!(done(&mut client, 1).await, Err(ErrorCode::NotFound));
}
