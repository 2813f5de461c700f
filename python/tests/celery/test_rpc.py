"""The result backend `rpc://`: also the tasks that no worker tells of have an end."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from billiard.exceptions import WorkerLostError
from celery.exceptions import TaskRevokedError
from kit import WAIT, Worker, until, worker

from celeriac import _codec as wire
from celeriac.celery.replies import Expected, _Task
from celeriac.client import Client
from celeriac.info import State
from celery import Celery, group

CONF = json.dumps({"result_backend": "rpc://"})


@pytest.fixture
def app(quick_broker):
    made = Celery("subject", broker=quick_broker.url, backend="rpc://", set_as_current=False)
    yield made
    made.close()


def add(app, *args, **options):
    return app.send_task("subject.add", args or (1, 1), **{"queue": "nobody", **options})


def revoke(app):
    result = add(app)
    result.revoke()
    return result


def expire(app):
    return add(app, expires=0.3)


def purge(app):
    result = add(app, queue="purged")
    with app.connection() as connection:
        connection.default_channel.queue_purge("purged")
    return result


def delete_the_queue(app):
    result = add(app, queue="deleted")
    with app.connection() as connection:
        connection.default_channel.queue_delete("deleted")
    return result


ENDS = [revoke, expire, purge, delete_the_queue]


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_task_that_no_worker_had_is_heard(app, end):
    others = [add(app) for _ in range(3)]
    result = end(app)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT)
    assert result.state == "REVOKED"
    assert {other.state for other in others} == {"PENDING"}


@pytest.mark.parametrize("end", [revoke, expire])
def test_the_end_of_a_task_that_no_worker_had_is_seen(app, end):
    result = end(app)
    until(lambda: result.state == "REVOKED", "the end")
    assert isinstance(result.result, TaskRevokedError)


def test_a_member_of_a_group_that_no_worker_had_is_heard(app):
    members = [app.signature("subject.add", (n, n), queue="nobody") for n in range(3)]
    results = group(members, app=app)()
    results.revoke()
    for result in results.results:
        with pytest.raises(TaskRevokedError):
            result.get(timeout=WAIT)


def test_a_task_whose_worker_is_killed_is_heard(app, quick_broker):
    running = Worker(quick_broker, "-c", "1", "-Q", "killed-rpc", CELERIAC_TEST_CONF=CONF).ready()
    try:
        result = app.send_task("subject.slow", (600,), queue="killed-rpc")
        until(lambda: result.state == "STARTED", "the start")
    finally:
        running.kill()
    with pytest.raises(WorkerLostError):
        result.get(timeout=WAIT)


def test_what_a_worker_tells_is_told_once(app, quick_broker):
    options = ("-c", "1", "-Q", "told")
    with (
        worker(quick_broker, *options, CELERIAC_TEST_CONF=CONF),
        Client(quick_broker.url) as client,
    ):
        for _ in range(3):
            held = add(app, queue="told", countdown=600, task_id="token")
            held.revoke()
            with pytest.raises(TaskRevokedError):
                held.get(timeout=WAIT)
            # A second reply for the revoked run would be taken for that of the next one.
            again = add(app, 3, 3, queue="told", task_id="token")
            assert again.get(timeout=WAIT) == 6
            # The reply comes before the end, and until then the id would run beside itself.
            until(lambda: client.get("token").state is State.UNKNOWN, "the end")
        with pytest.raises(ValueError, match="the song has no end"):
            app.send_task("subject.fail", queue="told").get(timeout=WAIT)
        retried = app.send_task("subject.again_soon", queue="told")
        with pytest.raises(TaskRevokedError):
            expire(app).get(timeout=WAIT)
        # The retry goes to the queue of the task.
        assert retried.get(timeout=WAIT) == 1


def test_a_task_that_is_still_on_its_way_is_not_given_up():
    """The broker may not have read a publish yet when another connection asks for its task."""
    expected = Expected()
    expected.add("token", _Task("token", "application/json"))
    unknown = wire.TaskInfo(id="token", state=wire.TaskState.UNKNOWN)
    assert not expected.is_over(unknown)
    assert expected.is_over(unknown)
    # A worker that had the task tells of its end, when it has the time.
    expected.add("held", _Task("held", "application/json"))
    revoked = wire.TaskInfo(id="held", state=wire.TaskState.REVOKED, deliveries=1)
    assert [expected.is_untold(revoked) for _ in range(2)] == [False, True]
