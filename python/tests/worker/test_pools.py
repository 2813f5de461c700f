"""What every pool does with a task: its result, its failure, its progress, its limits."""

from __future__ import annotations

import os
import time

import handlers
import pytest
from observing import wait_for_state

from celeriac import CancelKind, State, TaskFailed, TaskRevoked, TaskUnknown

POOLS = ("threads", "asyncio", "processes")


@pytest.fixture(params=POOLS)
def pool(request, run):
    run(pool=request.param)
    return request.param


def test_handlers_of_both_kinds_return_their_values(pool):
    assert handlers.add.delay(2, right=3).get() == 5
    assert handlers.add_async.delay(2).get() == 3
    assert handlers.double.delay(4).get() == 8


def test_handlers_run_where_the_pool_says(pool):
    pid = handlers.pid.delay().get()
    assert (pid == os.getpid()) is (pool != "processes")


def test_many_short_tasks_all_end(app, pool):
    tasks = [
        (handlers.add if number % 3 else handlers.add_async).submission((number,))
        for number in range(600)
    ]
    results = app.submit_many(tasks)
    assert [result.get(timeout=60) for result in results] == list(range(1, 601))


def test_bytes_go_through_as_they_are(pool):
    assert handlers.reverse.delay(b"\x00\xff").get() == b"\xff\x00"


def test_a_codec_of_the_user_writes_and_reads(app, pool):
    assert handlers.upper.delay("hey").get() == "HEY!"
    options, kind = handlers.upper.options, handlers.UpperCodec.content_type
    submitted = app.client.submit("upper", b"hey", options=options, content_type=kind)
    with pytest.raises(TaskFailed, match="small letters") as caught:
        app.result(submitted.id).get()
    assert caught.value.kind == "invalid_arguments"


def test_long_payloads_and_results_go_through(pool):
    texts = ["x" * 7_000_000, "y" * 3_000_000, "z"]
    results = [handlers.length.delay(text) for text in texts]
    assert [result.get() for result in results] == [7_000_000, 3_000_000, 1]
    assert handlers.large.delay(1_000_000).get() == "x" * 1_000_000


def test_the_context_tells_what_the_producer_said(pool):
    result = handlers.about.apply_async(
        task_id=f"about-{pool}-{time.time_ns()}",
        priority=7,
        tags=["a", "b"],
        headers={"colour": "blue"},
        max_attempts=3,
        time_limit=60,
    )
    told = result.get()
    assert told["task_id"] == result.id
    assert (told["name"], told["attempt"], told["attempts_max"]) == ("about", 1, 3)
    assert (told["priority"], told["tags"], told["header"]) == (7, ["a", "b"], "blue")
    assert told["has_deadline"]


def test_a_task_of_a_handler_belongs_to_its_tree(app, pool):
    result = handlers.family.delay()
    child = app.result(result.get()["child"])
    assert child.get() == 2
    assert (child.info().root_id, child.info().parent_id) == (result.id, result.id)


def test_a_failure_has_its_kind_its_message_and_its_traceback(pool):
    result = handlers.fail.apply_async(("no luck",), max_attempts=1)
    with pytest.raises(TaskFailed) as caught:
        result.get()
    assert (caught.value.kind, caught.value.message) == ("ValueError", "no luck")
    assert "in fail\n" in caught.value.traceback
    assert "execution.py" not in caught.value.traceback
    assert result.failed()


def test_a_failed_attempt_runs_again_by_the_policy(pool):
    from celeriac import RetryPolicy

    result = handlers.fail_until.apply_async((3,), retry=RetryPolicy(max_attempts=5, delay=0.01))
    assert result.get() == 3
    assert [error.kind for error in result.info().errors] == ["OSError", "OSError"]


@pytest.mark.parametrize(
    ("kind", "runs_again"), [("os", True), ("missing", False), ("value", False)]
)
def test_only_errors_of_retry_for_run_again(pool, kind, runs_again):
    result = handlers.picky.delay(kind)
    wait_for_state(result, State.RETRY, State.FAILURE)
    assert (result.state is State.RETRY) is runs_again
    result.revoke()


def test_a_handler_can_ask_for_another_attempt(pool):
    assert handlers.again.delay().get() == 2


def test_a_rejected_task_has_failed_at_once(pool):
    with pytest.raises(TaskFailed, match="never"):
        handlers.reject.delay().get()


def test_an_ignored_task_leaves_nothing(pool):
    result = handlers.ignore.delay()
    wait_for_state(result, State.UNKNOWN)
    with pytest.raises(TaskUnknown):
        result.get()


def test_a_handler_that_leaves_the_program_has_failed(pool):
    with pytest.raises(TaskFailed) as caught:
        handlers.leave.delay().get()
    assert caught.value.kind == "SystemExit"
    assert handlers.add.delay(1).get() == 2


def test_the_newest_progress_is_kept(pool):
    result = handlers.report.delay()
    result.get()
    progress = result.progress()
    assert (progress.state, progress.meta) == ("COUNTING", {"step": 199})


