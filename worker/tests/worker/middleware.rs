//! Hooks around runs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_client::Error;
use celeriac_proto::wire::cancel_signal::Kind as SignalKind;
use celeriac_proto::wire::task_report::Report;
use celeriac_proto::wire::{self, CancelSignal, ErrorCode, server_frame};
use celeriac_worker::{Context, Middleware, RunError, TaskFailure, Worker, task};

use crate::broker::{FakeBroker, delivery, run, within};

#[task]
async fn fail(kind: String) -> Result<(), TaskFailure> {
    match kind.as_str() {
        "not" => Ok(()),
        "final" => Err(TaskFailure::fatal("Broken", "for good")),
        "panic" => panic!("wanted"),
        "hang" => std::future::pending().await,
        "no room" => Err(TaskFailure::hand_back("System", "no room")),
        _ => Err(TaskFailure::new("Busy", "not now")),
    }
}

/// Records every call.
struct Notes {
    name: &'static str,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Notes {
    fn note(&self, context: &Context, what: &str) {
        self.lines.lock().expect("unpoisoned").push(format!(
            "{} {} {what}",
            self.name,
            context.id()
        ));
    }
}

impl Middleware for Notes {
    fn before(&self, context: &Context) {
        self.note(context, "before");
    }

    fn after_success(&self, context: &Context, _elapsed: Duration) {
        self.note(context, "success");
    }

    fn after_failure(&self, context: &Context, failure: &TaskFailure, _elapsed: Duration) {
        self.note(context, &format!("failure {}", failure.kind()));
    }

    fn after_retry(&self, context: &Context, failure: &TaskFailure, _elapsed: Duration) {
        self.note(context, &format!("retry {}", failure.kind()));
    }

    fn after_drop(&self, context: &Context, _elapsed: Duration) {
        self.note(context, &format!("drop {:?}", context.dropped()));
    }

    fn after(&self, context: &Context, _elapsed: Duration) {
        self.note(context, "after");
    }
}

/// Panics at every call.
struct Panicking;

impl Middleware for Panicking {
    fn before(&self, _context: &Context) {
        panic!("before");
    }

    fn after(&self, _context: &Context, _elapsed: Duration) {
        panic!("after");
    }
}

#[tokio::test]
async fn middleware_is_told_of_every_run_and_how_it_ended_before_the_broker_is() {
    let broker = FakeBroker::start().await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::new(Notes { name: "a", lines: lines.clone() });
    let _worker =
        run(Worker::builder(broker.url()).concurrency(1).register(fail).middleware(notes));
    let (mut session, _) = broker.welcome().await;
    let cases = [
        ("[\"not\"]", "success"),
        ("[\"final\"]", "failure Broken"),
        ("[\"busy\"]", "retry Busy"),
        ("[\"panic\"]", "retry panic"),
        ("[7]", "failure invalid_arguments"),
    ];
    for (lease, (arguments, expected)) in (1..).zip(cases) {
        session.deliver([delivery(lease, "fail", &format!("[{arguments}, {{}}]"))]).await;
        session.words_but_starts(1).await;
        let told = std::mem::take(&mut *lines.lock().expect("unpoisoned"));
        let expected = ["before", expected, "after"].map(|what| format!("a task-{lease} {what}"));
        assert_eq!(told, expected);
    }
    let mut last = delivery(6, "fail", "[[\"busy\"], {}]");
    last.attempt = last.attempts_max;
    session.deliver([last]).await;
    session.words_but_starts(1).await;
    assert_eq!(lines.lock().expect("unpoisoned")[1], "a task-6 failure Busy");
    lines.lock().expect("unpoisoned").clear();

    session.deliver([delivery(7, "fail", "[[\"hang\"], {}]")]).await;
    session.reports(1).await;
    let force =
        CancelSignal { leases: vec![7], kind: SignalKind::Force.into(), reason: "test".to_owned() };
    session.push(server_frame::Body::CancelSignal(force)).await;
    assert_eq!(session.words(1).await, ["7 release"]);
    assert_eq!(
        *lines.lock().expect("unpoisoned"),
        ["a task-7 before", "a task-7 drop Some(Cancelled)", "a task-7 after"]
    );
}

