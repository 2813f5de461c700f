"""Commands, monitors and workers that come and go leave nothing in the broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kit import HERE, WAIT, Worker, environment, until, worker

from celeriac import _codec as wire


def memory_of(pid):
    """The memory that a process uses, in KiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def mailboxes_in(apps):
    with apps.app.connection() as connection:
        line = connection.connection.line
        listed = line.call(wire.ListMailboxes(), wire.MailboxList)
        bound = line.call(wire.ListBindings(), wire.BindingList).bindings
    leading = [each for each in bound if each.destination and each.destination.mailbox]
    return len(listed.mailboxes) + len(leading)


def test_pings_leave_nothing(apps, quick_broker):
    with worker(quick_broker, "-c", "1", "-P", "solo"):

        def ping(count):
            for _ in range(count):
                assert apps.app.control.broadcast("ping", reply=True, timeout=WAIT, limit=1)

        ping(100)
        before, there = memory_of(quick_broker.pid), mailboxes_in(apps)
        ping(1000)
        assert mailboxes_in(apps) == there
        assert memory_of(quick_broker.pid) < before + 4096
    until(lambda: mailboxes_in(apps) == 0, "no mailbox")


def test_workers_and_monitors_that_are_killed_leave_nothing(apps, quick_broker, tmp_path):
    workers = [Worker(quick_broker, "-c", "1", "-P", "solo", "-E") for _ in range(4)]
    with open(tmp_path / "log", "wb") as log:
        monitor = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "subject", "events", "--dump"],
            cwd=HERE,
            env=environment(quick_broker.url, PYTHONUNBUFFERED="1"),
            stdout=log,
            stderr=log,
        )
    try:
        for each in workers:
            each.ready()
        until(lambda: b"heartbeat" in (tmp_path / "log").read_bytes(), "an event")
        monitor.send_signal(signal.SIGSTOP)
        for number in range(200):
            apps.add.delay(number, number).get(timeout=WAIT)
    finally:
        os.kill(monitor.pid, signal.SIGKILL)
        monitor.wait(WAIT)
        for each in workers:
            each.kill()
    until(lambda: mailboxes_in(apps) == 0, "no mailbox")
