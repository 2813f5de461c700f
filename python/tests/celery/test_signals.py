"""A worker that is told to end: what runs ends, and what waits goes back."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kit import WAIT, until, worker

from celeriac.scratch_broker import ScratchBroker


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_warm_shutdown_lets_tasks_end_and_gives_the_others_back(apps, quick_broker, pool):
    queue = f"warm-{pool}"
    with worker(quick_broker, "-c", "2", "-P", pool, "-Q", queue) as running:
        early = apps.slow.apply_async((4,), queue=queue)
        until(lambda: early.state == "STARTED", "the start")
        late = apps.slow_late.apply_async((4,), queue=queue)
        if pool != "solo":
            until(lambda: late.state == "STARTED", "the start")
        waiting = [apps.add.apply_async((n, n), queue=queue) for n in range(3)]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT) == 0
    assert early.state == "SUCCESS"
    assert pool == "solo" or late.state == "SUCCESS"
    began = time.monotonic()
    with worker(quick_broker, "-c", "2", "-Q", queue) as second:
        assert [each.get(timeout=WAIT) for each in waiting] == [0, 2, 4]
        assert late.get(timeout=WAIT) == 4
        assert f"[{early.id}]" not in second.log()
    assert time.monotonic() - began < WAIT


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_what_a_warm_shutdown_gives_back_keeps_its_order(apps, quick_broker, tmp_path, pool):
    queue, notes = f"order-{pool}", tmp_path / "notes"

    def submit(name):
        return apps.note.apply_async((str(notes), name), queue=queue)

    with worker(quick_broker, "-c", "1", "-P", pool, "-Q", queue) as running:
        running_task = apps.slow_late.apply_async((3,), queue=queue)
        until(lambda: running_task.state == "STARTED", "the start")
        results = [submit(name) for name in "abcdefgh"]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT) == 0
    results.append(submit("late"))
    with worker(quick_broker, "-c", "1", "-P", pool, "-Q", queue):
        for result in results:
            result.get(timeout=WAIT)
    assert notes.read_text().split() == [*"abcdefgh", "late"]


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]])
def test_a_cold_shutdown_is_quick_and_loses_no_task_that_acknowledges_late(
    apps, quick_broker, tmp_path, signals
):
    queue, marks = f"cold-{len(signals)}", tmp_path / "marks"
    with worker(quick_broker, "-c", "1", "-Q", queue) as running:
        late = apps.mark_and_wait_once.apply_async((str(marks),), queue=queue)
        until(marks.exists, "the start")
        waiting = apps.add.apply_async((1, 1), queue=queue)
        for each in signals:
            running.process.send_signal(each)
            time.sleep(0.5)
        running.process.wait(WAIT)
    with worker(quick_broker, "-c", "1", "-Q", queue):
        assert late.get(timeout=WAIT) == 2
        assert waiting.get(timeout=WAIT) == 2


def test_a_task_that_runs_ends_also_when_its_queue_is_no_longer_consumed(apps, quick_broker):
    with worker(quick_broker, "-c", "1", "-Q", "stay,leave"):
        result = apps.slow.apply_async((2,), queue="leave")
        until(lambda: result.state == "STARTED", "the start")
        apps.app.control.cancel_consumer("leave", reply=True, timeout=WAIT, limit=1)
        assert result.get(timeout=WAIT) == 2


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_ends_although_its_broker_does_not_answer(apps, quick_broker, pool):
    queue = f"silent-{pool}"
    with worker(quick_broker, "-c", "1", "-E", "-P", pool, "-Q", queue) as running:
        held = apps.add.apply_async((1, 1), queue=queue, countdown=8)
        running.says(f"[{held.id}] received")
        os.kill(quick_broker.pid, signal.SIGSTOP)
        try:
            running.process.send_signal(signal.SIGTERM)
            # It takes up to 10 s. A single wait that has its usual bound takes 30 s.
            running.process.wait(29)
        finally:
            os.kill(quick_broker.pid, signal.SIGCONT)
    with worker(quick_broker, "-c", "1", "-Q", queue):
        assert held.get(timeout=WAIT) == 2


def test_a_worker_ends_although_its_broker_is_gone(tmp_path):
    with ScratchBroker() as broker, worker(broker, "-c", "1", "-E") as running:
        os.kill(broker.pid, signal.SIGKILL)
        running.says("Trying again in")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(29) == 0
