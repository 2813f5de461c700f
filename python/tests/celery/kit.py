"""Starts what the tests of the drop-in need: a broker, workers of Celery, and waits for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celeriac.client import Client
from celeriac.scratch_broker import ScratchBroker

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "src"
WAIT = 40.0


def environment(url: str, **more: str) -> dict[str, str]:
    """The environment of a process of the app in `subject.py`."""
    paths = os.pathsep.join((str(SOURCES), str(HERE)))
    return {**os.environ, "CELERIAC_TEST_URL": url, "PYTHONPATH": paths, **more}


def until(is_true: Callable[[], Any], what: str, seconds: float = WAIT) -> Any:
    """Waits for a condition, and gives its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = is_true()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {seconds:.0f} s")


class Worker:
    """A worker of Celery in a process of its own, with its log in a file."""

    def __init__(
        self, broker: ScratchBroker, *options: str, app: str = "subject", **variables: str
    ) -> None:
        Worker.count += 1
        self.name = f"w{Worker.count}@test"
        self.log_path = Path(broker.folder) / f"worker-{Worker.count}.log"
        # The tests wait for the state STARTED, which Celery stores when it is told to.
        conf = {"task_track_started": True, **json.loads(variables.get("CELERIAC_TEST_CONF", "{}"))}
        variables["CELERIAC_TEST_CONF"] = json.dumps(conf)
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", self.name]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "-l", "INFO", *options],
                cwd=HERE,
                env=environment(broker.url, **variables),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    count = 0

    def log(self) -> str:
        """What the worker has written."""
        return self.log_path.read_text(errors="replace")

    def says(self, text: str, seconds: float = WAIT) -> None:
        """Waits until the log has this text."""
        try:
            until(lambda: text in self.log(), f"{text!r} in the log", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-3000:]}") from None

    def is_back(self, broker: ScratchBroker, said_before: int) -> None:
        """Waits until the worker has a connection to the broker that was started anew. It says so,
        but not when it was connecting while the broker ended: it then goes on without a word."""
        with Client(broker.url) as client:

            def is_connected() -> bool:
                found = [each for each in client.admin.workers() if each.pid == self.process.pid]
                return self.said() > said_before or any(not each.lost for each in found)

            try:
                until(is_connected, "the new connection")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.log()[-3000:]}") from None

    def said(self) -> int:
        """How often the worker has said that it is connected."""
        return self.log().count("Connected to")

    def ready(self) -> Worker:
        """Waits until the worker takes tasks."""
        self.says(" ready.")
        return self

    def kill(self) -> None:
        """Ends the worker and its children as a crash does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ends the worker in order, and kills it when that takes too long."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WAIT)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def worker(broker: ScratchBroker, *options: str, **variables: str) -> Iterator[Worker]:
    """A worker that takes tasks, until the end of the block."""
    started = Worker(broker, *options, **variables)
    try:
        yield started.ready()
    except BaseException:
        # pytest shows it with the failure.
        print(started.log()[-3000:])
        raise
    finally:
        started.stop()
