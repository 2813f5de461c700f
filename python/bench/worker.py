"""Measures how many no-op tasks a second one worker runs, with the broker on the same machine.

    python bench/worker.py --pool threads --tasks 60000

The tasks are in the broker before the worker begins. The clock runs from the first to the last
result that the broker has stored. Processor time is that of the worker, with its child processes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

from celeriac import Celeriac
from celeriac.scratch_broker import ScratchBroker

app = Celeriac()

PER_REQUEST = 2_000


@app.task(name="bench.noop")
def noop(number: int) -> int:
    """Does nothing."""
    return number


@app.task(name="bench.noop_async")
async def noop_async(number: int) -> int:
    """Does nothing, on the event loop."""
    return number


def main() -> None:
    """Runs the measurement, or, as its own child, the worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", default="threads")
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=60_000)
    parser.add_argument("--task", choices=("noop", "noop_async"), default="noop")
    options = parser.parse_args()
    with ScratchBroker("--log", "warn") as broker:
        app.url = broker.url
        task = noop if options.task == "noop" else noop_async
        ids = submit(task, options.tasks)
        seconds, processor = measure(options, ids)
    print(
        f"{options.task} {options.pool} x{options.concurrency}: "
        f"{options.tasks / seconds:,.0f} tasks a second, "
        f"{processor / options.tasks * 1e6:.1f} us of processor time a task"
    )


def submit(task, count: int) -> list[str]:
    """Puts the tasks into the broker, and returns their ids."""
    ids = []
    for begin in range(0, count, PER_REQUEST):
        numbers = range(begin, min(begin + PER_REQUEST, count))
        ids += [result.id for result in app.submit_many(task.submission((n,)) for n in numbers)]
    return ids


def measure(options: argparse.Namespace, ids: list[str]) -> tuple[float, float]:
    """Runs the worker, and returns the seconds and its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "CELERIAC_URL": app.url, "PYTHONPATH": path()}
    command = [sys.executable, "-m", "celeriac.worker.command", "worker:app"]
    command += ["--pool", options.pool, "--concurrency", str(options.concurrency)]
    command += ["--log-level", "warning"]
    worker = subprocess.Popen(command, env=environment, cwd=os.path.dirname(__file__) or ".")
    app.client.wait(ids[:1], timeout=60)
    begun = time.perf_counter()
    for begin in range(0, len(ids), 10_000):
        app.client.wait(ids[begin : begin + 10_000], timeout=300)
    seconds = time.perf_counter() - begun
    worker.terminate()
    worker.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor


def path() -> str:
    """Where the worker finds this package."""
    return os.pathsep.join(each for each in sys.path if each)


if __name__ == "__main__":
    main()
