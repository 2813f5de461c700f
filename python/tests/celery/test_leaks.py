"""Commands, monitors and workers that come and go leave nothing in the broker.

With `CELERIAC_TEST_LONG=1` the tests send the events of 24 hours (ten in a second) and 10,000
pings, and start and kill 100 workers, which takes some minutes. Without it they do a share of that,
and look at the memory as often.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.app.events import Events
from kit import HERE, WAIT, Worker, environment, until, worker
from kombu import Exchange, Queue

from celeriac import _codec as wire
from celeriac.celery.session import sessions
from celeriac.client import Client

IS_LONG = bool(os.environ.get("CELERIAC_TEST_LONG"))
EVENTS = 24 * 3600 * 10 if IS_LONG else 60_000
PINGS = 10_000 if IS_LONG else 1000
WORKERS = 100
KILLED = 25 if IS_LONG else 1
"""So many times four workers are started and killed."""
POOLED = 15
"""As many connections the app in this process may keep open, with that of its result backend."""
PARTS = 4
"""The memory is looked at so often."""
GROWTH_KIB = 4096
FILLED = 15_000
"""So many events fill the mailbox of a reader that hangs: it holds 10,000."""


def memory_of(pid):
    """The memory that a process uses, in KiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def sockets_of(pid):
    """How many sockets a process has open."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def mailboxes_in(apps):
    with apps.app.connection() as connection:
        line = connection.connection.line
        listed = line.call(wire.ListMailboxes(), wire.MailboxList)
        bound = line.call(wire.ListBindings(), wire.BindingList).bindings
    leading = [each for each in bound if each.destination and each.destination.mailbox]
    return len(listed.mailboxes) + len(leading)


def workers_in(broker):
    with Client(broker.url) as client:
        return len(client.admin.workers())


@contextmanager
def nothing_left(apps, broker):
    """After this block the broker has no more connections, workers, mailboxes and bindings than
    before. Watches end with their connections."""
    before = sockets_of(broker.pid)
    yield
    until(lambda: mailboxes_in(apps) == 0, "no mailbox")
    until(lambda: workers_in(broker) == 0, "no worker")
    until(lambda: sockets_of(broker.pid) <= before + POOLED, "no connection")


def stays_flat(pid, send):
    """Calls the function several times, and looks at the memory of the process after each."""
    seen = []
    for _ in range(PARTS):
        send()
        seen.append(memory_of(pid))
    assert max(seen) < seen[0] + GROWTH_KIB, seen


def test_pings_leave_nothing(apps, quick_broker):
    def ping():
        for _ in range(PINGS // PARTS):
            assert apps.app.control.broadcast("ping", reply=True, timeout=WAIT, limit=1)

    with nothing_left(apps, quick_broker), worker(quick_broker, "-c", "1", "-P", "solo"):
        ping()
        there = mailboxes_in(apps)
        stays_flat(quick_broker.pid, ping)
        assert mailboxes_in(apps) == there


@contextmanager
def hanging_monitor(broker, path):
    """A reader of events that is stopped, and killed at the end."""
    with open(path, "wb") as log:
        monitor = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "subject", "events", "--dump"],
            cwd=HERE,
            env=environment(broker.url, PYTHONUNBUFFERED="1"),
            stdout=log,
            stderr=log,
        )
    try:
        yield monitor
    finally:
        os.kill(monitor.pid, signal.SIGKILL)
        monitor.wait(WAIT)


def test_a_reader_of_events_that_hangs_costs_a_bounded_memory(apps, quick_broker, tmp_path):
    path = tmp_path / "log"
    with (
        nothing_left(apps, quick_broker),
        hanging_monitor(quick_broker, path) as monitor,
        apps.app.connection() as connection,
    ):
        dispatcher = Events(apps.app).Dispatcher(connection, hostname="test")

        def send(count):
            for number in range(count):
                fields = {"uuid": f"task-{number}", "name": "subject.add", "args": "", "kwargs": ""}
                dispatcher.send("task-received", **fields)
            # The broker has taken all of them when it answers.
            connection.connection.line.call(wire.ListMailboxes(), wire.MailboxList)

        def is_heard():
            send(1)
            return b"subject.add" in path.read_bytes()

        until(is_heard, "an event")
        monitor.send_signal(signal.SIGSTOP)
        send(FILLED)
        stays_flat(quick_broker.pid, lambda: send(EVENTS // PARTS))
        listed = connection.connection.line.call(wire.ListMailboxes(), wire.MailboxList)
        assert sum(each.dropped_total for each in listed.mailboxes) > EVENTS // 2


def test_workers_and_monitors_that_are_killed_leave_nothing(apps, quick_broker, tmp_path):
    def start_and_kill(tasks):
        workers = [Worker(quick_broker, "-c", "1", "-P", "solo", "-E") for _ in range(4)]
        try:
            with hanging_monitor(quick_broker, tmp_path / "log") as monitor:
                for each in workers:
                    each.ready()
                until(lambda: b"heartbeat" in (tmp_path / "log").read_bytes(), "an event")
                monitor.send_signal(signal.SIGSTOP)
                for number in range(tasks):
                    assert apps.add.delay(number, number).get(timeout=WAIT) == 2 * number
        finally:
            for each in workers:
                each.kill()

    with nothing_left(apps, quick_broker):
        start_and_kill(200)
        seen = []
        for _ in range(KILLED):
            # Many tasks would fill the caches of the broker's store.
            start_and_kill(4)
            seen.append(memory_of(quick_broker.pid))
        assert max(seen) < seen[0] + GROWTH_KIB, seen


def test_workers_that_come_and_go_leave_nothing(apps, quick_broker):
    """Each does what a worker of Celery does on its connection. Every other one goes without a
    word, as at a crash."""
    pidbox = Exchange("celery.pidbox", "fanout")

    def come_and_go(number):
        connection = apps.app.connection()
        channel = connection.default_channel
        channel.announce({f"subject.task_{number}"})
        channel.basic_qos(0, 4)
        own = Queue(f"worker-{number}.celery.pidbox", pidbox, durable=False, auto_delete=True)
        for each in (own(channel), Queue("comes-and-goes")(channel)):
            each.declare()
            each.consume(f"consumer-{number}-{each.name}", callback=lambda _: None)
        if number % 2:
            connection.release()
        else:
            connection.collect()
            # Another process does not resume the session.
            sessions._lost.clear()

    with nothing_left(apps, quick_broker):

        def some():
            for number in range(WORKERS):
                come_and_go(number)

        some()
        stays_flat(quick_broker.pid, some)
