"""SIGTERM at each moment of a worker's life."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from pathlib import Path

import handlers
import pytest
from observing import eventually, wait_for_state

from celeriac import State

POOLS = ("threads", "asyncio", "processes")

_TAKES_TASKS = "Connected to"


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(command, pool, number):
    worker = command("--pool", pool)
    worker.wait_for(_TAKES_TASKS)
    begun = time.monotonic()
    worker.signal(number)
    assert worker.wait() == 0
    assert time.monotonic() - begun < 15


def test_a_hang_up_without_a_terminal_is_ignored(command):
    worker = command("--pool", "processes", "--concurrency", "1")
    result = handlers.deaf.delay(1.0)
    wait_for_state(result, State.STARTED)
    worker.signal_all(signal.SIGHUP)
    worker.wait_for("SIGHUP has no meaning")
    assert result.get(timeout=20)
    assert result.info().deliveries == 1


def test_a_terminal_that_is_closed_ends_the_worker(app):
    child, terminal = pty.fork()
    if not child:
        try:
            os.chdir(Path(__file__).parent)
            paths = os.pathsep.join(filter(None, sys.path))
            os.environ.update(CELERIAC_URL=app.url, PYTHONPATH=paths)
            command = ["-m", "celeriac.worker.command", "handlers", "--queues", app.queue]
            os.execv(sys.executable, [sys.executable, *command])
        finally:
            os._exit(1)
    try:
        assert handlers.add.delay(1).get(timeout=20) == 2
    finally:
        os.close(terminal)
        ended: list[int] = []
        eventually(lambda: ended.extend(os.waitpid(child, os.WNOHANG)) or ended[-2], 20)
    assert ended[-1] == 0


def test_a_signal_before_the_worker_has_a_driver_is_not_lost(app, monkeypatch):
    worker = app.worker(pool="threads", queues=[app.queue])
    made = worker._pool

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return made(*given)

    monkeypatch.setattr(worker, "_pool", interrupted)
    # Without the signal it would run for ever.
    worker.run()


def test_a_worker_without_a_broker_ends_at_once(app, command):
    app.url = "celeriac://127.0.0.1:1"
    worker = command("--pool", "processes")
    worker.wait_for("begins")
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_a_signal_while_the_worker_begins_ends_it(command, delay):
    worker = command("--pool", "processes")
    worker.wait_for("begins")
    time.sleep(delay)
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0


@pytest.mark.parametrize("pool", POOLS)
def test_running_tasks_end_and_waiting_ones_go_back_at_once(app, command, pool):
    worker = command("--pool", pool, "--concurrency", "1", "--credit", "3")
    running = handlers.deaf.delay(1.5)
    wait_for_state(running, State.STARTED)
    waiting = app.submit_many(handlers.add.submission((number,)) for number in range(2))
    for result in waiting:
        wait_for_state(result, State.LEASED)
    begun = time.monotonic()
    worker.signal(signal.SIGTERM)
    for result in waiting:
        wait_for_state(result, State.QUEUED)
    assert time.monotonic() - begun < 15
    assert worker.wait() == 0
    assert running.state is State.SUCCESS
    assert all(result.info().attempts == 0 for result in waiting)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_does_not_end_the_running_tasks(command, number):
    worker = command("--pool", "processes", "--concurrency", "2")
    results = [handlers.deaf.delay(1.0), handlers.nap.delay(1.0)]
    for result in results:
        wait_for_state(result, State.STARTED)
    worker.signal_all(number)
    assert worker.wait() == 0
    assert [result.state for result in results] == [State.SUCCESS, State.SUCCESS]


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_that_run_beyond_the_grace_go_back(command, tmp_path, pool):
    worker = command("--pool", pool, "--grace", "0.3")
    result = handlers.deaf.delay(20)
    wait_for_state(result, State.STARTED)
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    assert result.state is State.QUEUED
    assert result.info().attempts == 0
    result.revoke()


@pytest.mark.parametrize("pool", POOLS)
def test_a_second_signal_ends_the_worker_at_once(command, pool):
    worker = command("--pool", pool)
    result = handlers.deaf.delay(20)
    wait_for_state(result, State.STARTED)
    worker.signal(signal.SIGTERM)
    worker.wait_for("shuts down")
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 0
    assert result.state is State.QUEUED
    result.revoke()


@pytest.mark.parametrize("pool", POOLS)
def test_a_signal_under_load_loses_nothing(app, command, pool):
    worker = command("--pool", pool, "--concurrency", "2")
    results = app.submit_many(handlers.add.submission((number,)) for number in range(4000))
    eventually(lambda: results[500].ready())
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    states = [info.state for info in app.client.info([result.id for result in results])]
    assert set(states) <= {State.SUCCESS, State.QUEUED}
    command("--pool", "threads")
    assert [result.get(timeout=30) for result in results] == list(range(1, 4001))
    infos = app.client.info([result.id for result in results])
    assert {info.attempts for info in infos} == {1}


def test_a_worker_without_its_broker_says_that_reports_are_unanswered(command):
    from celeriac.scratch_broker import ScratchBroker

    with ScratchBroker() as broker:
        handlers.app.url = broker.url
        handlers.app.close()
        worker = command("--pool", "threads")
        result = handlers.deaf.delay(0.5)
        wait_for_state(result, State.STARTED)
        broker.kill()
        time.sleep(1)
        worker.signal(signal.SIGTERM)
        # Two signals that come at once are one.
        worker.wait_for("shuts down")
        worker.signal(signal.SIGTERM)
        assert worker.wait(15) == 75
    assert "before the broker answered the reports of 1 tasks" in worker.text()
