"""What a worker does when its broker restarts, is away, or cannot be reached for long."""

from __future__ import annotations

import time

import handlers
import pytest
from observing import eventually, paused, wait_for_state

from celeriac import State
from celeriac.errors import Unauthenticated
from celeriac.scratch_broker import ScratchBroker


@pytest.fixture
def broker():
    """Each of these tests has a broker of its own, and ends it."""
    with ScratchBroker("--lease-ms", "3000", "--heartbeat-ms", "500") as scratch:
        yield scratch


@pytest.mark.parametrize("pool", ["threads", "asyncio", "processes"])
def test_a_restart_between_delivery_and_report_runs_the_task_once(run, broker, tmp_path, pool):
    run(pool=pool)
    notes = tmp_path / "notes"
    result = handlers.note_and_nap.delay(str(notes), 1.0)
    wait_for_state(result, State.STARTED)
    broker.kill()
    eventually(lambda: "ended" in notes.read_text())
    broker.start()
    result.get(timeout=20)
    assert notes.read_text().splitlines() == ["begun", "ended"]
    assert (result.info().attempts, result.info().deliveries) == (1, 1)


def test_a_handler_goes_on_over_a_restart(run, broker, tmp_path):
    run(pool="threads")
    notes = tmp_path / "notes"
    result = handlers.note_and_nap.delay(str(notes), 2.0)
    wait_for_state(result, State.STARTED)
    broker.kill()
    broker.start()
    result.get(timeout=20)
    assert notes.read_text().splitlines() == ["begun", "ended"]


def test_nothing_is_lost_or_run_twice_over_restarts_under_load(app, run, broker, tmp_path):
    run(pool="processes", concurrency=2)
    notes = [tmp_path / str(number) for number in range(300)]
    results = app.submit_many(
        handlers.note_and_nap.submission((str(note), 0.003)) for note in notes
    )
    for _ in range(3):
        time.sleep(0.2)
        broker.kill()
        time.sleep(0.1)
        broker.start()
    for result in results:
        result.get(timeout=30)
    assert [note.read_text() for note in notes] == ["begun\nended\n"] * len(notes)


def test_a_worker_waits_for_a_broker_that_is_not_there_yet(command, broker):
    broker.stop()
    worker = command("--pool", "threads")
    worker.wait_for("No broker answers at")
    broker.start()
    assert handlers.add.delay(1).get(timeout=20) == 2


def test_a_session_that_was_silent_for_too_long_is_over(run, broker, tmp_path, command):
    worker = command("--pool", "threads", "--concurrency", "1")
    notes = tmp_path / "notes"
    result = handlers.note_and_nap.delay(str(notes), 2.0)
    wait_for_state(result, State.STARTED)
    with paused(worker.process.pid):
        # The broker gives the task to another worker.
        run(pool="threads")
        result.get(timeout=20)
    worker.wait_for("The connection to the broker is lost")
    assert handlers.add.delay(1).get(timeout=20) == 2
    assert result.state is State.SUCCESS
    assert result.info().deliveries == 2


def test_a_broker_that_hangs_is_left_and_found_again(run, broker):
    run(pool="threads")
    assert handlers.add.delay(1).get() == 2
    with paused(broker.pid):
        time.sleep(4)
    assert handlers.add.delay(2).get(timeout=20) == 3


def test_a_wrong_token_ends_the_worker(app, tmp_path):
    token = tmp_path / "token"
    token.write_text("right\n")
    with ScratchBroker("--token-file", str(token)) as closed:
        app.url = closed.url.replace("celeriac://", "celeriac://:wrong@")
        worker = app.worker(pool="threads")
        worker.start()
        with pytest.raises(Unauthenticated):
            worker.join(10)


def test_orders_of_an_operator_are_carried_out(app, run):
    worker = run(pool="processes", concurrency=1)
    assert handlers.add.delay(1).get() == 2
    app.client.admin.order_workers("QUIET", [worker.instance])
    result = handlers.add.delay(2)
    time.sleep(0.3)
    assert result.state is State.QUEUED
    app.client.admin.order_workers("RESUME", [worker.instance])
    assert result.get() == 3
    app.client.admin.order_workers("SHUTDOWN", [worker.instance])
    assert worker.join(10)
