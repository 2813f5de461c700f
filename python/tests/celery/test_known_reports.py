"""What users of other brokers have reported as bugs of Celery and kombu. The numbers are those of
their public issues."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kit import HERE, WAIT, Worker, environment, until, worker


def runs_in(marks):
    return Counter(marks.read_text().split()) if marks.exists() else Counter()


def test_a_worker_consumes_after_its_broker_was_lost_several_times_in_a_row(apps, quick_broker):
    """celery 8030, 8384, 9054: it connected again, and took no more tasks."""
    with worker(quick_broker, "-c", "1", "-Q", "lost") as running:
        for _ in range(4):
            said = running.said()
            quick_broker.kill()
            quick_broker.start()
            # The next loss comes while the worker looks for its neighbours.
            running.is_back(quick_broker, said)
        assert apps.add.apply_async((1, 1), queue="lost").get(timeout=WAIT) == 2
        until(lambda: apps.app.control.inspect(timeout=2).ping(), "an answer")


def test_an_eta_beyond_every_timeout_runs_once(apps, quick_broker, tmp_path):
    """kombu 337, celery 2481, 3270, 4400: each visibility timeout delivered it once more."""
    marks = tmp_path / "marks"
    options = ("-c", "1", "-Q", "eta")
    with worker(quick_broker, *options), worker(quick_broker, *options):
        result = apps.note.apply_async((str(marks), "eta"), queue="eta", countdown=14)
        result.get(timeout=WAIT)
        time.sleep(1)
    assert runs_in(marks) == {"eta": 1}


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_task_longer_than_the_lease_runs_once(apps, quick_broker, pool):
    """celery 6760: RabbitMQ closed the channel of a task that took longer than its timeout."""
    options = ("-c", "1", "-P", pool, "-Q", f"long-{pool}")
    with worker(quick_broker, *options) as first, worker(quick_broker, *options) as second:
        result = apps.slow_late.apply_async((10,), queue=f"long-{pool}")
        assert result.get(timeout=WAIT) == 10
        both = first.log() + second.log()
    assert both.count(f"[{result.id}] received") == 1


def test_workers_that_end_while_tasks_arrive_lose_none(apps, quick_broker, tmp_path):
    """celery 4354, 7950, kombu 305: a warm shutdown dropped what it had just fetched; 3802: a task
    that ended in a warm shutdown ran again."""
    marks = tmp_path / "marks"
    published, stopped = [], threading.Event()

    def publish():
        while not stopped.is_set():
            if len(published) - len(runs_in(marks)) > 200:
                # On a slow machine the backlog would grow for as long as workers begin.
                time.sleep(0.01)
                continue
            name = f"task-{len(published)}"
            apps.note.apply_async((str(marks), name), queue="ending")
            published.append(name)
            time.sleep(0.003)

    load = threading.Thread(target=publish, daemon=True)
    running = Worker(quick_broker, "-c", "2", "-Q", "ending").ready()
    load.start()
    try:
        for _ in range(3):
            seen = len(runs_in(marks))
            until(lambda seen=seen: len(runs_in(marks)) > seen + 30, "further runs")
            following = Worker(quick_broker, "-c", "2", "-Q", "ending")
            running.stop()
            running = following.ready()
        stopped.set()
        load.join()
        until(lambda: len(runs_in(marks)) == len(published), "every run")
    finally:
        stopped.set()
        running.stop()
    assert runs_in(marks) == dict.fromkeys(published, 1)


def test_a_reply_that_nobody_waits_for_harms_no_worker(apps, quick_broker):
    """kombu 1101, celery 5903: `Cannot route message for exchange 'reply.celery.pidbox'`."""
    control = apps.app.control
    with worker(quick_broker, "-c", "1", "-P", "solo", "-Q", "replies") as running:
        busy = apps.slow.apply_async((8,), queue="replies")
        until(lambda: busy.state == "STARTED", "the start")
        # The worker answers when the caller and its queue are gone.
        command = [sys.executable, "-m", "celery", "-A", "subject", "inspect", "ping", "-t", "0.2"]
        asked = subprocess.run(command, cwd=HERE, env=environment(quick_broker.url), timeout=WAIT)
        assert asked.returncode != 0
        assert busy.get(timeout=WAIT) == 8
        assert control.inspect(timeout=WAIT, limit=1).ping()
        said = running.said()
        quick_broker.kill()
        quick_broker.start()
        running.is_back(quick_broker, said)
        # A command that comes before the worker listens again is lost, as with every broker.
        until(lambda: control.inspect(timeout=2).ping(), "an answer")
        assert "Control command error" not in running.log()
