"""What `broker_transport_options` change."""

from __future__ import annotations

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from billiard.exceptions import WorkerLostError
from celery.exceptions import NotRegistered, TaskRevokedError
from kit import WAIT, until, worker
from kombu import Connection
from kombu.exceptions import OperationalError

from celery import Celery


@pytest.fixture
def app(apps):
    """An app of its own, whose connections no other test shares."""
    made = Celery("options", broker=apps.URL, backend=apps.URL)
    made.conf.task_default_queue = "conflicts"
    return made


def send(app, number, **options):
    return app.send_task("subject.add", (number, number), **options)


def test_unknown_options_are_ignored(app):
    app.conf.broker_transport_options = {"visibility_timeout": 3600, "fanout_prefix": True}
    assert send(app, 1).state == "PENDING"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_conflict", "merge"),
        ("priority_order", "reverse"),
        ("any_name", "yes"),
        ("max_deliveries", 0),
        ("max_deliveries", "many"),
        ("eta_lead", -1),
        ("confirm_timeout", 0),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_option(apps, name, value):
    connection = Connection(apps.URL, transport_options={name: value})
    with pytest.raises(ValueError, match=f"broker_transport_options: {name} is"):
        connection.connect()


def test_the_same_id_runs_beside_the_first_by_default(app, apps, quick_broker):
    first = send(app, 1, task_id="beside")
    send(app, 2, task_id="beside")
    with worker(quick_broker, "-Q", "conflicts") as running:
        assert first.get(timeout=WAIT) == 2
        until(lambda: running.log().count("[beside] succeeded") == 2, "both runs")


def test_the_same_id_is_joined(app, quick_broker):
    app.conf.broker_transport_options = {"on_conflict": "join"}
    first, second = (send(app, number, task_id="join") for number in (1, 2))
    last = send(app, 3)
    with worker(quick_broker, "-Q", "conflicts") as running:
        assert last.get(timeout=WAIT) == 6
        assert first.get(timeout=WAIT) == second.get(timeout=WAIT) == 2
        assert running.log().count("[join] received") == 1
        # It has ended, so the next one is a new run.
        assert send(app, 4, task_id="join").get(timeout=WAIT) == 8


def test_the_same_id_is_rejected(app):
    app.conf.broker_transport_options = {"on_conflict": "reject"}
    send(app, 1, task_id="reject")
    with pytest.raises(OperationalError, match="exists"):
        send(app, 2, task_id="reject")


def test_the_same_id_replaces_the_first(app, quick_broker):
    app.conf.broker_transport_options = {"on_conflict": "replace"}
    send(app, 1, task_id="replace")
    second = send(app, 2, task_id="replace")
    with worker(quick_broker, "-Q", "conflicts") as running:
        assert second.get(timeout=WAIT) == 4
        assert running.log().count("[replace] received") == 1


@pytest.mark.parametrize(("order", "numbers"), [("amqp", [9, 5, 0, 0]), ("redis", [0, 0, 5, 9])])
def test_priorities_are_in_the_order_of_amqp_or_of_redis(apps, order, numbers):
    queue = f"order-{order}"
    options = {"transport_options": {"priority_order": order}}
    with Connection(apps.URL, **options) as connection:
        channel = connection.default_channel
        with connection.Producer() as producer:
            connection.SimpleQueue(queue).close()
            for priority in (5, None, 9, 0):
                producer.publish({}, routing_key=queue, priority=priority)
        seen = [channel.basic_get(queue, no_ack=True).delivery_info["priority"] for _ in range(4)]
    assert seen == numbers


def test_a_task_that_no_worker_knows_waits_for_one_that_does(app, apps, quick_broker):
    unknown = app.send_task("later.task", task_id="later", queue="names")
    with worker(quick_broker, "-Q", "names") as running:
        assert send(app, 1, queue="names").get(timeout=WAIT) == 2
        assert "later" not in running.log()
        assert unknown.state == "PENDING"
    unknown.revoke()
    with pytest.raises(TaskRevokedError):
        unknown.get(timeout=WAIT)


def test_a_worker_with_any_name_discards_what_it_does_not_know(app, quick_broker):
    result = app.send_task("later.task", task_id="discarded", queue="any")
    with worker(quick_broker, "-Q", "any", CELERIAC_TEST_OPTIONS='{"any_name": true}') as running:
        running.says("Received unregistered task of type 'later.task'")
        with pytest.raises(NotRegistered, match=r"later\.task"):
            result.get(timeout=WAIT)


def test_a_task_that_is_registered_later_is_announced_when_the_pool_restarts(app, quick_broker):
    result = app.send_task("registered.later", queue="restart")
    variables = {"CELERIAC_TEST_CONF": '{"worker_pool_restarts": true}'}
    with worker(quick_broker, "-Q", "restart", "-c", "1", **variables) as running:
        assert send(app, 1, queue="restart").get(timeout=WAIT) == 2
        replies = app.control.broadcast(
            "pool_restart",
            {"modules": ["later"], "reload": False},
            reply=True,
            timeout=WAIT,
            limit=1,
        )
        assert "ok" in str(replies), (replies, running.log())
        assert result.get(timeout=WAIT) == "later"


def test_a_task_that_kills_its_workers_fails_after_max_deliveries(app, quick_broker):
    app.conf.broker_transport_options = {"max_deliveries": 2}
    result = app.send_task("subject.die_late", queue="deadly")
    with worker(quick_broker, "-Q", "deadly", "-c", "1") as running:
        until(lambda: result.state == "FAILURE", "the end")
    assert isinstance(result.result, WorkerLostError)
    assert running.log().count("received") == 2
