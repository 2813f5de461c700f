"""A broker of their own for the worker's tests, and workers in this process and beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import handlers  # noqa: E402 - the folder of this file is on the path only now
from observing import eventually  # noqa: E402

from celeriac.scratch_broker import ScratchBroker  # noqa: E402
from celeriac.worker import Worker  # noqa: E402


@pytest.fixture(scope="session")
def broker() -> Iterator[ScratchBroker]:
    with ScratchBroker("--lease-ms", "6000", "--heartbeat-ms", "500") as scratch:
        yield scratch


@pytest.fixture
def app(
    broker: ScratchBroker, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[object]:
    """The app of `handlers`. Each test has a queue of its own, so that no test sees another's."""
    # Shared tasks go to the app that was made last, and other tests make apps too.
    monkeypatch.setattr("celeriac.app._latest", handlers.app)
    queue = f"{request.node.name}-{time.time_ns()}"
    before = handlers.app.queue
    handlers.app.url, handlers.app.queue = broker.url, queue
    kept = {task: task.options for task in handlers.app.tasks.values()}
    for task in kept:
        task.options = task.options.replace(queue=queue)
    yield handlers.app
    handlers.app.close()
    handlers.app.queue = before
    for task, options in kept.items():
        task.options = options


@pytest.fixture
def run(app) -> Iterator[Callable[..., Worker]]:
    """Starts workers in this process, and ends them after the test."""
    workers: list[Worker] = []

    def start(**settings: object) -> Worker:
        settings.setdefault("queues", [app.queue])
        settings.setdefault("modules", ["handlers"])
        settings.setdefault("concurrency", 2)
        worker = app.worker(**settings)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(now=True)
        worker.join()


class Command:
    """`celeriac-worker` as a process of its own."""

    def __init__(self, app, *options: str, log: Path) -> None:
        self.log = log
        environment = {**os.environ, "CELERIAC_URL": app.url, "PYTHONPATH": _path()}
        command = [sys.executable, "-m", "celeriac.worker.command", "handlers"]
        command += ["--queues", app.queue, "--log-level", "debug", *options]
        with open(log, "wb") as written:
            self.process = subprocess.Popen(
                command,
                cwd=HERE,
                env=environment,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Signals the worker and its child processes, as a terminal and a service manager do."""
        os.killpg(self.process.pid, number)

    def wait(self, seconds: float = 20.0) -> int:
        return self.process.wait(seconds)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        eventually(lambda: text in self.text(), seconds, self.text)


@pytest.fixture
def command(app, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts `celeriac-worker`, and kills it after the test if it still runs."""
    started: list[Command] = []

    def start(*options: str) -> Command:
        worker = Command(app, *options, log=tmp_path / f"worker-{len(started)}.log")
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


def _path() -> str:
    return os.pathsep.join(each for each in sys.path if each)
