//! Middleware that wraps runs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::Error;
use celeriac_proto::wire::cancel_signal::Kind as SignalKind;
use celeriac_proto::wire::{CancelSignal, server_frame};
use celeriac_worker::{Context, Middleware, Run, TaskFailure, Worker, WorkerBuilder, task};
use tokio::sync::Semaphore;

use crate::broker::{FakeBroker, delivery, run, within};

#[task]
async fn shout(word: String) -> String {
    word.to_uppercase()
}

#[task]
fn shout_blocking(word: String) -> String {
    word.to_uppercase()
}

#[task]
fn block_until_cancelled(context: &Context) {
    while !context.is_cancelled() {
        std::thread::yield_now();
    }
}

fn shouting(url: &str) -> WorkerBuilder {
    Worker::builder(url)
        .concurrency(1)
        .register(shout)
        .register(shout_blocking)
        .register(block_until_cancelled)
}

/// Writes its name around each result.
struct Brackets(&'static str);

impl Middleware for Brackets {
    fn around(&self, _context: &Context, run: Run) -> Result<Run, TaskFailure> {
        let name = self.0;
        Ok(Run::future(async move {
            tokio::task::yield_now().await;
            let inner = run.await?;
            let text = String::from_utf8_lossy(&inner);
            Ok(format!("{{{name:?}:{text}}}").into())
        }))
    }
}

/// Lets some tasks run, at once or after a while.
struct Guard;

impl Middleware for Guard {
    fn around(&self, context: &Context, run: Run) -> Result<Run, TaskFailure> {
        match context.id() {
            "task-1" => Err(TaskFailure::fatal("Forbidden", "not this one")),
            "task-2" => {
                Err(TaskFailure::new("Later", "not now").retry_after(Duration::from_secs(5)))
            }
            "task-3" => panic!("neither this nor that"),
            "task-4" => Ok(Run::blocking(|| Ok("\"in place of it\"".into()))),
            "task-5" => {
                Ok(Run::future(async { Err(TaskFailure::fatal("Refused", "after some thought")) }))
            }
            _ => Ok(run),
        }
    }
}

#[tokio::test]
async fn what_is_around_a_run_sees_its_outcome_and_the_first_added_is_the_outermost() {
    let broker = FakeBroker::start().await;
    let around = |name| Arc::new(Brackets(name));
    let _worker = run(shouting(&broker.url()).middleware(around("a")).middleware(around("b")));
    let (mut session, _) = broker.welcome().await;
    for (lease, name) in [(1, "shout"), (2, "shout_blocking")] {
        session.deliver([delivery(lease, name, "[[\"hey\"], {}]")]).await;
        let expected = format!("{lease} complete {{\"a\":{{\"b\":\"HEY\"}}}}");
        assert_eq!(session.words_but_starts(1).await, [expected]);
    }
}

#[tokio::test]
async fn a_run_can_be_refused_or_replaced_before_it_begins() {
    let broker = FakeBroker::start().await;
    let _worker = run(shouting(&broker.url()).middleware(Arc::new(Guard)));
    let (mut session, _) = broker.welcome().await;
    for (lease, expected) in [
        (1, "1 fail Forbidden not this one (final)"),
        (2, "2 retry after Some(5000)"),
        (3, "3 fail panic neither this nor that"),
        (4, "4 complete \"in place of it\""),
        (5, "5 fail Refused after some thought (final)"),
        (6, "6 complete \"HEY\""),
    ] {
        for (name, lease) in [("shout", lease), ("shout_blocking", lease + 10)] {
            let mut task = delivery(lease, name, "[[\"hey\"], {}]");
            task.id = format!("task-{}", lease % 10);
            session.deliver([task]).await;
            let words = session.words_but_starts(1).await;
            assert_eq!(words, [format!("{lease}{}", &expected[1..])]);
        }
    }
}

#[tokio::test]
async fn a_blocking_handler_with_something_around_it_keeps_its_execution_until_it_returns() {
    let broker = FakeBroker::start().await;
    let _worker = run(shouting(&broker.url()).credit(5).middleware(Arc::new(Brackets("a"))));
    let (mut session, _) = broker.welcome().await;
    let mut limited = delivery(1, "block_until_cancelled", "[[], {}]");
    limited.time_limit_ms = Some(1);
    session.deliver([limited, delivery(2, "block_until_cancelled", "[[], {}]")]).await;
    // The end of the first and the start of the second may come in one batch.
    let mut words = Vec::new();
    while !words.iter().any(|word| word == "2 started") {
        words.extend(session.words(1).await);
    }
    assert!(words.iter().any(|word: &String| word.starts_with("1 fail time_limit")), "{words:?}");
    session.deliver([delivery(3, "shout", "[[\"hey\"], {}]")]).await;
    let signal =
        CancelSignal { leases: vec![2], kind: SignalKind::Force.into(), reason: "test".to_owned() };
    session.push(server_frame::Body::CancelSignal(signal)).await;
    assert_eq!(session.words_but_starts(2).await, ["2 release", "3 complete {\"a\":\"HEY\"}"]);
}

/// Keeps the runs and never begins them.
struct Keeper(Mutex<Vec<Run>>);

impl Middleware for Keeper {
    fn around(&self, _context: &Context, run: Run) -> Result<Run, TaskFailure> {
        self.0.lock().expect("nothing panics with this lock").push(run);
        Ok(Run::future(async { Ok("0".into()) }))
    }
}

#[tokio::test]
async fn a_run_that_a_middleware_keeps_occupies_no_execution_and_never_begins() {
    let broker = FakeBroker::start().await;
    let keeper = Arc::new(Keeper(Mutex::default()));
    let _worker = run(shouting(&broker.url()).middleware(keeper.clone()));
    let (mut session, _) = broker.welcome().await;
    for (lease, name) in [(1, "shout_blocking"), (2, "shout"), (3, "shout_blocking"), (4, "shout")]
    {
        session.deliver([delivery(lease, name, "[[\"hey\"], {}]")]).await;
        assert_eq!(session.words_but_starts(1).await, [format!("{lease} complete 0")]);
    }
    let kept = keeper.0.lock().expect("nothing panics with this lock").swap_remove(0);
    let failure = within(kept).await.expect_err("its task has ended");
    assert_eq!(failure.kind(), "dropped");
}

static RUNNING: AtomicU32 = AtomicU32::new(0);
static MOST: AtomicU32 = AtomicU32::new(0);

#[task]
fn lasting(context: &Context) {
    MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    while !context.is_cancelled() {
        std::thread::yield_now();
    }
    // Longer than the start of the next run takes.
    std::thread::sleep(Duration::from_millis(30));
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}

/// Waits for a run on a thread, and not for long.
struct Impatient;

impl Middleware for Impatient {
    fn around(&self, _context: &Context, run: Run) -> Result<Run, TaskFailure> {
        let runtime = tokio::runtime::Handle::current();
        Ok(Run::blocking(move || {
            let run = runtime
                .block_on(async { tokio::time::timeout(Duration::from_millis(20), run).await });
            run.unwrap_or_else(|_| Ok("\"too long\"".into()))
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_run_within_a_blocking_run_keeps_its_execution_until_it_returns() {
    const TASKS: u64 = 6;
    let broker = FakeBroker::start().await;
    let _worker =
        run(shouting(&broker.url()).credit(10).register(lasting).middleware(Arc::new(Impatient)));
    let (mut session, _) = broker.welcome().await;
    session.deliver((1..=TASKS).map(|lease| delivery(lease, "lasting", "[[], {}]"))).await;
    let words = session.words_but_starts(TASKS as usize).await;
    assert!(words.iter().all(|word| word.ends_with("complete \"too long\"")), "{words:?}");
    assert_eq!(MOST.load(Ordering::SeqCst), 1);
}

/// Counts the runs inside.
struct Gate {
    permits: Arc<Semaphore>,
    most: Arc<AtomicU32>,
}

impl Middleware for Gate {
    fn around(&self, _context: &Context, run: Run) -> Result<Run, TaskFailure> {
        let (permits, most) = (self.permits.clone(), self.most.clone());
        Ok(Run::future(async move {
            let _permit =
                permits.acquire().await.map_err(|_| TaskFailure::new("Closed", "closed"))?;
            most.fetch_max(2 - permits.available_permits() as u32, Ordering::SeqCst);
            run.await
        }))
    }
}

#[tokio::test]
async fn eager_mode_has_the_middleware_around_too() {
    let (permits, most) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicU32::new(0)));
    let gate = Gate { permits: permits.clone(), most: most.clone() };
    let client = shouting("celeriac://unused").middleware(Arc::new(gate)).eager();
    let handle = within(client.delay(&shout, ("hey".to_owned(),))).await.expect("submitted");
    assert_eq!(handle.get(Duration::from_secs(20)).await.expect("its value"), "HEY");
    assert_eq!((most.load(Ordering::SeqCst), permits.available_permits()), (1, 2));
    permits.close();
    let once = client.apply_async(&shout_blocking, ("hey".to_owned(),)).send();
    let error = within(once).await.expect("submitted").get(Duration::from_secs(20)).await;
    assert!(
        matches!(error, Err(Error::TaskFailed { ref kind, .. }) if kind == "Closed"),
        "{error:?}"
    );
}
