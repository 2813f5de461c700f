"""What users of other brokers have reported as bugs of Celery and kombu. The numbers are those of
their public issues."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.result import AsyncResult
from kit import HERE, WAIT, Worker, environment, until, worker
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from celeriac.celery import line
from celery import Celery, chord
from cutting_proxy import CuttingProxy


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


def test_a_message_on_a_frozen_network_comes_to_another_worker_and_once(
    apps, quick_broker, tmp_path
):
    """kombu 305, 1405, 1733: Redis had taken it off its queue, and no worker had got it."""
    marks = tmp_path / "marks"
    with CuttingProxy(quick_broker.port) as proxy:
        cut = Worker(quick_broker, "-c", "1", "-Q", "frozen", CELERIAC_TEST_URL=proxy.url).ready()
        try:
            proxy.freeze()
            names = [f"task-{number}" for number in range(4)]
            for name in names:
                apps.note.apply_async((str(marks), name), queue="frozen")
            with worker(quick_broker, "-c", "1", "-Q", "frozen"):
                until(lambda: len(runs_in(marks)) == len(names), "every run")
        finally:
            cut.kill()
    assert runs_in(marks) == dict.fromkeys(names, 1)


def test_a_message_that_is_delivered_again_has_a_tag_of_its_own(apps, quick_broker):
    """kombu 2487: the second delivery took the place of the first, and its `ack` failed."""
    apps.add.apply_async((1, 1), queue="tags")
    with apps.app.connection() as connection:
        first, second = connection.channel(), connection.channel()
        early = first.basic_get("tags")
        early.requeue()
        late = second.basic_get("tags")
        assert late.delivery_tag != early.delivery_tag
        # The old tag acknowledges nothing any more.
        first.basic_ack(early.delivery_tag)
        assert first.basic_get("tags") is None
        late.requeue()
        last = first.basic_get("tags")
        assert last.headers["id"] == early.headers["id"]
        last.ack()
        assert second.basic_get("tags") is None


def test_publishing_to_a_broker_that_takes_nothing_ends_with_an_error(
    apps, quick_broker, monkeypatch
):
    """celery 2689, 9259: RabbitMQ stopped reading, and `apply_async` never returned. celery 4296,
    4383: the second call without a broker hung."""
    monkeypatch.setattr(line, "CALL_SECONDS", 1.0)
    app = Celery("silent", broker=quick_broker.url, set_as_current=False)
    app.conf.broker_transport_options = {"confirm_timeout": 1.0}
    app.conf.update(broker_connection_timeout=1, task_publish_retry_policy={"max_retries": 1})
    app.send_task("subject.add", (1, 1), queue="silent")
    os.kill(quick_broker.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(OperationalError):
                app.send_task("subject.add", ("x" * 4_000_000, ""), queue="silent")
    finally:
        os.kill(quick_broker.pid, signal.SIGCONT)
    assert app.send_task("subject.add", (1, 1), queue="silent")
    app.close()


@pytest.mark.parametrize("expires", [0, None])
def test_a_chord_ends_when_results_never_expire(apps, quick_broker, expires):
    """celery 5237: with `result_expires` 0 or None the body never ran on Redis."""
    app = Celery("subject", broker=quick_broker.url, backend=quick_broker.url)
    app.conf.result_expires = expires
    conf = json.dumps({"result_expires": expires})
    with worker(quick_broker, "-c", "1", CELERIAC_TEST_CONF=conf):
        header = [app.signature("subject.add", (n, n)) for n in range(3)]
        assert chord(header, app=app)(app.signature("subject.total")).get(timeout=WAIT) == 6
    app.close()


def test_the_body_of_a_chord_waits_for_members_that_retry(apps, quick_broker):
    """celery 2324: the body began while a member waited for its retry."""
    with worker(quick_broker, "-c", "2"):
        result = chord([apps.again.s(), apps.add.s(1, 1), apps.again.s()])(apps.total.s())
        assert result.get(timeout=WAIT) == 6


def test_a_worker_with_short_lived_processes_consumes_after_a_restart_of_the_broker(
    apps, quick_broker
):
    """celery 7800: with `--max-tasks-per-child` it got no more tasks."""
    with worker(quick_broker, "-c", "2", "--max-tasks-per-child", "2", "-Q", "short") as running:

        def some():
            return [apps.add.apply_async((n, n), queue="short") for n in range(8)]

        assert [each.get(timeout=WAIT) for each in some()] == [0, 2, 4, 6, 8, 10, 12, 14]
        said = running.said()
        quick_broker.kill()
        quick_broker.start()
        running.is_back(quick_broker, said)
        assert [each.get(timeout=WAIT) for each in some()] == [0, 2, 4, 6, 8, 10, 12, 14]


def test_a_queue_that_was_added_by_a_command_is_consumed_after_a_restart_of_the_broker(
    apps, quick_broker
):
    """celery 987: the worker connected again, and had forgotten the queue."""
    with worker(quick_broker, "-c", "1", "-Q", "first") as running:
        apps.app.control.add_consumer("later-added", reply=True, timeout=WAIT, limit=1)
        assert apps.add.apply_async((1, 1), queue="later-added").get(timeout=WAIT) == 2
        said = running.said()
        quick_broker.kill()
        quick_broker.start()
        running.is_back(quick_broker, said)
        assert apps.add.apply_async((2, 2), queue="later-added").get(timeout=WAIT) == 4


def test_results_that_were_read_leave_no_memory_in_their_program(apps, quick_broker):
    """celery 3813, 6772, 6963: each `get`, and each result that nobody read, left objects and
    subscriptions behind."""
    consumer = apps.app.backend.result_consumer
    with worker(quick_broker, "-c", "1", "-P", "threads", "-Q", "leaks"):

        def some():
            for number in range(50):
                apps.add.apply_async((number, number), queue="leaks").get(timeout=WAIT)
                apps.add.apply_async((number, number), queue="leaks")

        def left():
            gc.collect()
            kept = [each for each in gc.get_objects() if isinstance(each, AsyncResult)]
            return len(kept), len(consumer._watched), len(consumer._wanted)

        some()
        before = left()
        for _ in range(4):
            some()
        assert left() == before


def test_ten_thousand_messages_come_all_and_in_order(quick_broker):
    """kombu 593: of 10,000 messages on Redis a consumer got a part, in another order."""
    got = []
    with Connection(quick_broker.url) as connection:
        queue = Queue("many")(connection.default_channel)
        queue.declare()
        producer = connection.Producer(serializer="json")
        with producer.batch(500):
            for number in range(10_000):
                producer.publish(number, routing_key="many")

        def take(body, message):
            got.append(body)
            message.ack()

        with connection.Consumer(queue, callbacks=[take], prefetch_count=100):
            while len(got) < 10_000:
                connection.drain_events(timeout=WAIT)
    assert got == list(range(10_000))
