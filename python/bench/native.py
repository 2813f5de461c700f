"""The package's own client and worker, measured as `with_celery.py` measures Celery: the same task,
the same counts, one process that submits, and a worker that is a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from celeriac import Celeriac
from figures import Figure, measured, timed
from leash import running
from processor import processor_seconds
from servers import Server

ARGUMENT = "x" * 200
BATCH = 100
PER_REQUEST = 1000
WARM_UP = 300
PROCESSES, THREADS = 2, 8
Work = Callable[[int], Figure]
app = Celeriac()


@app.task(name="bench.nothing")
def nothing(text: str) -> None:
    """Does nothing."""


@contextlib.contextmanager
def worker(server: Server, pool: str, concurrency: int) -> Iterator[int]:
    """A worker as users start it."""
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-m", "celeriac.worker.command", "native:app", "--pool", pool]
    paths = os.pathsep.join((str(here.parent / "src"), str(here)))
    environment = {**os.environ, "CELERIAC_URL": server.url, "PYTHONPATH": paths}
    options = ["--concurrency", str(concurrency), "--log-level", "error"]
    with running([*command, *options], cwd=here, env=environment) as process:
        yield process.pid


def one_by_one(count: int) -> None:
    for _ in range(count):
        nothing.delay(ARGUMENT)


def pipelined(count: int) -> None:
    with app.batch():
        one_by_one(count)


def in_batches(count: int) -> list[Any]:
    results: list[Any] = []
    for _ in range(count // BATCH):
        results += app.submit_many([nothing.submission((ARGUMENT,))] * BATCH)
    return results


def wait_for_the_last(results: list[Any]) -> None:
    for result in results[-20:]:
        result.get(timeout=600)


@contextlib.contextmanager
def producing(server: Server, work: Callable[[int], Any]) -> Iterator[Work]:
    app.url = server.url
    work(WARM_UP)
    yield lambda count: measured(count, server, time.process_time, partial(work, count))
    app.client.admin.purge("default")
    app.close()


@contextlib.contextmanager
def round_trips(server: Server) -> Iterator[Work]:
    app.url = server.url

    def trip() -> None:
        nothing.delay(ARGUMENT).get(timeout=60)

    with worker(server, "processes", PROCESSES):
        timed(50, server, trip)
        yield lambda count: timed(count, server, trip)
    app.close()


@contextlib.contextmanager
def lifecycles(server: Server) -> Iterator[Work]:
    app.url = server.url

    def work(count: int) -> None:
        wait_for_the_last(in_batches(count))

    with worker(server, "processes", PROCESSES) as pid:

        def clock() -> float:
            return time.process_time() + processor_seconds(pid)

        work(WARM_UP)
        yield lambda count: measured(count, server, clock, partial(work, count))
    app.close()


@contextlib.contextmanager
def working(server: Server, pool: str, concurrency: int) -> Iterator[Work]:
    """The worker finds all tasks in its queue, and the clock runs when it has warmed up."""
    app.url = server.url

    def run(count: int) -> Figure:
        results = in_batches(WARM_UP + count)
        with worker(server, pool, concurrency) as pid:
            results[WARM_UP].get(timeout=60)
            looked_at = datetime.now(timezone.utc)
            before = processor_seconds(pid), processor_seconds(server.pid)
            wait_for_the_last(results)
            after = processor_seconds(pid), processor_seconds(server.pid)
        # The worker is so fast that the look itself takes long. The broker knows when each ended.
        ends = [end for end in ends_of(results) if end > looked_at]
        worker_us, server_us = (
            1e6 * (now - then) / len(ends) for then, now in zip(before, after, strict=True)
        )
        return Figure(len(ends) / (max(ends) - looked_at).total_seconds(), worker_us, server_us)

    yield run
    app.close()


def ends_of(results: list[Any]) -> list[datetime]:
    ends = []
    for begin in range(0, len(results), PER_REQUEST):
        ids = [result.id for result in results[begin : begin + PER_REQUEST]]
        app.client.wait(ids, timeout=60)
        ends += [info.finished_at for info in app.client.info(ids)]
    return ends


WORKLOADS: dict[str, tuple[int, Callable[[Server], contextlib.AbstractContextManager[Work]]]] = {
    "delay": (600, lambda server: producing(server, one_by_one)),
    "pipelined": (6_000, lambda server: producing(server, pipelined)),
    "batch": (10_000, lambda server: producing(server, in_batches)),
    "prefork": (40_000, lambda server: working(server, "processes", PROCESSES)),
    "threads": (40_000, lambda server: working(server, "threads", THREADS)),
    "lifecycle": (10_000, lifecycles),
    "roundtrip": (100, round_trips),
}
"""The workloads under the names that they have for Celery, and how many tasks each turn has."""
