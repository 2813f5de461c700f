//! Runs, and how they end by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use celeriac_proto::wire::{
    ErrorCode, SubmitOutcome, SubmitReply, client_frame, server_frame, submit_outcome,
};
use celeriac_worker::{Context, Handler, Payload, Run, TaskFailure, Worker, task};
use tokio::sync::{Notify, oneshot};

use crate::broker::{FakeBroker, delivery, run, within, words};

#[task]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "length")]
fn blocking_length(word: String) -> Result<usize, TaskFailure> {
    Ok(word.len())
}

#[task]
async fn nothing() {}

#[task]
async fn fail(kind: String) -> Result<(), TaskFailure> {
    match kind.as_str() {
        "final" => Err(TaskFailure::fatal("Broken", "for good")),
        "later" => Err(TaskFailure::new("Busy", "not now").retry_after(Duration::from_secs(5))),
        "panic" => panic!("the {kind} was wanted"),
        number => {
            number.parse::<u64>()?;
            Ok(())
        }
    }
}

#[task]
fn panic_while_blocking() {
    panic!("in a thread");
}

#[tokio::test]
async fn a_delivered_task_is_started_and_completed_with_its_result() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url())
        .register(add)
        .register(blocking_length)
        .register(nothing));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "add", "[[2, 3], {}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["1 complete 5"]);
    session.deliver([delivery(2, "length", "[[], {\"word\": \"word\"}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["2 complete 4"]);
    session.deliver([delivery(3, "nothing", "[[], {}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["3 complete null"]);
}

#[tokio::test]
async fn hello_says_what_the_worker_can_do() {
    let broker = FakeBroker::start().await;
    let url = broker.url().replace("celeriac://", "celeriac://s3cret@");
    let builder = Worker::builder(url).register(add).register(blocking_length);
    let _worker = run(builder
        .queue("fast")
        .queue_weighted("slow", 3)
        .concurrency(8)
        .look_ahead(4)
        .instance("one"));
    let mut session = broker.accept_hello().await;
    assert_eq!(
        (session.hello.token.as_str(), session.hello.instance_id.as_str()),
        ("s3cret", "one")
    );
    let worker = session.hello.worker.clone().expect("it is a worker");
    assert_eq!(worker.task_names, ["add", "length"]);
    assert_eq!((worker.concurrency, worker.pid), (8, std::process::id()));
    let queues: Vec<_> =
        worker.queues.iter().map(|queue| (queue.queue.as_str(), queue.weight)).collect();
    assert_eq!(queues, [("fast", 1), ("slow", 3)]);
    session.say_welcome(false, &[]).await;
    assert_eq!(session.credit().await, 12);
}

#[tokio::test]
async fn failures_say_their_kind_and_whether_to_try_again() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url()).concurrency(1).register(fail));
    let (mut session, _) = broker.welcome().await;
    for (lease, kind, expected) in [
        (1, "ten", "1 fail ParseIntError invalid digit found in string"),
        (2, "final", "2 fail Broken for good (final)"),
        (3, "later", "3 retry after Some(5000)"),
    ] {
        session.deliver([delivery(lease, "fail", &format!("[[{kind:?}], {{}}]"))]).await;
        assert_eq!(session.words_but_starts(1).await, [expected.to_owned()]);
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_with_its_message_and_the_worker_goes_on() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url())
        .concurrency(1)
        .register(fail)
        .register(panic_while_blocking)
        .register(add));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "fail", "[[\"panic\"], {}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["1 fail panic the panic was wanted"]);
    session.deliver([delivery(2, "panic_while_blocking", "[[], {}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["2 fail panic in a thread"]);
    session.deliver([delivery(3, "add", "[[2, 3], {}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["3 complete 5"]);
}

#[tokio::test]
async fn wrong_arguments_are_a_final_failure() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url()).register(add));
    let (mut session, _) = broker.welcome().await;
    for (lease, payload) in [(1, "[[2], {}]"), (2, "[[\"2\", 3], {}]"), (3, "\u{0}"), (4, "{}")] {
        session.deliver([delivery(lease, "add", payload)]).await;
        let words = session.words_but_starts(1).await;
        assert!(words[0].starts_with(&format!("{lease} fail invalid_arguments")), "{words:?}");
        assert!(words[0].ends_with("(final)"), "{words:?}");
    }
}

#[tokio::test]
async fn a_task_of_an_unknown_name_is_handed_back() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url()).register(add));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "subtract", "[[2, 3], {}]")]).await;
    assert_eq!(session.words(1).await, ["1 release"]);
}

