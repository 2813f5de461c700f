//! Promise 6.

use super::*;

fn urgent(id: &str) -> wire::Task {
    wire::Task { priority: Some(9), ..task(id) }
}

fn in_order() -> Script {
    let mut script = Script::new();
    script.push(0, Event::InOrder { queue: "q".into() });
    script
}

#[test]
fn a_task_that_overtakes_is_found() {
    let mut script = in_order();
    script.created(task("a")).created(task("b")).deliver(WORKER, "b", 1).deliver(WORKER, "a", 2);
    script.breaks(6, "b: delivered before a");
}

#[test]
fn other_queues_promise_less() {
    let mut script = Script::new();
    script.created(task("a")).created(task("b")).deliver(WORKER, "b", 1).deliver(WORKER, "a", 2);
    script.is_good();
}

#[test]
fn a_task_that_waits_for_its_time_keeps_no_place() {
    let mut script = in_order();
    script.created(wire::Task { countdown_ms: Some(0), ..task("a") }).created(task("b"));
    script.deliver(WORKER, "b", 1).deliver(WORKER, "a", 2);
    script.is_good();
}

#[test]
fn a_task_that_was_out_before_keeps_no_place() {
    let mut script = in_order();
    script.created(task("a")).created(task("b")).deliver(WORKER, "b", 2);
    script.deliver_as(WORKER, wire::Delivery { deliveries: 2, ..delivery("a", 3) });
    script.is_good();
}

#[test]
fn what_was_handed_back_ends_the_order() {
    let mut script = in_order();
    script.created(task("c")).created(task("a")).created(task("b")).deliver(WORKER, "c", 1);
    script.accepted(WORKER, "c", 1, release()).deliver(WORKER, "b", 2).deliver(WORKER, "a", 3);
    script.is_good();
}

#[test]
fn an_urgent_task_that_is_passed_over_is_found() {
    let mut script = in_order();
    script.created(urgent("urgent")).created(task("a")).deliver(WORKER, "a", 1);
    script.deliver_as(WORKER, wire::Delivery { priority: 9, ..delivery("urgent", 2) });
    script.breaks(6, "a: delivered before urgent");
}

#[test]
fn an_urgent_task_that_came_too_late_is_not_passed_over() {
    let mut script = in_order();
    script.created(task("a")).created(urgent("urgent")).deliver(WORKER, "a", 1);
    script.deliver_as(WORKER, wire::Delivery { priority: 9, ..delivery("urgent", 2) });
    script.is_good();
}
