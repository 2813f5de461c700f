"""Publishing without waiting for each answer."""

import os
import subprocess
import sys
import threading

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kombu.exceptions import OperationalError
from running import HERE, WAIT, app_of, wait_until

from celeriac.celery import pipeline
from celeriac.client import Client
from celeriac.listing import QueueSettings
from celeriac.scratch_broker import ScratchBroker

NAME = "results_subject"


@pytest.fixture
def broker():
    with ScratchBroker() as broker:
        yield broker


@pytest.fixture
def subject(broker):
    made = app_of(NAME, broker.url)
    made.app.conf.broker_transport_options = {"confirm": "pipeline"}
    yield made
    made.app.close()


def stored(broker):
    """How many tasks wait at the broker."""
    with Client(broker.url) as client:
        return sum(queue.ready for queue in client.admin.queues())


def only_pipeline(subject):
    with subject.app.producer_pool.acquire(block=True) as producer:
        return producer.channel.connection.pipeline


def test_all_are_stored_after_a_flush(subject, broker):
    for number in range(2500):
        subject.echo.delay(number)
    pipeline.flush()
    assert stored(broker) == 2500
    assert only_pipeline(subject)._count == 0


def test_the_window_bounds_what_is_unanswered(subject):
    most = 0
    for number in range(1500):
        subject.echo.delay(number)
        most = max(most, only_pipeline(subject)._count)
    assert 1 < most <= pipeline.WINDOW


def test_a_batch_and_a_closed_connection(subject, broker):
    with subject.app.producer_pool.acquire(block=True) as producer, producer.batch(100):
        for number in range(250):
            subject.echo.apply_async((number,), producer=producer)
    subject.echo.delay(1)
    subject.app.pool.force_close_all()
    assert stored(broker) >= 250
    pipeline.flush()
    assert stored(broker) == 251


def test_a_refusal_is_raised_by_the_next_publish(subject, broker):
    subject.echo.delay(1)
    pipeline.flush()
    with Client(broker.url) as client:
        client.admin.configure_queue("celery", QueueSettings(tasks_max=1))
    subject.echo.delay(2)
    line = only_pipeline(subject)._connection.line
    line.read_until(lambda: not only_pipeline(subject)._count, WAIT)
    with pytest.raises(OperationalError):
        subject.echo.apply_async((3,), retry=False)
    assert stored(broker) == 1


def test_nothing_is_lost_and_nothing_counts_twice_over_a_restart(subject, broker):
    """The broker ends while tasks are on their way to it, again and again."""
    policy = {"max_retries": 100, "interval_start": 0.05, "interval_step": 0}
    subject.app.conf.task_publish_retry_policy = policy
    names = []
    ended = threading.Event()

    def restart():
        for _ in range(3):
            goal = len(names) + 100
            wait_until(lambda goal=goal: len(names) > goal or ended.is_set())
            broker.kill()
            broker.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    while len(names) < 600:
        names.append(subject.echo.delay(len(names)).id)
    restarting.join(WAIT)
    ended.set()
    pipeline.flush()
    assert stored(broker) == 600
    with Client(broker.url) as client:
        assert all(info.generation == 1 for info in client.info(names))


def test_a_program_confirms_at_its_end(broker):
    script = """
import results_subject as subject
subject.app.conf.broker_transport_options = {"confirm": "pipeline"}
for number in range(300):
    subject.echo.delay(number)
"""
    environment = {**os.environ, "CELERIAC_TEST_URL": broker.url}
    environment["PYTHONPATH"] = os.pathsep.join((str(HERE.parent.parent / "src"), str(HERE)))
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=WAIT, check=True)
    assert stored(broker) == 300


def test_a_forked_child_leaves_the_tasks_of_its_parent(subject, broker):
    subject.echo.delay(1)
    pid = os.fork()
    if pid == 0:
        try:
            subject.echo.delay(2)
            pipeline.flush()
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    subject.echo.delay(3)
    pipeline.flush()
    assert stored(broker) == 3
