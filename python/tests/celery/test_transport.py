"""The transport of kombu, without Celery's worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

pytest.importorskip("kombu.exceptions", reason="kombu is not installed in this environment")

import kombu

import celeriac._register
from celeriac import _codec as wire
from celeriac.scratch_broker import ScratchBroker

celeriac._register.register()
SOURCES = str(Path(celeriac.__file__).parents[1])
WAIT = 20


@pytest.fixture(scope="module")
def broker():
    with ScratchBroker() as broker:
        yield broker


@pytest.fixture
def connect(broker):
    """Opens connections."""
    opened = []

    def connect():
        connection = kombu.Connection(broker.url)
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.release()


def queue_of_tasks(**options):
    name = f"tasks-{uuid4().hex}"
    return kombu.Queue(name, kombu.Exchange(name), name, **options)


def mailbox(**options):
    return queue_of_tasks(auto_delete=True, durable=False, **options)


def publish(connection, queue, *bodies, **options):
    producer = kombu.Producer(connection.default_channel, serializer="json")
    for body in bodies:
        producer.publish(
            body,
            exchange=queue.exchange,
            routing_key=queue.routing_key,
            declare=[queue],
            **options,
        )


def read(connection, count):
    """Handles events until a consumer has got so many messages."""

    def read(got, seconds=WAIT):
        until = time.monotonic() + seconds
        while len(got) < count and time.monotonic() < until:
            try:
                connection.drain_events(timeout=max(until - time.monotonic(), 0.01))
            except TimeoutError:
                break
        return [message.payload for message in got]

    return read


def consume(connection, queue, count, seconds=WAIT):
    """The messages of a queue, which are not acknowledged."""
    got = []
    with kombu.Consumer(connection.channel(), [queue], on_message=got.append):
        read(connection, count)(got, seconds)
    return got


@pytest.mark.parametrize("make", [queue_of_tasks, mailbox])
def test_a_message_that_came_too_late_is_not_read(connect, make):
    connection, queue = connect(), make()
    publish(connection, queue, "late", expiration=0.2)
    publish(connection, queue, "in time", expiration=60)
    time.sleep(0.5)
    got = []
    with kombu.Consumer(connection.channel(), [queue], on_message=got.append, no_ack=True):
        assert read(connection, 1)(got) == ["in time"]


def test_a_late_message_of_a_mailbox_is_not_fetched(connect):
    connection, queue = connect(), mailbox()
    publish(connection, queue, "late", expiration=0.2)
    publish(connection, queue, "in time")
    time.sleep(0.5)
    bound = queue(connection.default_channel)
    assert bound.get(no_ack=True).payload == "in time"
    assert bound.get(no_ack=True) is None


@pytest.mark.parametrize("make", [queue_of_tasks, mailbox])
def test_the_highest_priority_is_read_first(connect, make):
    connection, queue = connect(), make()
    for priority, body in ((3, "low"), (None, "lowest"), (6, "high"), (3, "low too")):
        publish(connection, queue, body, priority=priority)
    got = []
    with kombu.Consumer(connection.channel(), [queue], on_message=got.append, no_ack=True):
        assert read(connection, 4)(got) == ["high", "low", "low too", "lowest"]


@pytest.mark.parametrize("make", [queue_of_tasks, mailbox])
def test_messages_that_go_back_together_keep_their_order(connect, make):
    connection, queue = connect(), make()
    publish(connection, queue, *range(5))
    got = []
    with kombu.Consumer(connection.channel(), [queue], on_message=got.append):
        assert read(connection, 5)(got) == [0, 1, 2, 3, 4]
        for message in got:
            message.requeue()
        got.clear()
        assert read(connection, 5)(got) == [0, 1, 2, 3, 4]
        assert all(message.delivery_info["redelivered"] for message in got)
        for message in got:
            message.ack()


def test_a_message_goes_back_although_the_channel_has_more_and_does_nothing_else(connect):
    connection, other, queue = connect(), connect(), queue_of_tasks()
    publish(connection, queue, "first", "second")
    held = consume(connection, queue, 2)
    held[0].requeue()
    got = []
    with kombu.Consumer(other.channel(), [queue], on_message=got.append):
        assert read(other, 1)(got) == ["first"]
        got[0].ack()
    held[1].ack()


def calls_of(connection):
    """Notes the requests of a connection that wait for an answer."""
    line, called = connection.connection.line, []
    original = line.call

    def call(body, *args):
        called.append(type(body).__name__)
        return original(body, *args)

    line.call = call
    return called


def test_a_message_to_mailboxes_waits_for_no_answer(connect):
    connection, queue = connect(), mailbox()
    queue(connection.default_channel).declare()
    producer = kombu.Producer(connection.default_channel, queue.exchange, serializer="json")
    got = []
    with kombu.Consumer(connection.channel(), [queue], on_message=got.append, no_ack=True):
        producer.publish(0, routing_key=queue.routing_key)
        called = calls_of(connection)
        for number in range(1, 4):
            producer.publish(number, routing_key=queue.routing_key)
        # An answer counts for a second, so a slow machine may ask once more.
        assert len(called) < 3
        assert read(connection, 4)(got) == [0, 1, 2, 3]


def test_a_queue_of_tasks_that_is_bound_later_gets_what_follows(connect):
    connection, exchange = connect(), kombu.Exchange(f"fan-{uuid4().hex}", "fanout")
    name = f"tasks-{uuid4().hex}"
    box = kombu.Queue(f"box-{name}", exchange, auto_delete=True, durable=False)
    queue = kombu.Queue(name, exchange)
    channel = connection.default_channel
    box(channel).declare()
    producer = kombu.Producer(channel, exchange, serializer="json")
    producer.publish("early")
    queue(channel).declare()
    producer.publish("late")
    assert queue(channel).get(no_ack=True).payload == "late"
    assert [box(channel).get(no_ack=True).payload for _ in range(2)] == ["early", "late"]
    queue(channel).unbind_from(exchange)
    producer.publish("last")
    assert queue(channel).get(no_ack=True) is None
    assert box(channel).get(no_ack=True).payload == "last"
    queue(channel).delete()


def test_a_queue_that_another_program_binds_gets_what_follows_soon(connect):
    connection, other = connect(), connect()
    exchange = kombu.Exchange(f"topic-{uuid4().hex}", "topic")
    exchange(connection.default_channel).declare()
    producer = kombu.Producer(connection.default_channel, exchange, serializer="json")
    producer.publish("nobody reads it", routing_key="a.b")
    queue = kombu.Queue(f"tasks-{uuid4().hex}", exchange, routing_key="a.*")
    queue(other.default_channel).declare()
    until = time.monotonic() + WAIT
    found = None
    while found is None and time.monotonic() < until:
        producer.publish("hello", routing_key="a.b")
        found = queue(other.default_channel).get(no_ack=True)
    assert found is not None
    assert found.payload == "hello"
    queue(other.default_channel).delete()


def test_a_message_of_another_program_is_read(connect):
    connection, queue = connect(), mailbox()
    queue(connection.default_channel).declare()
    connection.connection.line.call(
        wire.Publish(routing_key=queue.name, body=b"hello", properties=b"\xff no envelope"),
        wire.CountReply,
    )
    got = []
    with kombu.Consumer(connection.channel(), [queue], on_message=got.append, no_ack=True):
        until = time.monotonic() + WAIT
        while not got and time.monotonic() < until:
            connection.drain_events(timeout=WAIT)
    assert [bytes(message.body) for message in got] == [b"hello"]
    assert got[0].delivery_info["routing_key"] == queue.name


def test_a_task_with_an_envelope_of_nonsense_is_delivered(connect):
    connection, queue = connect(), queue_of_tasks()
    bound = queue(connection.default_channel)
    bound.declare()
    headers = {"celeriac.amqp": b"[]"}, {"celeriac.amqp-length": b"many"}
    tasks = [wire.Task(name="song", queue=queue.name, payload=b"[]", headers=h) for h in headers]
    for number, task in enumerate(tasks):
        task.id = f"{queue.name}-{number}"
    connection.connection.line.call(wire.Submit(tasks=tasks), wire.SubmitReply)
    for _ in tasks:
        message = bound.get()
        assert bytes(message.body) == b"[]"
        message.ack()
    bound.delete()


@pytest.mark.parametrize(
    "lines",
    [
        "import celeriac; import kombu",
        "import kombu; kombu.Connection; import celeriac",
        "import celeriac; import kombu.transport; import inspect; "
        "assert 'TRANSPORT_ALIASES' in inspect.getsource(kombu.transport)",
    ],
)
def test_kombu_alone_knows_the_scheme_after_an_import_of_the_package(broker, lines):
    program = f"{lines}\nwith kombu.Connection({broker.url!r}) as found: print(found.connect())"
    environment = {"PYTHONPATH": SOURCES, "PATH": ""}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_imports_nothing_of_kombu():
    program = "import celeriac, sys; sys.exit('kombu' in sys.modules)"
    environment = {"PYTHONPATH": SOURCES, "PATH": ""}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


def test_a_connection_goes_on_to_the_next_address(broker):
    connection = kombu.Connection(f"celeriac://127.0.0.1:1;{broker.url}")
    assert (connection.hostname, connection.port) == ("127.0.0.1", 1)
    connection.connect()
    assert connection.port == broker.port
    connection.release()


@pytest.mark.parametrize("make", [queue_of_tasks, mailbox])
def test_a_consumer_of_a_lost_connection_is_cancelled_without_an_error(make):
    with ScratchBroker() as broker, kombu.Connection(broker.url) as connection:
        queue = make()
        consumer = kombu.Consumer(connection.channel(), [queue], on_message=print)
        consumer.consume()
        broker.kill()
        with pytest.raises(connection.connection_errors):
            connection.drain_events(timeout=WAIT)
        consumer.cancel()
        assert not connection.connected


def test_a_declaration_right_after_a_restart_of_the_broker_finds_the_new_one():
    with ScratchBroker() as broker, kombu.Connection(broker.url) as connection:
        for _ in range(3):
            queue_of_tasks()(connection.default_channel).declare()
            broker.kill()
            broker.start()
        queue_of_tasks()(connection.default_channel).declare()


def test_the_end_of_a_connection_to_a_silent_broker_is_bounded():
    with ScratchBroker() as broker:
        connection = kombu.Connection(broker.url)
        for queue in (queue_of_tasks(), mailbox()):
            kombu.Consumer(connection.channel(), [queue], on_message=print).consume()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            # Celery does so before it shuts down, and after it has lost a connection.
            connection._connection._transport.sock.settimeout(0.5)
            connection.close()
            assert time.monotonic() - began < 15
        finally:
            os.kill(broker.pid, signal.SIGCONT)
