//! Submissions as messages: payloads, checks, defaults.

use super::*;
use crate::options::TaskOptions;

fn made(submission: Submission) -> Result<wire::Task, Refusal> {
    submission.into_checked(None, 100).map(|checked| *checked.task)
}

fn payload(submission: Submission) -> String {
    String::from_utf8(made(submission).expect("a good submission").payload.to_vec())
        .expect("JSON is text")
}

fn refusal(submission: Submission) -> String {
    made(submission).expect_err("a bad submission").to_string()
}

#[test]
fn arguments_travel_as_a_list_and_an_object() {
    assert_eq!(payload(Submission::new("a")), "[[],{}]");
    assert_eq!(payload(Submission::new("a").args(())), "[[],{}]");
    assert_eq!(payload(Submission::new("a").args(("x", 1))), r#"[["x",1],{}]"#);
    assert_eq!(payload(Submission::new("a").args(vec![1]).kwarg("b", true)), r#"[[1],{"b":true}]"#);
    assert_eq!(
        payload(Submission::new("a").kwargs(serde_json::json!({"c": null}))),
        r#"[[],{"c":null}]"#
    );
}

#[test]
fn one_argument_that_is_no_tuple_is_refused_with_advice() {
    assert!(refusal(Submission::new("a").args("x")).contains("`(value,)`"));
    assert!(refusal(Submission::new("a").kwargs([1])).contains("not an object"));
}

#[test]
fn empty_and_overlong_names_and_ids_are_refused_before_they_are_sent() {
    assert!(refusal(Submission::new("")).contains("task name must not be empty"));
    assert!(refusal(Submission::new("n".repeat(256))).contains("at most 255"));
    assert!(refusal(Submission::new("a").task_id("")).contains("task id must not be empty"));
    assert!(refusal(Submission::new("a").task_id("ä".repeat(128))).contains("at most 255"));
    assert!(refusal(Submission::new("a").queue("")).contains("queue name"));
    assert!(refusal(Submission::new("a").priority(10)).contains("0 to 9"));
}

#[test]
fn a_payload_over_the_brokers_limit_is_refused_before_it_is_sent() {
    let refused =
        made(Submission::new("a").payload(vec![0; 101], "image/png")).expect_err("too large");
    assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
    made(Submission::new("a").payload(vec![0; 100], "image/png")).expect("just fits");
}

#[test]
fn the_callers_options_win_over_the_definitions_defaults() {
    let defaults = TaskOptions {
        queue: Some("songs"),
        priority: Some(7),
        early_ack: true,
        ..TaskOptions::new()
    };
    let task =
        made(Submission::new("a").priority(1).defaults(defaults)).expect("a good submission");
    assert_eq!((task.queue.as_str(), task.priority, task.early_ack), ("songs", Some(1), true));
}

#[test]
fn a_clone_of_a_submission_means_the_same_task() {
    let submission = Submission::new("a");
    assert_eq!(submission.clone().id(), submission.id());
    assert_ne!(Submission::new("a").id(), submission.id());
}

#[test]
fn lineage_fills_the_ids_that_the_caller_left_open() {
    let lineage = Arc::new(Lineage { root_id: "root".into(), parent_id: "parent".into() });
    let CheckedTask { task, .. } =
        Submission::new("a").parent_id("other").into_checked(Some(&lineage), 100).expect("good");
    assert_eq!((task.root_id.as_str(), task.parent_id.as_str()), ("root", "other"));
}
