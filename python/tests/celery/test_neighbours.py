"""What is used beside a worker: its commands, other workers, events, beat and other backends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.contrib.migrate import migrate_tasks
from kit import HERE, WAIT, environment, until, worker
from kombu import Connection
from kombu.simple import SimpleQueue

from celeriac.scratch_broker import ScratchBroker
from celery import Celery, group


def run(broker, *arguments, stdin=None):
    """A command of Celery, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "subject", *arguments],
        cwd=HERE,
        env=environment(broker.url),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    return done.stdout + done.stderr


def start(broker, log, *arguments, **variables):
    """A program of Celery that goes on, with its output in a file."""
    with open(log, "wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "subject", *arguments],
            cwd=HERE,
            env=environment(broker.url, PYTHONUNBUFFERED="1", **variables),
            stdout=file,
            stderr=file,
        )


def test_two_workers_find_each_other_and_come_through_a_restart_of_the_broker(apps, quick_broker):
    with worker(quick_broker, "-c", "1") as first, worker(quick_broker, "-c", "1") as second:
        second.says("mingle: sync with 1 nodes")
        first.says(f"sync with {second.name}")
        quick_broker.kill()
        for each in (first, second):
            each.says("Connection to broker lost")
        quick_broker.start()
        for each in (first, second):
            until(lambda each=each: each.log().count("Connected to") == 2, "the new connection")
        assert apps.add.delay(1, 1).get(timeout=WAIT) == 2
        both = {first.name, second.name}
        until(lambda: set(apps.app.control.inspect(timeout=2).ping() or ()) == both, "both answers")
        assert "Traceback" not in first.log() + second.log()


def test_commands_change_a_worker_while_it_runs(apps, quick_broker):
    control = apps.app.control
    with worker(quick_broker, "-c", "1") as running:

        def reply(command, **arguments):
            answers = control.broadcast(command, arguments, reply=True, timeout=WAIT, limit=1)
            return answers[0][running.name]

        assert "ok" in reply("rate_limit", task_name="subject.total", rate_limit="1/m")
        assert "ok" in reply("pool_grow", n=1)
        assert "ok" in reply("add_consumer", queue="extra")
        result = apps.add.apply_async((1, 1), queue="extra")
        assert result.get(timeout=WAIT) == 2
        assert "ok" in reply("cancel_consumer", queue="extra")
        waiting = apps.add.apply_async((1, 1), queue="extra")
        assert apps.add.delay(1, 1).get(timeout=WAIT) == 2
        assert waiting.state == "PENDING"
        limited = [apps.total.delay([1]) for _ in range(2)]
        until(lambda: [each.state for each in limited].count("SUCCESS") == 1, "one run a minute")
        assert "Purged 1 message" in run(quick_broker, "purge", "-f", "-Q", "extra")
        assert waiting.state == "REVOKED"
        control.revoke(limited[0].id)
        control.revoke(limited[1].id)
        control.shutdown()
        assert running.process.wait(WAIT) == 0
    run(quick_broker, "purge", "-f")


def test_the_shell_publishes_gets_and_acknowledges(quick_broker):
    shown = run(
        quick_broker,
        "amqp",
        "repl",
        stdin="queue.declare shell\nbasic.publish hello '' shell\nbasic.get shell\n",
    )
    assert "queue:shell messages:0 consumers:0" in shown
    assert "b'hello'" in shown
    # The shell ended without an acknowledgement: the message is back.
    assert "queue:shell messages:1" in run(quick_broker, "amqp", "queue.declare", "shell")
    assert "1 messages deleted" in run(quick_broker, "amqp", "queue.purge", "shell")


def test_bindings_are_listed(apps, quick_broker):
    with worker(quick_broker, "-c", "1") as running:
        shown = run(quick_broker, "list", "bindings")
    assert f"{running.name}.celery.pidbox" in shown
    assert "celeryev" in shown


