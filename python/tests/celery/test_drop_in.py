"""An app of Celery whose two addresses are those of a broker of Celeriac."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.exceptions import TaskRevokedError

from celeriac.scratch_broker import ScratchBroker
from celery import chord, group

HERE = Path(__file__).parent
WAIT = 20


@pytest.fixture(scope="module")
def broker():
    with ScratchBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def subject(broker):
    os.environ["CELERIAC_TEST_URL"] = broker.url
    sys.path.insert(0, str(HERE))
    yield importlib.import_module("subject")
    sys.path.remove(str(HERE))
    del os.environ["CELERIAC_TEST_URL"]


@pytest.fixture(scope="module", params=["solo", "prefork"])
def worker(request, subject):
    """A worker with each pool in turn."""
    source = str(HERE.parent.parent / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    command = [sys.executable, "-m", "celery", "-A", "subject", "worker", "-E", "-c", "2", "-P"]
    process = subprocess.Popen(
        [*command, request.param],
        cwd=HERE,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert subject.add.delay(1, 1).get(timeout=WAIT) == 2
        yield process
    finally:
        process.terminate()
        process.wait(WAIT)


def test_results_failures_and_retries(worker, subject):
    assert subject.add.delay(1, 2).get(timeout=WAIT) == 3
    failed = subject.fail.delay()
    with pytest.raises(ValueError, match="has no end"):
        failed.get(timeout=WAIT)
    assert "ValueError" in failed.traceback
    assert subject.again.delay().get(timeout=WAIT) == 2


def test_a_retry_that_waits_is_seen(worker, subject):
    result = subject.again_soon.delay()
    until = time.monotonic() + WAIT
    while (state := result.state) == "PENDING" and time.monotonic() < until:
        time.sleep(0.01)
    assert state == "RETRY"
    assert isinstance(result.result, ValueError)
    # A worker holds it already, and waits out the rest.
    answers = subject.app.control.inspect(timeout=1).scheduled() or {}
    listed = [task["request"]["id"] for tasks in answers.values() for task in tasks]
    assert result.id in listed
    assert result.state == "RETRY"
    assert result.get(timeout=WAIT) == 1


def test_a_start_is_seen_where_it_is_tracked(worker, subject):
    seen = {}
    for tracked in (subject.slow, subject.slow_tracked):
        result, states = tracked.delay(1), []
        while not result.ready():
            states.append(result.state)
        seen[tracked.name] = set(states) - {"SUCCESS"}
    assert seen["subject.slow"] == {"PENDING"}
    assert "STARTED" in seen["subject.slow_tracked"]


def test_groups_chains_and_chords(worker, subject):
    header = [subject.add.s(each, each) for each in range(4)]
    assert group(header)().get(timeout=WAIT) == [0, 2, 4, 6]
    assert (subject.add.s(1, 1) | subject.add.s(5))().get(timeout=WAIT) == 7
    assert chord(header)(subject.total.s()).get(timeout=WAIT) == 12


def test_a_failed_member_fails_its_chord(worker, subject):
    for _ in range(5):
        result = chord([subject.add.s(1, 1), subject.fail.s()])(subject.total.s())
        # The member's own error, as with Redis, and not the one with which the body failed.
        with pytest.raises(ValueError, match="has no end"):
            result.get(timeout=WAIT)


def test_a_failed_member_fails_each_task_of_a_body_that_is_a_group(worker, subject):
    header, body = group([subject.add.si(1, 1), subject.fail.si()]), group([subject.add.si(2, 2)])
    with pytest.raises(ValueError, match="has no end"):
        (header | body).apply_async().get(timeout=WAIT)


def test_the_members_of_a_chord_may_come_from_a_generator(worker, subject):
    """Members are sent while later ones are made."""
    first = str(uuid4())

    def members():
        yield subject.add.s(0, 1).set(task_id=first)
        yield from (subject.add.s(number, 1) for number in range(1, 4))
        # Celery makes some members ahead, but not this one.
        yield subject.add.s(subject.app.AsyncResult(first).get(timeout=WAIT), 10)

    result = chord(members())(subject.total.s())
    assert result.get(timeout=WAIT) == 1 + 2 + 3 + 4 + 11


def test_an_eta_is_kept(worker, subject):
    began = time.monotonic()
    assert subject.add.apply_async((1, 2), countdown=1).get(timeout=WAIT) == 3
    assert time.monotonic() - began >= 0.9


def test_a_reused_id_shows_the_new_run(worker, subject):
    for number in range(3):
        result = subject.add.apply_async((number, 1), task_id="token")
        assert result.get(timeout=WAIT) == number + 1


def test_a_worker_answers_commands(worker, subject):
    replies = subject.app.control.inspect(timeout=2).ping()
    assert [reply["ok"] for reply in replies.values()] == ["pong"]


def test_events_arrive(worker, subject):
    seen = []
    with subject.app.connection() as connection:
        receiver = subject.app.events.Receiver(connection, {"*": seen.append})
        with receiver.consumer_context() as (consuming, _, _):
            subject.add.delay(1, 1).get(timeout=WAIT)
            until = time.monotonic() + WAIT
            while time.monotonic() < until and "task-succeeded" not in [e["type"] for e in seen]:
                consuming.drain_events(timeout=WAIT)
    assert "task-received" in [event["type"] for event in seen]


def test_runs_go_on_over_a_restart_of_the_broker(worker, subject, broker):
    early, late = subject.slow.delay(2), subject.slow_late.delay(2)
    time.sleep(0.7)
    broker.stop()
    broker.start()
    assert early.get(timeout=40) == 2
    assert late.get(timeout=40) == 2


def test_without_a_worker(subject, broker):
    """A task is stored before the broker restarts. Revoke and expiry need no worker."""
    kept = subject.add.apply_async((1, 1), queue="nobody")
    revoked = subject.add.apply_async((1, 1), queue="nobody")
    subject.app.control.revoke(revoked.id)
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=WAIT)
    expired = subject.add.apply_async((1, 1), queue="nobody", expires=0.3)
    with pytest.raises(TaskRevokedError):
        expired.get(timeout=WAIT)
    broker.stop()
    broker.start()
    assert kept.state == "PENDING"
    with subject.app.connection() as connection:
        message = connection.default_channel.basic_get("nobody")
    assert message.headers["id"] == kept.id