#[tokio::test]
async fn a_result_over_the_brokers_limit_is_a_final_failure() {
    let broker = FakeBroker::start().await;
    let builder = Worker::builder(broker.url())
        .register_fn("repeat", |_, (length,): (usize,)| async move {
            Ok::<_, TaskFailure>("a".repeat(length))
        });
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "repeat", "[[998], {}]")]).await;
    assert!(session.words_but_starts(1).await[0].starts_with("1 complete"));
    session.deliver([delivery(2, "repeat", "[[999], {}]")]).await;
    let expected =
        "2 fail result_too_large the result has 1001 bytes, and 1000 are allowed (final)";
    assert_eq!(session.words_but_starts(1).await, [expected]);
}

#[tokio::test]
async fn no_more_handlers_run_at_once_than_the_concurrency_allows() {
    let broker = FakeBroker::start().await;
    let running = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(Notify::new());
    let builder = Worker::builder(broker.url()).concurrency(3).credit(10).register_fn("wait", {
        let (running, most, gate) = (running.clone(), most.clone(), gate.clone());
        move |_, ()| {
            let (running, most, gate) = (running.clone(), most.clone(), gate.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.notified().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, TaskFailure>(())
            }
        }
    });
    let _worker = run(builder);
    let (mut session, credit) = broker.welcome().await;
    assert_eq!(credit, 10);
    session.deliver((1..=10).map(|lease| delivery(lease, "wait", "[[], {}]"))).await;
    assert_eq!(session.words(3).await, ["1 started", "2 started", "3 started"]);
    for _ in 0..10 {
        gate.notify_one();
        session.reports(1).await;
    }
    gate.notify_waiters();
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_waits_behind_a_long_task_is_handed_back() {
    let broker = FakeBroker::start().await;
    let builder = Worker::builder(broker.url()).concurrency(1).register_fn("long", |_, ()| async {
        std::future::pending::<Result<(), TaskFailure>>().await
    });
    let _worker = run(builder);
    let (mut session, credit) = broker.welcome().await;
    assert_eq!(credit, 1);
    session.deliver([delivery(1, "long", "[[], {}]"), delivery(2, "long", "[[], {}]")]).await;
    assert_eq!(session.words(2).await, ["1 started", "2 release"]);
}

#[tokio::test]
async fn the_credit_grows_while_tasks_are_short() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url()).concurrency(1).register(nothing));
    let (mut session, credit) = broker.welcome().await;
    assert_eq!(credit, 1);
    session.deliver([delivery(1, "nothing", "[[], {}]")]).await;
    let mut grown = None;
    while grown.is_none() {
        match session.receive().await {
            (_, client_frame::Body::Credit(credit)) => grown = Some(credit.credit),
            (request_id, client_frame::Body::Report(report)) => {
                session
                    .answer_batch(request_id, report.reports.iter().map(|_| ErrorCode::Unspecified))
                    .await;
            }
            (_, body) => panic!("{body:?} was not expected"),
        }
    }
    assert_eq!(grown, Some(5));
}

#[tokio::test]
async fn of_fast_progress_the_newest_is_reported() {
    let broker = FakeBroker::start().await;
    let builder = Worker::builder(broker.url()).register_fn(
        "count",
        |context: Context, (to,): (u32,)| async move {
            for step in 1..=to {
                context.progress("COUNTING", &step).await?;
            }
            Ok::<_, TaskFailure>(to)
        },
    );
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "count", "[[10000], {}]")]).await;
    let mut words = Vec::new();
    while words.last().is_none_or(|word: &String| !word.contains("complete")) {
        words.extend(session.words(1).await);
    }
    assert!(words.len() <= 20, "{words:?}");
    let end = ["1 COUNTING 10000", "1 complete 10000"];
    assert_eq!(words[words.len() - 2..], end);
}

#[tokio::test]
async fn progress_reaches_the_broker_while_the_handler_runs() {
    let broker = FakeBroker::start().await;
    let builder =
        Worker::builder(broker.url()).register_fn("work", |context: Context, ()| async move {
            context.progress("HALF", &serde_json::json!({"percent": 50})).await?;
            std::future::pending::<Result<(), TaskFailure>>().await
        });
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "work", "[[], {}]")]).await;
    assert_eq!(session.words_but_starts(1).await, ["1 HALF {\"percent\":50}"]);
}

