//! The counters of queues and of the broker: pages, and their types.

use std::time::{Duration, SystemTime};

use celeriac_client::ErrorCode;
use celeriac_proto::wire::{self, client_frame, server_frame};

use crate::broker::{FakeBroker, Peer};

async fn answer_stats(peer: &mut Peer, reply: wire::StatsReply) -> wire::Stats {
    match peer.receive().await {
        (id, client_frame::Body::Stats(stats)) => {
            peer.answer(id, server_frame::Body::StatsReply(reply)).await;
            stats
        }
        (_, other) => panic!("a request for counters and not {other:?}"),
    }
}

fn queue(name: &str, run: Option<wire::Histogram>) -> wire::QueueStats {
    let counters = wire::QueueCounters { submitted_total: 7, run, ..Default::default() };
    let (name, counters) = (name.to_owned(), Some(counters));
    wire::QueueStats { name, oldest_ready_at_ms: Some(1_000), counters, ..Default::default() }
}

#[tokio::test]
async fn all_pages_of_counters_are_asked_for_and_spans_are_in_their_buckets() {
    let broker = FakeBroker::bind().await;
    let (client, mut peer) = broker.client().await;
    let first = wire::StatsReply {
        at_ms: 5_000,
        broker: Some(wire::BrokerStats {
            refused: vec![
                wire::RefusedCount { code: wire::ErrorCode::QueueFull.into(), total: 3 },
                wire::RefusedCount { code: 999, total: 1 },
            ],
            commit: Some(wire::Histogram { counts: vec![4, 0], sum: 900 }),
            commit_bounds_us: vec![250],
            ..Default::default()
        }),
        queues: vec![queue("a", Some(wire::Histogram { counts: vec![2, 1, 5], sum: 90_000 }))],
        cursor: "a".into(),
        bounds_ms: vec![10, 1_000],
    };
    let second = wire::StatsReply {
        queues: vec![queue("b", None)],
        bounds_ms: vec![10, 1_000],
        ..Default::default()
    };
    let (stats, cursors) = tokio::join!(client.stats_of(&["a", "b"]), async {
        let first = answer_stats(&mut peer, first).await;
        [first, answer_stats(&mut peer, second).await]
    });
    let stats = stats.expect("answered");
    assert!(cursors.iter().all(|asked| asked.queues == ["a", "b"]), "{cursors:?}");
    assert_eq!(cursors.map(|asked| asked.cursor), ["", "a"]);
    let names: Vec<&str> = stats.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(stats.at, SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    let [a, b] = &stats.queues[..] else { panic!("two queues") };
    assert_eq!(a.oldest_ready_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    let run = &a.counters.run;
    assert_eq!(run.bounds(), [Duration::from_millis(10), Duration::from_secs(1)]);
    assert_eq!((run.counts(), run.count()), (&[2, 1, 5][..], 8));
    assert_eq!(run.sum(), Duration::from_secs(90));
    // The broker leaves out a histogram without spans.
    assert_eq!((b.counters.run.counts(), b.counters.run.bounds().len()), (&[0, 0, 0][..], 2));
    let broker = stats.broker.expect("it is on the first page");
    assert_eq!(broker.refused, [(ErrorCode::QueueFull, 3), (ErrorCode::Unspecified, 1)]);
    assert_eq!(broker.commit.bounds(), [Duration::from_micros(250)]);
    assert_eq!(broker.commit.sum(), Duration::from_micros(900));
}