def test_progress_is_seen_while_the_handler_runs(pool):
    result = handlers.report_then_nap.delay()
    seen = [change.progress for change in result.watch(timeout=10) if change.progress]
    assert ("SECOND", 2) in [(progress.state, progress.meta) for progress in seen]
    assert any(change.state == "FIRST" or change.state == "SECOND" for change in seen)


def test_a_long_task_is_shown_as_started(pool):
    result = handlers.nap.delay(0.5)
    wait_for_state(result, State.STARTED)
    result.get()


@pytest.mark.parametrize(
    ("task", "arguments", "kind"),
    [
        ("large", (3_000_000,), "result_too_large"),
        ("unwritable", (), "invalid_result"),
    ],
)
def test_results_that_nobody_could_read_are_failures(pool, task, arguments, kind):
    result = handlers.app.tasks[task].delay(*arguments)
    with pytest.raises(TaskFailed) as caught:
        result.get()
    assert caught.value.kind == kind
    assert result.info().attempts == 1


def test_wrong_arguments_are_a_final_failure(app, pool):
    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((1,), {"colour": 2})]:
        with pytest.raises(TaskFailed) as caught:
            app.send_task("add", args, kwargs).get()
        assert caught.value.kind == "invalid_arguments"


def test_a_payload_that_is_not_json_is_a_final_failure(app, pool):
    submitted = app.client.submit("add", b"[1,", options=handlers.add.options)
    with pytest.raises(TaskFailed, match="not JSON"):
        app.result(submitted.id).get()


@pytest.mark.parametrize("task", ["stoppable", "stoppable_async", "soft_anywhere"])
def test_the_soft_limit_is_raised_in_the_handler(pool, task):
    if task == "soft_anywhere" and pool != "processes":
        pytest.skip("a thread hears of its limit only at a call of the context")
    result = handlers.app.tasks[task].apply_async(soft_time_limit=0.1)
    assert result.get() == "soft limit"


def test_the_soft_limit_is_raised_once(pool):
    assert handlers.cleans_up_async.apply_async(soft_time_limit=0.1).get() == "cleaned up"


@pytest.mark.parametrize("task", ["nap", "nap_async", "deaf"])
def test_the_hard_limit_ends_the_task(pool, task):
    begun = time.monotonic()
    result = handlers.app.tasks[task].apply_async((3,), time_limit=0.2, max_attempts=3)
    with pytest.raises(TaskFailed) as caught:
        result.get()
    assert caught.value.kind == "time_limit"
    assert time.monotonic() - begun < 15
    assert result.info().attempts == 1
    assert handlers.add.delay(1).get() == 2


def test_a_cancelled_handler_may_decide(pool):
    result = handlers.stoppable.delay()
    wait_for_state(result, State.STARTED)
    assert result.revoke() is CancelKind.SIGNALLED
    assert result.get() == "stopped by itself"


@pytest.mark.parametrize("task", ["nap", "nap_async", "deaf"])
def test_a_handler_is_cancelled_by_force(pool, task):
    result = handlers.app.tasks[task].delay(3)
    wait_for_state(result, State.STARTED)
    result.revoke(terminate=True, reason="enough")
    with pytest.raises(TaskRevoked, match="enough"):
        result.get(timeout=2)
    assert handlers.add.delay(1).get() == 2


def test_a_last_attempt_begins_when_the_broker_knows_of_it(pool):
    results = [handlers.add.apply_async((number,), max_attempts=1) for number in range(20)]
    assert [result.get() for result in results] == list(range(1, 21))
    results = [handlers.add_async.apply_async((number,), early_ack=True) for number in range(20)]
    assert [result.get() for result in results] == list(range(1, 21))


def test_a_task_that_expired_does_not_run(run, app):
    result = handlers.add.apply_async((1,), expires=0.05)
    wait_for_state(result, State.REVOKED)
    run(pool="threads")
    with pytest.raises(TaskRevoked, match="expired"):
        result.get()


def test_functions_get_places_that_async_handlers_leave(app, run):
    run(pool="asyncio", concurrency=2, credit=8)
    mixed = [handlers.nap_async, handlers.nap_async, handlers.pid, handlers.pid]
    tasks = [task.submission((0.2,) if task is handlers.nap_async else ()) for task in mixed * 2]
    results = app.submit_many(tasks)
    assert [result.get(timeout=5) for result in results] == ["slept"] * 2 + [os.getpid()] * 2 + [
        "slept"
    ] * 2 + [os.getpid()] * 2


def test_short_tasks_do_not_wait_behind_a_long_one(app, pool):
    # The pool learns that this task is short, and gives several of them to one child.
    for result in app.submit_many(handlers.nap.submission((0,)) for _ in range(300)):
        result.get()
    tasks = [handlers.nap.submission((2,))]
    tasks += [handlers.nap.submission((0,)) for _ in range(100)]
    long, *short = app.submit_many(tasks)
    begun = time.monotonic()
    for result in short:
        result.get()
    assert time.monotonic() - begun < 15
    assert not long.ready()