#[tokio::test]
async fn the_context_says_what_the_delivery_said() {
    let broker = FakeBroker::start().await;
    let (seen, look) = oneshot::channel();
    let seen = std::sync::Mutex::new(Some(seen));
    let builder = Worker::builder(broker.url()).register_fn("look", move |context: Context, ()| {
        let seen = seen.lock().expect("unpoisoned").take();
        async move {
            seen.expect("runs once").send(context).expect("the test listens");
            Ok::<_, TaskFailure>(())
        }
    });
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    let mut delivery = delivery(7, "look", "[[], {}]");
    delivery.shadow = "look: Dynamite".to_owned();
    delivery.attempt = 2;
    delivery.deliveries = 3;
    delivery.parent_id = "above".to_owned();
    delivery.tags = vec!["song".to_owned()];
    delivery.headers.insert("traceparent".to_owned(), "00-1".into());
    session.deliver([delivery]).await;
    let context = within(look).await.expect("it ran");
    assert_eq!(
        (context.id(), context.name(), context.shadow()),
        ("task-7", "look", "look: Dynamite")
    );
    assert_eq!((context.attempt(), context.attempts_max(), context.deliveries()), (2, 4, 3));
    assert_eq!((context.root_id(), context.parent_id()), ("task-7", "above"));
    assert_eq!(context.tags(), ["song"]);
    assert_eq!(context.headers()["traceparent"], "00-1");
    assert!(!context.is_cancelled() && !context.is_last_attempt());
    assert_eq!(session.words_but_starts(1).await, ["7 complete null"]);
}

#[tokio::test]
async fn a_task_submitted_by_a_handler_names_its_root_and_parent() {
    let broker = FakeBroker::start().await;
    let builder =
        Worker::builder(broker.url()).register_fn("submit", |context: Context, ()| async move {
            let handle = context.delay(&add, (1, 2)).await?;
            Ok::<_, TaskFailure>(handle.id().to_owned())
        });
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    let mut delivery = delivery(1, "submit", "[[], {}]");
    delivery.root_id = "top".to_owned();
    session.deliver([delivery]).await;
    // The start may be reported before or after.
    let (request_id, submit) = loop {
        match session.receive().await {
            (request_id, client_frame::Body::Submit(submit)) => break (request_id, submit),
            (request_id, _) => session.answer_batch(request_id, [ErrorCode::Unspecified]).await,
        }
    };
    let task = &submit.tasks[0];
    assert_eq!(
        (task.name.as_str(), task.root_id.as_str(), task.parent_id.as_str()),
        ("add", "top", "task-1")
    );
    let created =
        SubmitOutcome { kind: submit_outcome::Kind::Created.into(), ..SubmitOutcome::default() };
    session
        .answer(
            request_id,
            server_frame::Body::SubmitReply(SubmitReply { outcomes: vec![created] }),
        )
        .await;
    let (_, reports) = session.batch_with_end().await;
    assert_eq!(words(&reports).last(), Some(&format!("1 complete {:?}", task.id)));
}

struct Raw;

impl Handler for Raw {
    fn name(&self) -> &str {
        "raw"
    }

    fn start(&self, _context: Context, payload: Payload<'_>) -> Result<Run, TaskFailure> {
        let text = format!("\"{} bytes of {}\"", payload.bytes().len(), payload.content_type());
        Ok(Run::future(async move { Ok(text.into()) }))
    }
}

#[tokio::test]
async fn a_handler_of_its_own_reads_other_payloads() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url()).register(Raw));
    let (mut session, _) = broker.welcome().await;
    let mut delivery = delivery(1, "raw", "abc");
    delivery.content_type = "image/png".to_owned();
    session.deliver([delivery]).await;
    assert_eq!(session.words_but_starts(1).await, ["1 complete \"3 bytes of image/png\""]);
}

#[tokio::test]
async fn a_report_that_the_broker_could_not_take_is_sent_again() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url()).register(add));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "add", "[[2, 3], {}]")]).await;
    let batch = session.batch_with_end().await;
    session.answer_end(batch, ErrorCode::Overloaded).await;
    assert_eq!(session.words(1).await, ["1 complete 5"]);
}

#[tokio::test]
async fn an_end_that_the_broker_refuses_is_replaced_by_a_rejection() {
    let broker = FakeBroker::start().await;
    let _worker = run(Worker::builder(broker.url()).register(add));
    let (mut session, _) = broker.welcome().await;
    session.deliver([delivery(1, "add", "[[2, 3], {}]")]).await;
    let batch = session.batch_with_end().await;
    session.answer_end(batch, ErrorCode::InvalidArgument).await;
    assert_eq!(session.words(1).await, ["1 reject report_refused"]);
}