#[tokio::test]
async fn the_hook_of_a_dropped_run_knows_why_it_was_dropped() {
    let broker = FakeBroker::start().await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::new(Notes { name: "a", lines: lines.clone() });
    let mut worker = run(Worker::builder(broker.url())
        .concurrency(1)
        .register(fail)
        .middleware(notes)
        .shutdown_grace(Duration::ZERO));
    let (mut session, _) = broker.welcome().await;
    for (lease, (kind, reason)) in
        (1..).zip([(SignalKind::TimeLimit, "TimeLimit"), (SignalKind::TakenBack, "Lost")])
    {
        session.deliver([delivery(lease, "fail", "[[\"hang\"], {}]")]).await;
        session.reports(1).await;
        let signal = CancelSignal { leases: vec![lease], kind: kind.into(), ..Default::default() };
        session.push(server_frame::Body::CancelSignal(signal)).await;
        let expected = format!("a task-{lease} drop Some({reason})");
        within(async {
            while !lines.lock().expect("unpoisoned").contains(&expected) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // A task that the worker cannot run now is handed back, and no attempt is counted.
    session.deliver([delivery(3, "fail", "[[\"no room\"], {}]")]).await;
    let report = loop {
        match session.reports(1).await.pop().expect("one").report {
            Some(Report::Started(_)) => {}
            report => break report,
        }
    };
    assert!(matches!(report, Some(Report::Release(release)) if release.not_begun), "{report:?}");
    let handed_back = "a task-3 drop Some(HandedBack)".to_owned();
    assert!(lines.lock().expect("unpoisoned").contains(&handed_back));
    worker.shut_down();
}

#[tokio::test]
async fn a_worker_that_is_refused_tells_its_hooks_before_it_ends() {
    let broker = FakeBroker::start().await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::new(Notes { name: "a", lines: lines.clone() });
    let worker = run(Worker::builder(broker.url()).concurrency(1).register(fail).middleware(notes));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "fail", "[[\"hang\"], {}]")]).await;
    session.reports(1).await;
    drop(session);
    let mut again = broker.accept_hello().await;
    let error = wire::Error { code: ErrorCode::Unauthenticated.into(), ..Default::default() };
    again.answer(1, server_frame::Body::Error(error)).await;
    let ended = worker.ended().await;
    assert!(matches!(ended, Err(RunError::Connection(Error::Handshake { .. }))), "{ended:?}");
    assert_eq!(
        *lines.lock().expect("unpoisoned"),
        ["a task-1 before", "a task-1 drop Some(Refused)", "a task-1 after"]
    );
}

#[tokio::test]
async fn several_middlewares_are_called_in_order_and_one_that_panics_harms_nobody() {
    let broker = FakeBroker::start().await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let notes = |name| Arc::new(Notes { name, lines: lines.clone() });
    let builder = Worker::builder(broker.url()).concurrency(1).register(fail);
    let _worker =
        run(builder.middleware(notes("a")).middleware(Arc::new(Panicking)).middleware(notes("b")));
    let (mut session, _) = broker.welcome().await;
    for lease in 1..=2 {
        session.deliver([delivery(lease, "fail", "[[\"not\"], {}]")]).await;
        assert_eq!(session.words_but_starts(1).await, [format!("{lease} complete null")]);
        let told = std::mem::take(&mut *lines.lock().expect("unpoisoned"));
        let expected = ["a before", "b before", "a success", "b success", "a after", "b after"];
        let expected = expected.map(|line| line.replace(' ', &format!(" task-{lease} ")));
        assert_eq!(told, expected);
    }
}
