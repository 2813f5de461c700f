"""A broker that is away, or that is no broker, and programs that fork, share, idle or are
interrupted: errors are those that users of Celery expect, and nothing hangs."""

from __future__ import annotations

import datetime
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.app.backends import BACKEND_ALIASES
from kit import HERE, WAIT, Worker, environment, until, worker
from kombu import Queue
from kombu.exceptions import OperationalError

from celeriac.celery import line
from celeriac.scratch_broker import ScratchBroker
from celery import Celery
from cutting_proxy import CuttingProxy

NOBODY = "celeriac://127.0.0.1:1"


@pytest.fixture
def app_of():
    made = []

    def make(url, **conf):
        BACKEND_ALIASES["celeriac"] = "celeriac.celery.backend:CeleriacBackend"
        app = Celery("hardships", broker=url, backend=url, set_as_current=False)
        app.conf.update(conf)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def send(app, queue="hard", **options):
    return app.send_task("subject.add", (1, 1), queue=queue, **options)


def ready_in(app, queue):
    with app.connection() as connection:
        return connection.default_channel.queue_declare(queue, passive=True).message_count


# The broker is away


def test_an_import_needs_no_broker():
    script = "import subject; subject.app.finalize(); subject.add.s(1, 1); print(subject.app.tasks)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=HERE,
        env=environment(NOBODY),
        capture_output=True,
        timeout=WAIT,
    )
    assert b"subject.add" in done.stdout


def test_a_program_goes_on_when_its_broker_comes(app_of, own_broker):
    own_broker.kill()
    app = app_of(own_broker.url)
    for _ in range(3):
        with pytest.raises(OperationalError):
            send(app)
    own_broker.start()
    assert send(app).state == "PENDING"
    assert ready_in(app, "hard") == 1


@pytest.mark.parametrize("again", [True, False])
def test_a_worker_begins_before_its_broker(own_broker, app_of, again):
    own_broker.kill()
    conf = json.dumps({"broker_connection_retry_on_startup": again})
    running = Worker(own_broker, "-c", "1", "-P", "solo", CELERIAC_TEST_CONF=conf)
    try:
        if again:
            running.says("Cannot connect to celeriac://")
            own_broker.start()
            running.ready()
            assert send(app_of(own_broker.url), "celery").get(timeout=WAIT) == 2
        else:
            assert running.process.wait(WAIT) != 0
            assert "Shutting down" in running.log()
    finally:
        running.stop()


def test_a_broker_that_ends_within_a_batch_is_an_operational_error(app_of, own_broker):
    app = app_of(own_broker.url)
    app.conf.broker_transport_options = {"confirm_timeout": 2.0}
    with app.producer_pool.acquire(block=True) as producer:
        if not hasattr(producer, "batch"):
            pytest.skip("kombu before 5.7 has no batches")

        def publish():
            with producer.batch(10):
                for number in range(15):
                    send(app, producer=producer)
                    if number == 12:
                        own_broker.kill()

        with pytest.raises(OperationalError):
            publish()
    own_broker.start()
    send(app)
    # The first ten were on their way in one request, and nobody has said that they are stored.
    assert ready_in(app, "hard") in (1, 11)


def test_a_broker_that_restarts_between_a_delivery_and_its_acknowledgement(app_of, own_broker):
    """What was acknowledged is done, and what was not comes again."""
    app, got = app_of(own_broker.url), []
    ids = [send(app).id for _ in range(2)]

    def consume(connection):
        consumer = connection.Consumer(
            Queue("hard"), callbacks=[lambda _, message: got.append(message)], accept=["json"]
        )
        consumer.consume()

    with app.connection() as connection:
        consume(connection)
        while len(got) < 2:
            connection.drain_events(timeout=WAIT)
        own_broker.kill()
        own_broker.start()
        got[0].ack()
        with pytest.raises(connection.connection_errors):
            connection.drain_events(timeout=WAIT)
    with app.connection() as connection:
        consume(connection)
        connection.drain_events(timeout=WAIT)
        assert got[2].delivery_info["redelivered"]
        got[2].ack()
        assert [message.headers["id"] for message in got] == [*ids, ids[1]]
    until(lambda: ready_in(app, "hard") == 0, "an empty queue")


# What answers is no broker


@pytest.mark.parametrize(
    ("answer", "reason"), [(b"\x15\x03\x01\x00\x02\x02\x28", "TLS"), (b"", "lost|answer")]
)
def test_a_port_of_tls_and_a_silent_port_are_operational_errors(app_of, answer, reason):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                opened, _ = listener.accept()
            except OSError:
                return
            opened.recv(1000)
            if answer:
                opened.sendall(answer)
                opened.close()
            else:
                held.append(opened)

    held = []
    threading.Thread(target=serve, daemon=True).start()
    url = f"celeriac://127.0.0.1:{listener.getsockname()[1]}"
    policy = {"max_retries": 1, "interval_start": 0.1}
    app = app_of(url, broker_connection_timeout=1, task_publish_retry_policy=policy)
    with pytest.raises(OperationalError, match=reason):
        send(app)
    listener.shutdown(socket.SHUT_RDWR)
    for each in (listener, *held):
        each.close()


# Processes and threads


def test_a_child_that_was_forked_after_the_connection_opens_its_own(app_of, broker):
    app = app_of(broker.url)
    with app.connection() as connection, connection.channel() as channel:
        Queue("forked")(channel).declare()
        send(app, "forked")
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(10):
                    send(app, "forked")
                os._exit(0)
            finally:
                os._exit(2)
        for _ in range(10):
            send(app, "forked")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        send(app, "forked")
        assert channel.queue_declare("forked", passive=True).message_count == 22


