//! Peers that speak the protocol and send requests that they should not send. The answer to each is
//! known, or there must at least be one.

use std::net::SocketAddr;
use std::time::Duration;

use celeriac_proto::limits;
use celeriac_proto::wire::{self, ErrorCode};
use tokio::time::timeout;

use super::STAY;
use super::frames::frame;
use crate::RandomSource;
use crate::raw::{self, Answer, Lost, RawConnection, Request};

pub(super) const KINDS: u64 = 8;

pub(super) async fn peer(
    kind: u64,
    address: SocketAddr,
    random: &mut RandomSource,
) -> Result<(), String> {
    let staying = async {
        match kind {
            0 => hello_again(address, random).await,
            1 => odd_request_ids(address, random).await,
            2 => reads_nothing(address, random).await,
            3 => too_much_credit(address).await,
            4 => reports_on_others(address, random).await,
            5 => watches_a_million(address).await,
            6 => waits_for_a_million(address, random).await,
            _ => one_instance_many_sessions(address, random).await,
        }
    };
    match timeout(STAY, staying).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(lost)) => Err(lost.0),
        Err(_) => Err("an answer did not come".to_owned()),
    }
}

async fn open(address: SocketAddr, hello: wire::Hello) -> Result<RawConnection, Lost> {
    let mut connection = RawConnection::try_silent(address).await?;
    match connection.try_request(Request::Hello(hello)).await? {
        Answer::Welcome(_) => Ok(connection),
        other => Err(Lost(format!("no Welcome but {other:?}"))),
    }
}

fn expect(right: bool, what: &str, answer: &Answer) -> Result<(), Lost> {
    if right { Ok(()) } else { Err(Lost(format!("{what} was answered with {answer:.200?}"))) }
}

fn is_refused(answer: &Answer, code: ErrorCode) -> bool {
    matches!(answer, Answer::Error(error) if error.code() == code)
}

async fn hello_again(address: SocketAddr, random: &mut RandomSource) -> Result<(), Lost> {
    let mut connection = open(address, raw::hello()).await?;
    for _ in 0..random.between(1, 50) {
        let answer = connection.try_request(Request::Hello(raw::hello())).await?;
        expect(is_refused(&answer, ErrorCode::Handshake), "a second Hello", &answer)?;
    }
    Ok(())
}

/// Request ids of 0, and the same id for many requests at once: each is answered.
async fn odd_request_ids(address: SocketAddr, random: &mut RandomSource) -> Result<(), Lost> {
    let mut connection = open(address, raw::hello()).await?;
    let zero = frame(0, Request::Heartbeat(wire::Heartbeat::default()));
    connection.send_bytes(&zero).await?;
    let answer = connection.push().await?;
    expect(is_refused(&answer, ErrorCode::InvalidArgument), "request id 0", &answer)?;
    let id = random.bits().max(2);
    let get = wire::Get { ids: vec!["nobody".into()], with_results: false, ..Default::default() };
    for _ in 0..random.between(2, 20) {
        connection.send_bytes(&frame(id, Request::Get(get.clone()))).await?;
        let answer = connection.answer(id).await?;
        expect(matches!(answer, Answer::GetReply(_)), "an id that was used before", &answer)?;
    }
    Ok(())
}

/// Sends ten thousand requests, reads no answer, and leaves.
async fn reads_nothing(address: SocketAddr, random: &mut RandomSource) -> Result<(), Lost> {
    let mut connection = open(address, raw::hello()).await?;
    let sending = async {
        for number in 0..10_000 {
            let request = match random.below(3) {
                0 => Request::ListTasks(wire::ListTasks { limit: 1_000, ..Default::default() }),
                1 => Request::ListQueues(wire::ListQueues::default()),
                _ => Request::Get(wire::Get {
                    ids: vec![format!("nobody-{number}"); 50],
                    with_results: true,
                    ..Default::default()
                }),
            };
            if connection.send(request, 0).await.is_err() {
                return;
            }
        }
    };
    // The broker stops reading when too many answers wait. Then this peer has waited long enough.
    let _ = timeout(Duration::from_secs(2), sending).await;
    Ok(())
}

async fn too_much_credit(address: SocketAddr) -> Result<(), Lost> {
    let mut connection = open(address, raw::worker_hello(&["hostile"], &["nothing"])).await?;
    for credit in [limits::CREDIT_MAX + 1, u32::MAX] {
        let answer = connection.try_request(Request::Credit(wire::Credit { credit })).await?;
        expect(is_refused(&answer, ErrorCode::InvalidArgument), "too much credit", &answer)?;
    }
    Ok(())
}

