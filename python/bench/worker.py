"""Measures how many no-op tasks a second one worker runs, with the broker on the same machine.

    python bench/worker.py --pool threads --tasks 60000
    python bench/worker.py --rounds 5 --all

The tasks are in the broker before the worker begins, and it keeps their results. The clock runs
from the first to the last result that the broker has stored, by the broker's own times: this
program sleeps meanwhile, and reads them afterwards. The processor time is that of the same span: of
the worker with its child processes, and of the broker. Beside other load on the machine it says
more than the rate. With several rounds every figure is the median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import NamedTuple

from celeriac import Celeriac
from leash import running
from processor import processor_seconds
from servers import celeriac_server

app = Celeriac()

PER_REQUEST = 2_000

#: The measurement waits for this many tasks, the last ones.
LAST = 100

#: What `--all` measures: the pool, the concurrency, the task.
ALL = [
    ("threads", 1, "noop"),
    ("threads", 2, "noop"),
    ("processes", 1, "noop"),
    ("processes", 2, "noop"),
    ("asyncio", 100, "noop_async"),
]


class Figures(NamedTuple):
    """What one round gives: tasks a second, and microseconds of processor time for each task."""

    rate: float
    worker: float
    broker: float


@app.task(name="bench.noop")
def noop(number: int) -> int:
    """Does nothing."""
    return number


@app.task(name="bench.noop_async")
async def noop_async(number: int) -> int:
    """Does nothing, on the event loop."""
    return number


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", default="threads")
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--task", choices=("noop", "noop_async"), default="noop")
    parser.add_argument("--all", action="store_true", help="every pool, instead of one")
    options = parser.parse_args()
    ways = ALL if options.all else [(options.pool, options.concurrency, options.task)]
    rounds: dict[tuple[str, int, str], list[Figures]] = {way: [] for way in ways}
    # The ways take turns, so that the load of the machine is the same for all.
    for _ in range(options.rounds):
        for way in ways:
            rounds[way].append(measure(*way, options.tasks))
    for (pool, concurrency, task), figures in rounds.items():
        rate, worker, broker = (statistics.median(each) for each in zip(*figures, strict=True))
        print(
            f"{task} {pool} x{concurrency}: {rate:,.0f} tasks a second; processor time of a task: "
            f"worker {worker:.1f} us, broker {broker:.1f} us"
        )


def measure(pool: str, concurrency: int, task: str, count: int) -> Figures:
    """One round, with a broker and a worker of its own."""
    with celeriac_server() as broker:
        app.url = broker.url
        ids = submit(noop if task == "noop" else noop_async, count)
        environment = {**os.environ, "CELERIAC_URL": app.url, "PYTHONPATH": path()}
        command = [sys.executable, "-m", "celeriac.worker.command", "worker:app"]
        command += ["--pool", pool, "--concurrency", str(concurrency), "--log-level", "warning"]
        with running(
            command, None, env=environment, cwd=os.path.dirname(__file__) or "."
        ) as worker:
            pids = (worker.pid, broker.pid)
            app.client.wait(ids[:1], timeout=60)
            before = [processor_seconds(pid) for pid in pids]
            app.client.wait(ids[-LAST:], timeout=300)
            after = [processor_seconds(pid) for pid in pids]
            seconds = span(ids)
        app.close()
    used = [(b - a) / count * 1e6 for a, b in zip(before, after, strict=True)]
    return Figures(count / seconds, *used)


def span(ids: list[str]) -> float:
    """The seconds from the end of the first task to that of the last."""
    ends = []
    for begin in range(0, len(ids), PER_REQUEST):
        some = ids[begin : begin + PER_REQUEST]
        app.client.wait(some, timeout=60)
        ends += [info.finished_at for info in app.client.info(some)]
    return (max(ends) - min(ends)).total_seconds()


def submit(task, count: int) -> list[str]:
    """Puts the tasks into the broker, and returns their ids."""
    ids = []
    for begin in range(0, count, PER_REQUEST):
        numbers = range(begin, min(begin + PER_REQUEST, count))
        ids += [result.id for result in app.submit_many(task.submission((n,)) for n in numbers)]
    return ids


def path() -> str:
    """Where the worker finds this package."""
    return os.pathsep.join(each for each in sys.path if each)


if __name__ == "__main__":
    main()
