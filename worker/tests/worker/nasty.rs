//! Handlers whose values, panics and errors are as nasty as they can be: each task ends, its
//! execution is free again, and the worker shuts down when it is asked to.

use std::error::Error;
use std::fmt;
use std::panic::panic_any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use celeriac_proto::wire::Delivery;
use celeriac_proto::wire::task_report::Report;
use celeriac_worker::{
    Context, Handler, Middleware, Payload, Run, TaskFailure, Worker, WorkerBuilder, task,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::Barrier;

use crate::broker::{FakeBroker, Peer, delivery, run, within};

/// Panics when it is dropped, unless a panic is under way: two at a time end the process.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_any(Bomb);
        }
    }
}

/// An error of several kinds.
#[derive(Debug)]
enum Nasty {
    /// Its source is itself.
    Circle,
    /// Its text has no end.
    Endless,
    /// Its text fails.
    Unshowable,
    /// Its text panics.
    Panics,
}

impl fmt::Display for Nasty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nasty::Circle => f.write_str("round"),
            Nasty::Endless => loop {
                f.write_str("and so on ")?;
            },
            Nasty::Unshowable => Err(fmt::Error),
            Nasty::Panics => panic_any(Bomb),
        }
    }
}

impl Error for Nasty {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        matches!(self, Nasty::Circle).then_some(&Nasty::Circle)
    }
}

/// A value of several kinds.
enum Value {
    NotANumber,
    Deep(usize),
    Long,
    Refuses,
    Panics,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::NotANumber => serializer.serialize_f64(f64::NAN),
            Value::Deep(0) => serializer.serialize_unit(),
            Value::Deep(levels) => [Value::Deep(levels - 1)].serialize(serializer),
            Value::Long => serializer.serialize_str(&"long ".repeat(1_000_000)),
            Value::Refuses => Err(serde::ser::Error::custom("no")),
            Value::Panics => panic_any(Bomb),
        }
    }
}

/// No handler here reads it.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("it is only written"))
    }
}

const ENDS: [&str; 15] = [
    "text",
    "bomb",
    "bomb in a local",
    "circle",
    "endless",
    "unshowable",
    "panicking text",
    "nan",
    "deep",
    "long",
    "refuses",
    "panicking value",
    "much later",
    "nothing to retry",
    "long failure",
];

fn end(how: &str) -> Result<Value, TaskFailure> {
    match how {
        "text" => panic!("a text"),
        "bomb" => panic_any(Bomb),
        "bomb in a local" => {
            let _bomb = Bomb;
            Ok(Value::Deep(1))
        }
        "circle" => Err(Nasty::Circle.into()),
        "endless" => Err(Nasty::Endless.into()),
        "unshowable" => Err(Nasty::Unshowable.into()),
        "panicking text" => Err(Nasty::Panics.into()),
        "nan" => Ok(Value::NotANumber),
        "deep" => Ok(Value::Deep(200)),
        "long" => Ok(Value::Long),
        "refuses" => Ok(Value::Refuses),
        "panicking value" => Ok(Value::Panics),
        "much later" => Err(TaskFailure::new("Later", "much later").retry_after(Duration::MAX)),
        "nothing to retry" => Err(TaskFailure::fatal("", "")),
        "long failure" => Err(TaskFailure::new("k".repeat(100_000), "m".repeat(100_000))
            .with_traceback("ä".repeat(100_000))),
        other => Err(TaskFailure::fatal("Unknown", other.to_owned())),
    }
}

#[task]
async fn at_once(how: String) -> Result<Value, TaskFailure> {
    end(&how)
}

#[task]
async fn later(how: String) -> Result<Value, TaskFailure> {
    tokio::task::yield_now().await;
    end(&how)
}

#[task]
fn blocking(how: String) -> Result<Value, TaskFailure> {
    end(&how)
}

/// Panics before there is a run.
struct NeverBegins;

impl Handler for NeverBegins {
    fn name(&self) -> &str {
        "never_begins"
    }

    fn start(&self, _context: Context, _payload: Payload<'_>) -> Result<Run, TaskFailure> {
        panic_any(Bomb)
    }
}

/// Returns a value that panics when it is dropped.
struct PanickingOwner;

struct OwnedByABomb(Bomb);

impl AsRef<[u8]> for OwnedByABomb {
    fn as_ref(&self) -> &[u8] {
        b"null"
    }
}

impl Handler for PanickingOwner {
    fn name(&self) -> &str {
        "panicking_owner"
    }

    fn start(&self, _context: Context, _payload: Payload<'_>) -> Result<Run, TaskFailure> {
        Ok(Run::future(async { Ok(Bytes::from_owner(OwnedByABomb(Bomb))) }))
    }
}

/// Waits for ever, and panics when it is dropped.
struct PanicsWhenDropped;