/// Looks for tasks that other workers run, and reports on them with invented leases.
async fn reports_on_others(address: SocketAddr, random: &mut RandomSource) -> Result<(), Lost> {
    let mut connection = open(address, raw::worker_hello(&["hostile"], &["nothing"])).await?;
    let answer = connection
        .try_request(Request::ListTasks(wire::ListTasks { limit: 50, ..Default::default() }))
        .await?;
    let Answer::TaskPage(page) = answer else {
        return Err(Lost(format!("no TaskPage but {answer:?}")));
    };
    let reports: Vec<wire::TaskReport> = page
        .tasks
        .into_iter()
        .flat_map(|task| {
            // Leases above any existing one, and the lowest ones.
            let lease = [0, u64::MAX, (1 << 40) + random.below(1 << 40)][random.below(3) as usize];
            [raw::complete(b"stolen"), raw::fail("stolen")].map(|report| wire::TaskReport {
                id: task.id.clone(),
                lease,
                report: Some(report),
            })
        })
        .collect();
    if reports.is_empty() {
        return Ok(());
    }
    let answer = connection.try_request(Request::Report(wire::Report { reports })).await?;
    let stale = |outcome: &wire::ReportOutcome| {
        matches!(outcome.code(), ErrorCode::StaleLease | ErrorCode::NotFound)
    };
    let right = matches!(&answer, Answer::ReportReply(reply) if reply.outcomes.iter().all(stale));
    expect(right, "reports on the leases of others", &answer)
}

fn ids(from: usize) -> Vec<String> {
    (from..from + limits::BATCH_ITEMS_MAX).map(|number| format!("nobody-{number}")).collect()
}

async fn watches_a_million(address: SocketAddr) -> Result<(), Lost> {
    let mut connection = open(address, raw::hello()).await?;
    let mut refused = 0;
    for part in 0..100 {
        let watch = wire::Watch { ids: ids(part * limits::BATCH_ITEMS_MAX), with_results: true };
        let answer = connection.try_request(Request::Watch(watch)).await?;
        let right =
            matches!(answer, Answer::WatchReply(_)) || is_refused(&answer, ErrorCode::Overloaded);
        expect(right, "a watch", &answer)?;
        refused += usize::from(matches!(answer, Answer::Error(_)));
    }
    if refused == 0 {
        Err(Lost("a million ids may be watched by one connection".into()))
    } else {
        Ok(())
    }
}

/// Waits again and again for tasks that no worker runs.
async fn waits_for_a_million(address: SocketAddr, random: &mut RandomSource) -> Result<(), Lost> {
    let mut connection = open(address, raw::hello()).await?;
    let queue = format!("hostile-{}", random.bits());
    let ids: Vec<String> =
        (0..limits::BATCH_ITEMS_MAX).map(|number| format!("{queue}-{number}")).collect();
    let task = |id: &String| wire::Task { queue: queue.clone(), ..raw::task(id, "nothing") };
    let submit = wire::Submit { tasks: ids.iter().map(task).collect() };
    connection.try_request(Request::Submit(submit)).await?;
    let mut waits = Vec::new();
    for _ in 0..100 {
        let wait = wire::Wait { ids: ids.clone(), mode: 0, until: 0, with_results: true };
        waits.push(connection.send(Request::Wait(wait), 2_000).await?);
    }
    let mut refused = 0;
    for wait in waits {
        let answer = connection.answer(wait).await?;
        let right =
            matches!(answer, Answer::WaitReply(_)) || is_refused(&answer, ErrorCode::Overloaded);
        expect(right, "a wait", &answer)?;
        refused += usize::from(matches!(answer, Answer::Error(_)));
    }
    connection.try_request(Request::DeleteQueue(wire::DeleteQueue { queue })).await?;
    connection.try_request(Request::Forget(wire::Forget { ids })).await?;
    if refused == 0 {
        Err(Lost("a million ids may be waited for by one connection".into()))
    } else {
        Ok(())
    }
}

/// Uses the same instance name again and again, and sessions of other clients.
async fn one_instance_many_sessions(
    address: SocketAddr,
    random: &mut RandomSource,
) -> Result<(), Lost> {
    let mut sessions = Vec::new();
    for _ in 0..random.between(2, 30) {
        let session_id = match random.below(3) {
            0 => String::new(),
            1 => uuid::Uuid::from_u64_pair(random.bits(), random.bits()).to_string(),
            _ => "not even an id".to_owned(),
        };
        let hello = raw::worker_hello(&["hostile"], &["nothing"]);
        let hello = wire::Hello { instance_id: "always the same".into(), session_id, ..hello };
        let mut connection = RawConnection::try_silent(address).await?;
        match connection.try_request(Request::Hello(hello)).await? {
            Answer::Welcome(welcome) if !welcome.resumed => sessions.push(connection),
            answer if is_refused(&answer, ErrorCode::InvalidArgument) => {}
            other => return Err(Lost(format!("a made-up session was answered with {other:?}"))),
        }
    }
    Ok(())
}
