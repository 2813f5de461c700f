"""A worker or a process of its pool is killed, or a task gives itself back."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from billiard.exceptions import WorkerLostError
from celery.exceptions import ChordError, TaskRevokedError
from kit import WAIT, Worker, until, worker

from celery import chord, group


def marks_in(path):
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_killed_worker_loses_what_it_acknowledged_and_nothing_else(apps, quick_broker, pool):
    queue = f"killed-{pool}"
    first = Worker(quick_broker, "-c", "2", "-P", pool, "-Q", queue).ready()
    try:
        early = apps.slow.apply_async((600,), queue=queue)
        until(lambda: early.state == "STARTED", "the start")
        late = apps.slow_late.apply_async((1,), queue=queue)
        if pool != "solo":
            until(lambda: late.state in ("STARTED", "SUCCESS"), "the start")
    finally:
        first.kill()
    with worker(quick_broker, "-c", "2", "-Q", queue) as second:
        assert late.get(timeout=WAIT) == 1
        with pytest.raises(WorkerLostError):
            early.get(timeout=WAIT)
        assert f"[{early.id}]" not in second.log()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_runs_when_its_worker_is_killed_runs_again_if_it_acknowledges_late(
    apps, quick_broker, tmp_path, pool
):
    queue, marks = f"again-{pool}", tmp_path / "marks"
    result = apps.mark_and_wait_once.apply_async((str(marks),), queue=queue)
    first = Worker(quick_broker, "-c", "1", "-P", pool, "-Q", queue).ready()
    try:
        until(marks.exists, "the first run")
    finally:
        first.kill()
    with worker(quick_broker, "-c", "1", "-P", pool, "-Q", queue):
        assert result.get(timeout=WAIT) == 2


def test_a_task_whose_process_is_killed_runs_again_if_it_says_so(apps, quick_broker, tmp_path):
    with worker(quick_broker, "-c", "1", "-Q", "process"):
        marks = str(tmp_path / "marks")
        result = apps.die_once.apply_async((marks,), queue="process")
        assert result.get(timeout=WAIT) == 2
        early = apps.die_early.apply_async(queue="process")
        with pytest.raises(WorkerLostError):
            early.get(timeout=WAIT)


def test_a_task_gives_itself_back(apps, quick_broker, tmp_path):
    with worker(quick_broker, "-c", "1", "-Q", "rejects"):
        marks = str(tmp_path / "marks")
        result = apps.reject_once.apply_async((marks,), queue="rejects")
        assert result.get(timeout=WAIT) == [2, True]


def test_a_task_that_rejects_itself_for_good_is_dead(apps, quick_broker):
    with worker(quick_broker, "-c", "1", "-Q", "rejects"):
        result = apps.reject_for_good.apply_async(queue="rejects")
        until(lambda: result.state == "FAILURE", "the end")


def test_revoke_and_expiry_need_no_worker_and_bind_no_later_run(apps, quick_broker):
    revoked = apps.add.apply_async((1, 1), queue="nobody")
    revoked.revoke()
    assert revoked.state == "REVOKED"
    expired = apps.add.apply_async((1, 1), queue="nobody", expires=0.5)
    with pytest.raises(TaskRevokedError, match="expired"):
        expired.get(timeout=WAIT)
    with worker(quick_broker, "-c", "1", "-Q", "nobody"):
        for result in (revoked, expired):
            again = apps.add.apply_async((2, 2), queue="nobody", task_id=result.id)
            assert again.get(timeout=WAIT) == 4
        # The worker itself refuses this id for hours.
        held = apps.add.apply_async((1, 1), queue="nobody", countdown=600)
        held.revoke()
        with pytest.raises(TaskRevokedError):
            held.get(timeout=WAIT)
        again = apps.add.apply_async((3, 3), queue="nobody", task_id=held.id)
        assert again.get(timeout=WAIT) == 6


@pytest.mark.parametrize("kind", ["revoke", "expiry"])
def test_a_member_that_ends_with_no_worker_up_fails_its_chord(apps, quick_broker, kind):
    members = [apps.add.s(1, 1), apps.add.s(2, 2)]
    if kind == "expiry":
        members[1].set(expires=0.5)
    result = chord(members)(apps.total.s())
    member = result.parent.children[1]
    if kind == "revoke":
        member.revoke()
    with worker(quick_broker, "-c", "1"):
        until(lambda: result.state == "FAILURE", "the end of the body")
    assert isinstance(result.result, ChordError)
    assert member.id in str(result.result)
    assert member.state == "REVOKED"


@pytest.mark.parametrize("step", ["on_chord_part_return", "_send_body", "_done"])
def test_a_chord_ends_when_the_process_of_a_late_member_is_killed_at_its_end(
    apps, quick_broker, tmp_path, step
):
    marks = tmp_path / "marks"
    with worker(quick_broker, "-c", "1"):
        members = [apps.add.s(1, 1), apps.die_once_at.s(str(marks), step)]
        result = chord(members)(apps.total.s())
        assert result.get(timeout=WAIT) == 3
        until(lambda: result.parent.successful(), "the outcomes of the members")
    assert marks.read_text() == "xx"


@pytest.mark.parametrize("kind", ["plain", "forgotten", "retried", "group", "chain", "chord"])
def test_the_body_of_a_chord_is_sent_once_when_its_sender_dies_before_it_closes_the_chord(
    apps, quick_broker, tmp_path, kind
):
    marks, ran, queue = [tmp_path / "one", tmp_path / "two"], str(tmp_path / "ran"), f"body-{kind}"

    def here(task, *args):
        return task.s(*args).set(queue=queue)

    plain = here(apps.note_body, ran)
    body, runs = {
        "plain": (plain, 1),
        "forgotten": (here(apps.note_body_and_forget, ran), 1),
        "retried": (here(apps.note_body_and_retry, ran), 1),
        "group": (group(plain, plain), 2),
        "chain": (plain | plain, 2),
        "chord": (chord([plain, plain], plain), 3),
    }[kind]
    with worker(quick_broker, "-c", "2", "-Q", queue):
        # Whichever of the members ends last sends the body.
        result = chord(here(apps.die_before_closing, str(each), ran, runs) for each in marks)(body)
        until(lambda: sum(map(marks_in, marks)) == 3, "the second run")
        until(result.parent.successful, "the outcomes of the members")
        # A second body would stand before this task in the queue.
        assert apps.add.apply_async((1, 1), queue=queue).get(timeout=WAIT) == 2
    assert marks_in(Path(ran)) == runs


def test_a_chord_fails_once_when_the_process_that_fails_it_dies(apps, quick_broker, tmp_path):
    marks, told = tmp_path / "marks", str(tmp_path / "told")
    with worker(quick_broker, "-c", "1", "-Q", "fails-once"):
        members = [apps.fail.s(), apps.die_once_at.s(str(marks), "_done")]
        for each in members:
            each.set(queue="fails-once")
        errback = apps.note_error.si(told).set(queue="fails-once")
        result = chord(members)(apps.total.s().on_error(errback))
        until(result.parent.children[1].successful, "the outcome of the member")
        assert isinstance(result.result, ChordError)
        assert apps.add.apply_async((1, 1), queue="fails-once").get(timeout=WAIT) == 2
    assert (marks.read_text(), Path(told).read_text()) == ("xx", "x")


def test_a_token_shows_its_new_run_at_once_and_in_the_end(apps, quick_broker):
    with worker(quick_broker, "-c", "1", "-Q", "token"):
        first = apps.add.apply_async((1, 1), queue="token", task_id="token")
        assert first.get(timeout=WAIT) == 2
        second = apps.slow.apply_async((1,), queue="token", task_id="token")
        assert apps.app.AsyncResult("token").state in ("PENDING", "STARTED")
        assert second.get(timeout=WAIT) == 1
        failed = apps.fail.apply_async(queue="token", task_id="token")
        with pytest.raises(ValueError, match="has no end"):
            failed.get(timeout=WAIT)


def test_retry_and_replace_take_the_place_of_the_run(apps, quick_broker):
    with worker(quick_broker, "-c", "2", "-Q", "celery") as running:
        again = apps.again.delay()
        assert again.get(timeout=WAIT) == 2
        replaced = apps.replaced.delay(5)
        assert replaced.get(timeout=WAIT) == 10
        for result in (again, replaced):
            # The result is there before the worker writes of it.
            running.says(f"[{result.id}] succeeded")
            assert running.log().count(f"[{result.id}] succeeded") == 1
