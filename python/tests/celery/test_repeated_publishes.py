"""A publish that failed although the broker has the task, and is repeated, makes one task."""

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kombu import Connection, Queue

from celeriac.celery import channel as channels
from celeriac.client import Client
from celeriac.scratch_broker import ScratchBroker

HEADERS = {"id": "chosen", "task": "some.task", "retries": 0}


@pytest.fixture
def broker():
    with ScratchBroker() as broker:
        yield broker


@pytest.fixture
def producer(broker):
    with Connection(broker.url) as connection:
        yield connection.Producer()


def stored(broker):
    with Client(broker.url) as client:
        return sum(queue.ready for queue in client.admin.queues())


def publish(producer, headers):
    # The properties are new each time, as those of the next step of a chain are.
    producer.publish([[], {}, {}], routing_key="work", declare=[Queue("work")], headers=headers)


def test_the_same_headers_again_after_a_failure_are_the_same_task(broker, producer, monkeypatch):
    publish_in_truth = channels.publish

    def publish_and_lose_the_answer(*arguments):
        publish_in_truth(*arguments)
        raise ConnectionResetError("the broker is gone")

    headers = dict(HEADERS)
    with monkeypatch.context() as patch:
        patch.setattr(channels, "publish", publish_and_lose_the_answer)
        with pytest.raises(ConnectionResetError):
            publish(producer, headers)
    assert stored(broker) == 1
    publish(producer, headers)
    assert stored(broker) == 1
    # Whoever publishes once more now means another task, and so do other headers.
    publish(producer, headers)
    publish(producer, dict(HEADERS))
    assert stored(broker) == 3
