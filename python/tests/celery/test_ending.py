"""The bounds of all waits of a worker that was told to end."""

from __future__ import annotations

import socket
import threading
import time

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.worker import state
from kombu import Connection, Producer

import celeriac._register  # noqa: F401
from celeriac.celery import ending as bounds
from celeriac.celery.ending import REPORT_SECONDS, SILENT_SECONDS, Ending
from celeriac.celery.faults import WorkerEnds


@pytest.fixture
def told(monkeypatch):
    """Tells this process to end, as the handler of a signal does."""
    monkeypatch.setattr(state, "should_stop", None)
    return lambda: monkeypatch.setattr(state, "should_stop", 0)


@pytest.fixture
def clock(monkeypatch):
    """The time, which the test lets pass."""
    now = [1000.0]
    monkeypatch.setattr(bounds, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def silent_url():
    """The address of a program that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"celeriac://127.0.0.1:{listener.getsockname()[1]}"


def in_vain(ending, clock, most, **options):
    """Waits without an answer, and tells how long."""
    begun_at = clock[0]
    seconds = ending.seconds(most, **options)
    clock[0] += seconds
    ending.note_silence(begun_at)
    return seconds


def test_a_worker_that_goes_on_waits_as_long_as_it_likes(told, clock):
    ending = Ending()
    assert [in_vain(ending, clock, 30.0) for _ in range(3)] == [30.0] * 3


def test_all_waits_in_vain_of_a_worker_that_ends_share_their_time(told, clock):
    ending = Ending()
    told()
    waits = [in_vain(ending, clock, 30.0) for _ in range(10)]
    assert sum(waits) < SILENT_SECONDS + 1.5
    assert waits[-1] < 0.2


def test_reports_of_runs_have_more_time_and_share_it_too(told, clock):
    ending = Ending()
    told()
    waits = [in_vain(ending, clock, 20.0, is_patient=True) for _ in range(10)]
    assert waits[0] == 20.0
    assert REPORT_SECONDS <= sum(waits) < REPORT_SECONDS + 1.5


def test_a_wait_that_began_before_the_signal_is_bounded_from_the_signal_on(told, clock):
    ending = Ending()
    begun_at = clock[0]
    assert ending.until(begun_at) > begun_at + 1000
    clock[0] += 20.0
    told()
    assert clock[0] < ending.until(begun_at) <= clock[0] + bounds.ANSWER_SECONDS


def test_a_worker_that_is_told_to_end_later_has_its_whole_time_again(told, clock, monkeypatch):
    ending = Ending()
    told()
    for _ in range(10):
        in_vain(ending, clock, 30.0)
    monkeypatch.setattr(state, "should_stop", None)
    assert in_vain(ending, clock, 30.0) == 30.0
    told()
    assert in_vain(ending, clock, 30.0) == bounds.ANSWER_SECONDS


def publish(connection):
    """Publishes as the worker does with the event that says that it lives: kombu never gives up."""
    Producer(connection).publish({"one": 1}, routing_key="events", retry=True)


def test_a_publish_that_kombu_repeats_for_ever_ends_with_the_worker(told, silent_url):
    threading.Timer(1.0, told).start()
    begun_at = time.monotonic()
    with Connection(silent_url, connect_timeout=30) as connection, pytest.raises(WorkerEnds):
        publish(connection)
    assert time.monotonic() - begun_at < 25


def test_a_publish_of_a_worker_that_goes_on_is_repeated(told, silent_url):
    failures = []

    def failed(error, _interval):
        failures.append(error)
        if len(failures) == 4:
            raise KeyboardInterrupt

    with (
        Connection(silent_url, connect_timeout=0.05) as connection,
        pytest.raises(KeyboardInterrupt),
    ):
        connection.ensure_connection(failed, interval_start=0, interval_step=0)