impl Handler for PanicsWhenDropped {
    fn name(&self) -> &str {
        "panics_when_dropped"
    }

    fn start(&self, _context: Context, _payload: Payload<'_>) -> Result<Run, TaskFailure> {
        let bomb = Bomb;
        Ok(Run::future(async move {
            std::future::pending::<()>().await;
            drop(bomb);
            Ok("null".into())
        }))
    }
}

/// Every hook panics.
struct Hooks;

impl Middleware for Hooks {
    fn before(&self, _context: &Context) {
        panic_any(Bomb);
    }

    fn after_success(&self, _context: &Context, _elapsed: Duration) {
        panic_any(Bomb);
    }

    fn after_failure(&self, _context: &Context, _failure: &TaskFailure, _elapsed: Duration) {
        panic_any(Bomb);
    }

    fn after_retry(&self, _context: &Context, _failure: &TaskFailure, _elapsed: Duration) {
        panic_any(Bomb);
    }

    fn after_drop(&self, _context: &Context, _elapsed: Duration) {
        panic_any(Bomb);
    }

    fn after(&self, _context: &Context, _elapsed: Duration) {
        panic_any(Bomb);
    }
}

const EXECUTIONS: u32 = 2;

fn worker(broker: &FakeBroker) -> WorkerBuilder {
    let everywhere = Arc::new(Barrier::new(EXECUTIONS as usize));
    Worker::builder(broker.url())
        .concurrency(EXECUTIONS)
        .credit(1_000)
        .register(at_once)
        .register(later)
        .register(blocking)
        .register(NeverBegins)
        .register(PanickingOwner)
        .register(PanicsWhenDropped)
        .register_fn("every_execution", move |_context, ()| {
            let everywhere = everywhere.clone();
            async move {
                everywhere.wait().await;
                Ok::<_, TaskFailure>(())
            }
        })
}

/// Ends that are no success, and how often each lease was ended.
async fn ends(session: &mut Peer, wanted: usize) -> Vec<(u64, Report)> {
    let mut ends = Vec::new();
    while ends.len() < wanted {
        let reports = session.reports(1).await.into_iter();
        ends.extend(reports.filter_map(|report| Some((report.lease, report.report?))));
        ends.retain(|(_, report)| !matches!(report, Report::Started(_)));
    }
    ends
}

async fn every_execution_is_free(session: &mut Peer) {
    let tasks = (0..EXECUTIONS)
        .map(|number| delivery(9_000 + u64::from(number), "every_execution", "[[], {}]"));
    session.deliver(tasks).await;
    for (lease, report) in ends(session, EXECUTIONS as usize).await {
        assert!(matches!(report, Report::Complete(_)), "{lease}: {report:?}");
    }
}