def test_events_are_dumped(apps, quick_broker, tmp_path):
    log = tmp_path / "events"
    with worker(quick_broker, "-c", "1", "-E") as running:
        monitor = start(quick_broker, log, "events", "--dump")
        try:
            # Its first event of the worker says that it listens.
            until(lambda: running.name in log.read_text(), "a heartbeat")
            result = apps.add.delay(1, 1)
            text = f"task succeeded: subject.add({result.id})"
            until(lambda: text in log.read_text(), "the event")
        finally:
            monitor.terminate()
            monitor.wait(WAIT)


def test_beat_goes_on_over_a_restart_of_the_broker(apps, quick_broker, tmp_path):
    schedule = {"tick": {"task": "subject.add", "schedule": 0.5, "args": [1, 1]}}
    variables = {"CELERIAC_TEST_CONF": json.dumps({"beat_schedule": schedule})}
    log = tmp_path / "beat"
    with worker(quick_broker, "-c", "1") as running:

        def runs():
            return running.log().count("succeeded")

        beat = start(
            quick_broker, log, "beat", "-s", str(tmp_path / "s"), "-l", "INFO", **variables
        )
        try:
            until(lambda: runs() >= 2, "two runs")
            quick_broker.kill()
            quick_broker.start()
            seen = runs()
            until(lambda: runs() >= seen + 3, "further runs")
        finally:
            beat.terminate()
            beat.wait(WAIT)


def test_the_backend_rpc_answers(apps, quick_broker):
    app = Celery("subject", broker=quick_broker.url, backend="rpc://")
    conf = json.dumps({"result_backend": "rpc://"})
    with worker(quick_broker, "-c", "2", CELERIAC_TEST_CONF=conf):
        some = group(app.signature("subject.add", (n, n)) for n in range(10))()
        assert some.get(timeout=WAIT) == [2 * n for n in range(10)]
        with pytest.raises(ValueError, match="has no end"):
            app.send_task("subject.fail").get(timeout=WAIT)


def test_a_broadcast_reaches_each_worker_once(apps, quick_broker):
    conf = json.dumps({"celeriac_test_broadcast": "to-all"})
    with (
        worker(quick_broker, "-c", "1", CELERIAC_TEST_CONF=conf) as first,
        worker(quick_broker, "-c", "1", CELERIAC_TEST_CONF=conf) as second,
    ):
        result = apps.add.apply_async(
            (1, 1), exchange="to-all", exchange_type="fanout", routing_key="any"
        )
        for each in (first, second):
            each.says(f"[{result.id}] succeeded")
            assert each.log().count(f"[{result.id}] received") == 1


def test_simple_queues_and_buffers(quick_broker):
    with Connection(quick_broker.url) as connection:
        queue = connection.SimpleQueue("simple")
        queue.put({"number": 1})
        queue.put("two")
        assert len(queue) == 2
        first = queue.get(timeout=WAIT)
        assert first.payload == {"number": 1}
        first.ack()
        queue.get(timeout=WAIT).requeue()
        again = queue.get(timeout=WAIT)
        assert (again.payload, again.delivery_info["redelivered"]) == ("two", True)
        again.ack()
        with pytest.raises(SimpleQueue.Empty):
            queue.get_nowait()
        queue.close()
        buffer = connection.SimpleBuffer("buffer")
        buffer.put([1, 2])
        assert buffer.get(timeout=WAIT).payload == [1, 2]
        buffer.close()


def test_tasks_migrate_from_one_broker_to_another(apps, quick_broker):
    apps.app.control.purge()
    results = [apps.add.apply_async((n, n), queue="celery") for n in range(5)]
    with ScratchBroker() as other:
        target = Celery("subject", broker=other.url, backend=other.url)
        migrate_tasks(
            Connection(quick_broker.url), Connection(other.url), limit=5, app=apps.app, timeout=5
        )
        with worker(other, "-c", "1"):
            values = [target.AsyncResult(each.id).get(timeout=WAIT) for each in results]
    assert values == [0, 2, 4, 6, 8]