def test_threads_share_a_connection(app_of, broker):
    app, errors = app_of(broker.url), []
    with app.connection() as connection:
        producer = connection.Producer()
        send(app, "shared", producer=producer)

        def publish():
            try:
                for _ in range(25):
                    send(app, "shared", producer=producer)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=publish) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(WAIT)
    assert errors == []
    assert ready_in(app, "shared") == 201


def test_pickle_carries_what_json_cannot(quick_broker, app_of):
    conf = {"task_serializer": "pickle", "result_serializer": "pickle"}
    conf["accept_content"] = conf["result_accept_content"] = ["pickle", "json"]
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    span = datetime.timedelta(days=1)
    variables = {"CELERIAC_TEST_CONF": json.dumps(conf), "C_FORCE_ROOT": "1"}
    with worker(quick_broker, "-c", "1", "-Q", "pickle", **variables):
        app = app_of(quick_broker.url, **conf)
        result = app.send_task("subject.add", (moment, span), queue="pickle")
        assert result.get(timeout=WAIT) == moment + span
        failing = app.send_task("subject.odd", ("odd_error",), queue="pickle")
        until(lambda: failing.state == "FAILURE", "the end")
        assert isinstance(failing.result, Exception)


# Programs that publish and are idle


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_connection_that_was_closed_while_its_program_was_idle(
    app_of, own_broker, monkeypatch, end
):
    """A broker that ends in order says so before."""
    app = app_of(own_broker.url, task_publish_retry=False)
    send(app)
    monkeypatch.setattr(line, "_IDLE_SECONDS", 0.0)
    for _ in range(3):
        getattr(own_broker, end)()
        own_broker.start()
        send(app)
    for number in range(3):
        getattr(own_broker, end)()
        own_broker.start()
        # The next request declares something.
        with app.pool.acquire(block=True) as connection:
            Queue(f"declared-{number}")(connection.default_channel).declare()
    assert ready_in(app, "hard") == 4


def test_a_connection_that_was_forgotten_on_the_way_while_its_program_was_idle(app_of, broker):
    """A firewall drops what was idle for too long, and tells nobody."""
    with CuttingProxy(broker.port) as proxy:
        app = app_of(proxy.url, task_publish_retry=False)
        app.conf.broker_transport_options = {"confirm_timeout": 1.0}
        send(app, "idle")
        proxy.freeze()
        send(app, "idle")
        assert proxy.accepted == 2
        app.close()
    assert ready_in(app_of(broker.url), "idle") == 2


def test_a_program_that_is_idle_for_many_lease_times_keeps_its_connections(app_of):
    """A web process publishes once an hour. Its sessions have no heartbeats."""
    with ScratchBroker("--lease-ms", "1000", "--heartbeat-ms", "300") as quick:
        app = app_of(quick.url, task_publish_retry=False)
        first = send(app, "idle")
        assert first.state == "PENDING"
        with app.pool.acquire(block=True) as connection:
            before = connection.connection.line.sock.getsockname()
        # The time itself is the subject: six lease times.
        time.sleep(6)
        again = send(app, "idle")
        assert again.state == "PENDING"
        with app.pool.acquire(block=True) as connection:
            assert connection.connection.line.sock.getsockname() == before
        assert ready_in(app, "idle") == 2


# Interrupts


class Interrupt(BaseException):
    """What Ctrl-C and time limits raise, at any moment."""


def test_an_interrupt_at_any_moment_leaves_a_program_that_goes_on(app_of, quick_broker):
    # An interrupt within kombu's pool would cost one of its connections.
    app = app_of(quick_broker.url, broker_pool_limit=None)
    chance = random.Random(7)
    interrupts = 0

    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with (
            worker(quick_broker, "-c", "1", "-P", "threads", "-Q", "interrupted"),
            app.connection() as connection,
            connection.Producer() as producer,
        ):
            for number in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0002, 0.02))
                    result = app.send_task(
                        "subject.add",
                        (number, number),
                        queue="interrupted",
                        producer=producer,
                    )
                    assert result.get(timeout=WAIT) == 2 * number
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupt:
                    interrupts += 1
                except BaseException:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    raise
            signal.setitimer(signal.ITIMER_REAL, 0)
            result = app.send_task("subject.add", (5, 6), queue="interrupted", producer=producer)
            assert result.get(timeout=WAIT) == 11
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 10


@pytest.mark.parametrize("where", ["send", "recv"])
def test_a_line_that_was_interrupted_in_the_middle_of_a_frame_is_given_up(
    app_of, broker, monkeypatch, where
):
    """The bytes that were written, or read, are half a frame."""
    app, queue = app_of(broker.url, task_publish_retry=False), f"halves-{where}"
    with app.connection() as connection:
        producer = connection.Producer()
        send(app, queue, producer=producer)
        used = connection.connection.line

        class Socket:
            def __init__(self, real):
                self.real = real

            def __getattr__(self, name):
                return getattr(self.real, name)

            def send(self, data):
                self.real.send(data[:10])
                raise Interrupt

            def recv(self, count, *flags):
                if not flags:
                    self.real.recv(10)
                    raise Interrupt
                return self.real.recv(count, *flags)

        name = "_writer" if where == "send" else "sock"
        monkeypatch.setattr(used, name, Socket(getattr(used, name)))
        with pytest.raises(Interrupt):
            send(app, queue, producer=producer)
        send(app, queue, producer=producer)
    # What was written whole before the interrupt is a task.
    assert ready_in(app, queue) == (2 if where == "send" else 3)