async fn all_end(builder: WorkerBuilder, broker: FakeBroker) {
    let mut worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    let names = ["at_once", "later", "blocking"];
    let each = ENDS.iter().flat_map(|how| names.map(|name| (name, format!("[[\"{how}\"], {{}}]"))));
    let others = ["never_begins", "panicking_owner"].map(|name| (name, "[[], {}]".to_owned()));
    let each: Vec<_> = each.chain(others).collect();
    let deliveries = (1..).zip(&each).map(|(lease, (name, payload))| Delivery {
        // Longer than any clock can represent.
        soft_time_limit_ms: Some(u64::MAX - 1),
        time_limit_ms: Some(u64::MAX),
        ..delivery(lease, name, payload)
    });
    session.deliver(deliveries).await;
    let mut ended = ends(&mut session, each.len()).await;
    ended.sort_by_key(|(lease, _)| *lease);
    let leases: Vec<u64> = ended.iter().map(|(lease, _)| *lease).collect();
    assert_eq!(leases, (1..=each.len() as u64).collect::<Vec<_>>(), "each ends once");
    for ((_, report), task) in ended.iter().zip(&each) {
        assert!(
            !matches!(report, Report::Complete(_) | Report::Release(_)),
            "{task:?}: {report:?}"
        );
    }
    every_execution_is_free(&mut session).await;
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    session.goodbye().await;
    worker.ended().await.expect("in good order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_handler_does_its_task_ends_and_its_execution_is_free() {
    let broker = FakeBroker::start().await;
    within(all_end(worker(&broker), broker)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_panic_with_something_that_panics_change_nothing() {
    let broker = FakeBroker::start().await;
    within(all_end(worker(&broker).middleware(Arc::new(Hooks)), broker)).await;
}

/// Wraps every run in code that takes a while and may panic too.
struct Around {
    panics_after: bool,
}

impl Middleware for Around {
    fn around(&self, _context: &Context, run: Run) -> Result<Run, TaskFailure> {
        let panics_after = self.panics_after;
        Ok(Run::future(async move {
            tokio::task::yield_now().await;
            let outcome = run.await;
            tokio::task::yield_now().await;
            if panics_after {
                panic_any(Bomb);
            }
            outcome
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_handler_does_within_a_middleware_its_task_ends_and_its_execution_is_free() {
    let broker = FakeBroker::start().await;
    let around = Arc::new(Around { panics_after: false });
    within(all_end(worker(&broker).middleware(around.clone()).middleware(around), broker)).await;
}

#[tokio::test]
async fn a_middleware_that_panics_around_a_run_costs_the_task_and_no_execution() {
    let broker = FakeBroker::start().await;
    let _worker = run(worker(&broker).middleware(Arc::new(Around { panics_after: true })));
    let (mut session, _) = broker.welcome().await;
    let names = ["at_once", "later", "blocking", "never_begins"].into_iter().cycle().take(40);
    session
        .deliver(
            (1..).zip(names).map(|(lease, name)| delivery(lease, name, "[[\"much later\"], {}]")),
        )
        .await;
    for (lease, report) in ends(&mut session, 40).await {
        let Report::Fail(fail) = &report else { panic!("{lease}: {report:?}") };
        let kind = fail.error.as_ref().map(|error| error.kind.as_str());
        assert_eq!(kind, Some("panic"), "{lease}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_panic_when_they_are_dropped_cost_no_execution() {
    let broker = FakeBroker::start().await;
    let mut worker = run(worker(&broker).shutdown_grace(Duration::ZERO));
    let (mut session, _) = broker.welcome().await;
    let limited = |lease| Delivery {
        time_limit_ms: Some(1),
        ..delivery(lease, "panics_when_dropped", "[[], {}]")
    };
    session.deliver((1..=6).map(limited)).await;
    for (lease, report) in ends(&mut session, 6).await {
        assert!(matches!(report, Report::Fail(_)), "{lease}: {report:?}");
    }
    every_execution_is_free(&mut session).await;
    session.deliver([delivery(7, "panics_when_dropped", "[[], {}]")]).await;
    assert!(matches!(session.reports(1).await[0].report, Some(Report::Started(_))));
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    assert!(matches!(ends(&mut session, 1).await[..], [(7, Report::Release(_))]));
    session.goodbye().await;
    worker.ended().await.expect("in good order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backtrace_of_a_panic_is_in_its_failure() {
    let broker = FakeBroker::start().await;
    let _worker = run(worker(&broker));
    let (mut session, _) = broker.welcome().await;
    for (lease, name) in [(1, "at_once"), (2, "blocking")] {
        session.deliver([delivery(lease, name, "[[\"text\"], {}]")]).await;
        let ended = ends(&mut session, 1).await;
        let Report::Fail(fail) = &ended[0].1 else { panic!("{ended:?}") };
        let error = fail.error.as_ref().expect("an error");
        assert_eq!((error.kind.as_str(), error.message.as_str()), ("panic", "a text"));
        assert!(
            error.traceback.starts_with("at worker/tests/worker/nasty.rs")
                && error.traceback.contains(": end\n"),
            "{}",
            error.traceback
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grace_without_end_is_a_long_one() {
    let broker = FakeBroker::start().await;
    let mut worker = run(worker(&broker).shutdown_grace(Duration::MAX));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "every_execution", "[[], {}]")]).await;
    assert!(matches!(session.reports(1).await[0].report, Some(Report::Started(_))));
    // The worker still waits for the handler when it is dropped.
    worker.shut_down();
    assert_eq!(session.credit().await, 0);
    worker.dropped().await;
}

#[test]
fn more_blocking_handlers_than_the_runtime_has_threads_for_all_run_at_once() {
    const RUNS: u32 = 20;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let broker = FakeBroker::start().await;
        let barrier = Arc::new(std::sync::Barrier::new(RUNS as usize));
        struct Together(Arc<std::sync::Barrier>);
        impl Handler for Together {
            fn name(&self) -> &str {
                "together"
            }
            fn start(&self, _context: Context, _payload: Payload<'_>) -> Result<Run, TaskFailure> {
                let barrier = self.0.clone();
                Ok(Run::blocking(move || {
                    barrier.wait();
                    Ok("null".into())
                }))
            }
        }
        let _worker =
            run(Worker::builder(broker.url()).concurrency(RUNS).register(Together(barrier)));
        let (mut session, _) = broker.welcome().await;
        // Each run needs the others: none of them waits for a thread.
        session
            .deliver((1..=u64::from(RUNS)).map(|lease| delivery(lease, "together", "[[], {}]")))
            .await;
        for (lease, report) in ends(&mut session, RUNS as usize).await {
            assert!(matches!(report, Report::Complete(_)), "{lease}: {report:?}");
        }
    });
    runtime.shutdown_background();
}
