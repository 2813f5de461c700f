//! The setup of a worker: shared data for its handlers, and faults that keep it from starting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_client::Error;
use celeriac_worker::{Context, Data, Handler, RunError, TaskFailure, Worker, WorkerBuilder, task};

use crate::broker::{FakeBroker, delivery, run, within};

#[derive(Default)]
struct Counter(AtomicU64);

struct Settings {
    step: u64,
}

/// Takes everything that a function may take, by value and by reference.
#[task]
async fn count(
    context: &Context,
    settings: &Data<Settings>,
    times: u64,
    counter: Data<Counter>,
) -> (String, u64) {
    let before = counter.0.fetch_add(settings.step * times, Ordering::Relaxed);
    (context.id().to_owned(), before)
}

#[task]
fn count_blocking(counter: Data<Counter>, times: u64) -> u64 {
    counter.0.fetch_add(times, Ordering::Relaxed)
}

#[task(name = "count")]
async fn another_count() {}

fn counting(url: &str) -> WorkerBuilder {
    Worker::builder(url).concurrency(1).register(count).register(count_blocking)
}

#[tokio::test]
async fn handlers_share_the_data_that_the_worker_was_given() {
    let broker = FakeBroker::start().await;
    let builder = counting(&broker.url()).data(Counter::default()).data(Settings { step: 10 });
    let builder = builder.register_fn("look", |context: Context, ()| async move {
        let counter =
            context.data::<Counter>().ok_or(TaskFailure::fatal("NoCounter", "it was given"))?;
        assert!(context.data::<String>().is_none());
        Ok::<_, TaskFailure>(counter.0.load(Ordering::Relaxed))
    });
    let _worker = run(builder);
    let (mut session, _) = broker.welcome().await;
    for (lease, name, payload, expected) in [
        (1, "count", "[[2], {}]", "1 complete [\"task-1\",0]"),
        (2, "count", "[[], {\"times\": 1}]", "2 complete [\"task-2\",20]"),
        (3, "count_blocking", "[[5], {}]", "3 complete 30"),
        (4, "look", "[[], {}]", "4 complete 35"),
    ] {
        session.deliver([delivery(lease, name, payload)]).await;
        assert_eq!(session.words_but_starts(1).await, [expected]);
    }
}

#[tokio::test]
async fn handlers_share_data_in_eager_mode_too() {
    let client =
        counting("celeriac://unused").data(Counter::default()).data(Settings { step: 1 }).eager();
    for expected in [0, 3] {
        let handle = within(client.delay(&count_blocking, (3,))).await.expect("submitted");
        assert_eq!(handle.get(Duration::from_secs(20)).await.expect("its value"), expected);
    }
    let (context, settings) = (Context::detached("here"), Data::new(Settings { step: 1 }));
    assert_eq!(
        count::run(&context, &settings, 1, Data::new(Counter::default())).await,
        ("here".to_owned(), 0)
    );
}

/// The worker fails before it connects.
async fn refusal(builder: WorkerBuilder) -> String {
    let error =
        within(builder.build().run(std::future::pending())).await.expect_err("it must not start");
    assert!(matches!(error, RunError::Setup(_)) && !error.is_retryable(), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_worker_that_lacks_data_does_not_start_and_names_task_and_type() {
    let refusal = refusal(counting("celeriac://127.0.0.1:1").data(Counter::default())).await;
    assert!(refusal.contains("`count`") && refusal.contains("Settings"), "{refusal}");
    assert!(refusal.contains("WorkerBuilder::data"), "{refusal}");
}

#[tokio::test]
async fn two_handlers_of_one_name_are_refused_at_the_start() {
    let with_data =
        || counting("celeriac://127.0.0.1:1").data(Counter::default()).data(Settings { step: 1 });
    let refusal_of_handlers = refusal(with_data().register(another_count)).await;
    assert!(
        refusal_of_handlers.contains("two handlers") && refusal_of_handlers.contains("`count`"),
        "{refusal_of_handlers}"
    );
    let closure = with_data().register_fn("count", |_, ()| async { Ok::<_, TaskFailure>(()) });
    assert_eq!(refusal(closure).await, refusal_of_handlers);
    let refusal_of_data = refusal(with_data().data(Settings { step: 2 })).await;
    assert!(
        refusal_of_data.contains("two values") && refusal_of_data.contains("Settings"),
        "{refusal_of_data}"
    );
}

#[tokio::test]
#[should_panic(expected = "two handlers are registered for the task `count`")]
async fn an_eager_client_of_a_worker_that_cannot_start_is_refused_too() {
    let _ = Worker::builder("celeriac://unused")
        .register(another_count)
        .register(another_count)
        .eager();
}

#[tokio::test]
async fn a_task_that_takes_data_is_submitted_without_it() {
    fn arguments<A>(_: &impl celeriac_worker::TaskDefinition<Args = A>) -> &'static str {
        std::any::type_name::<A>()
    }
    assert_eq!(arguments(&count), "(u64,)");
    assert_eq!(Handler::data(&count).len(), 2);
    assert_eq!(Handler::data(&another_count), []);
    let client =
        counting("celeriac://unused").data(Counter::default()).data(Settings { step: 1 }).eager();
    let wrong = celeriac_worker::Task::<(u64, u64), u64>::new("count");
    let error = within(client.delay(&wrong, (1, 2)))
        .await
        .expect("submitted")
        .get(Duration::from_secs(20))
        .await;
    assert!(
        matches!(error, Err(Error::TaskFailed { ref kind, .. }) if kind == "invalid_arguments"),
        "{error:?}"
    );
}
