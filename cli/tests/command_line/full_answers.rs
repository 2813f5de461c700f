//! Many failed tasks with long errors: every command shows all of them.

use std::time::Duration;

use celeriac_client::{Client, RetryPolicy, Submission};
use celeriac_proto::limits::ERROR_TEXT_BYTES_MAX;
use celeriac_proto::wire::{self, task_report::Report};
use tempfile::TempDir;

use crate::process::{Broker, documents};
use crate::worker::Worker;

const TASKS: usize = 110;

/// Tasks that are dead after five failures. Each failure has a message and a traceback of the
/// greatest length.
fn with_dead_tasks() -> (Broker, TempDir, Vec<String>) {
    let data = TempDir::new().expect("a folder");
    let broker = Broker::start(data.path(), &[]);
    let ids: Vec<String> = (0..TASKS).map(|number| format!("dead-{number:03}")).collect();
    let retry = RetryPolicy::fixed(Duration::ZERO).max_attempts(5);
    let submissions: Vec<_> =
        ids.iter().map(|id| Submission::new("broken").task_id(id).retry(retry)).collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    runtime.block_on(async {
        let client =
            Client::connect(&format!("celeriac://{}", broker.address)).await.expect("connected");
        let outcomes = client.submit_many(submissions).await.expect("answered");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        client.close().await;
    });
    let mut worker = Worker::connect(&broker, "broken");
    let text = "x".repeat(ERROR_TEXT_BYTES_MAX);
    for _ in 0..5 * TASKS {
        let delivery = worker.receive();
        let error = wire::TaskError {
            message: text.clone(),
            traceback: text.clone(),
            ..Default::default()
        };
        worker.report(
            &delivery,
            Report::Fail(wire::Fail { error: Some(error), r#final: false, ..Default::default() }),
        );
    }
    (broker, data, ids)
}

#[test]
fn listings_status_and_watch_show_all_of_many_tasks_with_long_errors() {
    let (broker, _data, ids) = with_dead_tasks();
    let status: Vec<&str> =
        ["status", "--json"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let watch: Vec<&str> =
        ["watch", "--json"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    for (arguments, with_tracebacks) in [
        (["dead", "list", "--all", "--json"].as_slice(), false),
        (&["tasks", "--all", "--json"], false),
        (&["tasks", "--all", "--json", "--tracebacks"], true),
        (&status, true),
        (&watch, true),
    ] {
        let output = broker.run(arguments);
        let tasks = documents(&output.stdout);
        let mut shown: Vec<_> =
            tasks.iter().map(|task| task["id"].as_str().expect("an id")).collect();
        shown.sort_unstable();
        assert!(
            shown.iter().eq(&ids),
            "{:?}: {} shown, {}",
            &arguments[..2],
            shown.len(),
            output.stderr
        );
        for task in &tasks {
            let errors = task["errors"].as_array().expect("errors");
            assert_eq!(errors.len(), 5);
            let traceback = errors[0]["traceback"].as_str().unwrap_or_default();
            assert_eq!(
                traceback.len() == ERROR_TEXT_BYTES_MAX,
                with_tracebacks,
                "{:?}",
                &arguments[..2]
            );
        }
    }
    let table = broker.run(&["dead", "list", "--all"]);
    assert_eq!(
        (table.code, table.stdout.lines().count()),
        (Some(0), TASKS + 1),
        "{}",
        table.stderr
    );
}
