//! The expansion of `#[task]`, as the user's program sees it.

use std::time::Duration;

use celeriac_worker::{Context, Handler, TaskDefinition, TaskFailure, task};

/// The documentation stays with the task.
#[task(
    name = "songs.preprocess",
    queue = "songs",
    max_attempts = 3,
    retry_delay = "2s",
    backoff = "fixed",
    jitter = "full",
    soft_time_limit = "9m",
    time_limit = "10m",
    priority = 7,
    expires = "1d",
    result_ttl = "1h",
    max_deliveries = 5,
    early_ack
)]
pub(crate) async fn preprocess(
    context: &Context,
    title: String,
    mut limit: Option<u32>,
) -> Result<String, TaskFailure> {
    let limit = limit.get_or_insert(3);
    Ok(format!("{title} {limit} {}", context.id()))
}

#[task]
fn plain((left, right): (u8, u8)) -> u8 {
    left + right
}

mod inner {
    use celeriac_worker::task;

    #[task]
    pub(super) async fn alias() -> std::io::Result<Vec<u8>> {
        Ok(vec![1])
    }
}

#[test]
fn attributes_become_the_defaults_of_the_definition() {
    assert_eq!(TaskDefinition::name(&preprocess), "songs.preprocess");
    let options = preprocess.defaults();
    assert_eq!(options.queue, Some("songs"));
    assert_eq!(options.priority, Some(7));
    assert_eq!(options.soft_time_limit, Some(Duration::from_secs(540)));
    assert_eq!(options.time_limit, Some(Duration::from_secs(600)));
    assert_eq!(options.expires_in, Some(Duration::from_secs(86_400)));
    assert_eq!(options.result_ttl, Some(Duration::from_secs(3_600)));
    assert_eq!(options.max_deliveries, Some(5));
    assert!(options.early_ack);
    let policy = celeriac_client::RetryPolicy::fixed(Duration::from_secs(2))
        .max_attempts(3)
        .jitter(celeriac_client::Jitter::Full);
    assert_eq!(options.retry, Some(policy));
    assert_eq!(Handler::queue(&preprocess).as_deref(), Some("songs"));
}

#[test]
fn what_is_not_written_is_left_to_the_broker() {
    assert_eq!(TaskDefinition::name(&plain), "plain");
    assert_eq!(plain.defaults(), celeriac_worker::TaskOptions::new());
    assert_eq!(Handler::queue(&plain), None);
}

#[test]
fn arguments_and_output_have_the_types_of_the_function() {
    fn types<A: 'static, R: 'static>(
        _: &impl TaskDefinition<Args = A, Output = R>,
    ) -> (&'static str, &'static str) {
        (std::any::type_name::<A>(), std::any::type_name::<R>())
    }
    assert_eq!(
        types(&preprocess),
        types(&celeriac_worker::Task::<(String, Option<u32>), String>::new(""))
    );
    assert_eq!(types(&plain), types(&celeriac_worker::Task::<((u8, u8),), u8>::new("")));
    assert_eq!(types(&inner::alias), types(&celeriac_worker::Task::<(), Vec<u8>>::new("")));
}

#[tokio::test]
async fn the_body_is_tested_without_a_broker() {
    let context = Context::detached("test");
    assert_eq!(
        preprocess::run(&context, "Dynamite".to_owned(), None).await,
        Ok("Dynamite 3 test".to_owned())
    );
    assert_eq!(plain::run((1, 2)), 3);
    context.progress("HALF", &50).await.expect("it goes nowhere");
    assert!(context.progress("s".repeat(256).as_str(), &()).await.is_err());
    assert!(context.progress_blocking("HALF", &"a".repeat(70_000)).is_err());
}
