"""Celery on Celeriac and on Redis, in turns: how many tasks a second, and how much processor time
for each task.

    CELERIAC_BINARY=target/release/celeriac python bench/celery.py
    python bench/celery.py --rounds 1 --only prefork,delay

It needs Celery, redis-py, and the programs `celeriac` and `redis-server`. Each server has a free
port and a temporary folder, and one task is the same everywhere: it does nothing with 200 bytes.

`us` is the processor time (user and system) for each task: of the process that submits, or of all
processes of the worker. `server` is that of the server. Every figure is the median of its turns,
and a ratio is the median of the ratios of turns that followed each other: only those mean
something.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
# This file must not stand in for Celery.
sys.path[0] = str(HERE.parent / "src")
sys.path.insert(1, str(HERE / "celery_subject"))

from celeriac.scratch_broker import ScratchBroker  # noqa: E402

ARGUMENT = "x" * 200
TICK = os.sysconf("SC_CLK_TCK")
SYSTEMS = ("celeriac", "redis everysec", "redis always")
WORKLOADS = ("delay", "pipelined", "batch", "prefork", "threads", "roundtrip")
POOLS = ("prefork", "threads")
WARM_UP = 300
Work = Callable[[int], "Figure"]


class Server(NamedTuple):
    """A server that runs."""

    url: str
    pid: int


class Figure(NamedTuple):
    """What one measurement found."""

    rate: float
    client_us: float
    server_us: float


@contextlib.contextmanager
def celeriac_server() -> Iterator[Server]:
    with ScratchBroker() as broker:
        yield Server(broker.url, broker.pid or 0)


@contextlib.contextmanager
def redis_server(fsync: str) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="bench-redis-")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
    options += ["--appendonly", "yes", "--appendfsync", fsync]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > until:
                raise SystemExit("redis-server does not start")
            time.sleep(0.05)
        yield Server(f"redis://127.0.0.1:{port}/0", process.pid)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def processor_seconds(pid: int) -> float:
    """User and system time of a process and of the children that live. The children of this
    process are the servers and the workers, which do not count as its own."""
    total = 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICK
        if pid == os.getpid():
            return total
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(processor_seconds(int(child)) for child in children.read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


@contextlib.contextmanager
def worker(server: Server, pool: str, concurrency: int) -> Iterator[int]:
    """A worker as users start it."""
    source = os.pathsep.join((str(HERE.parent / "src"), str(HERE / "celery_subject")))
    command = [sys.executable, "-m", "celery", "-A", "bench_subject", "worker", "-P", pool]
    process = subprocess.Popen(
        [*command, "-c", str(concurrency), "-l", "WARNING"],
        cwd=HERE / "celery_subject",
        env={**os.environ, "PYTHONPATH": source, "BENCH_URL": server.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def subject(server: Server, options: dict[str, Any] | None = None) -> Any:
    """The app, made anew for this server."""
    os.environ["BENCH_URL"] = server.url
    os.environ["BENCH_OPTIONS"] = json.dumps(options or {})
    sys.modules.pop("bench_subject", None)
    import bench_subject

    return bench_subject


def in_batches(app: Any, task: Any, tasks: int, results: list[Any] | None = None) -> None:
    with app.producer_pool.acquire(block=True) as producer, producer.batch(100):
        for _ in range(tasks):
            result = task.apply_async((ARGUMENT,), producer=producer)
            if results is not None:
                results.append(result)


def measured(tasks: int, server: Server, client: int, work: Callable[[], Any]) -> Figure:
    """Runs the work between two looks at the clocks."""
    before = time.monotonic(), processor_seconds(client), processor_seconds(server.pid)
    work()
    seconds = time.monotonic() - before[0]
    client_seconds = processor_seconds(client) - before[1]
    server_seconds = processor_seconds(server.pid) - before[2]
    return Figure(tasks / seconds, client_seconds / tasks * 1e6, server_seconds / tasks * 1e6)


@contextlib.contextmanager
def producing(server: Server, workload: str) -> Iterator[Work]:
    is_pipelined = workload == "pipelined"
    made = subject(server, {"confirm": "pipeline"} if is_pipelined else None)

    def run(count: int) -> Figure:
        if workload == "batch":
            return measured(
                count, server, os.getpid(), lambda: in_batches(made.app, made.nothing, count)
            )
        return measured(count, server, os.getpid(), lambda: one_by_one(count))

    def one_by_one(count: int) -> None:
        for _ in range(count):
            made.nothing.delay(ARGUMENT)
        if is_pipelined and server.url.startswith("celeriac"):
            from celeriac.celery.pipeline import flush

            flush()

    run(WARM_UP)
    yield run
    made.app.control.purge()
    made.app.close()


@contextlib.contextmanager
def round_trips(server: Server) -> Iterator[Work]:
    """The rate is the median time in milliseconds."""
    made = subject(server)

    def run(count: int) -> Figure:
        times: list[float] = []

        def work() -> None:
            for _ in range(count):
                began = time.perf_counter()
                made.nothing.delay(ARGUMENT).get(timeout=60)
                times.append(time.perf_counter() - began)

        figure = measured(count, server, os.getpid(), work)
        return figure._replace(rate=statistics.median(times) * 1000)

    with worker(server, "prefork", 2):
        run(50)
        yield run
    made.app.close()


@contextlib.contextmanager
def working(server: Server, pool: str) -> Iterator[Work]:
    """The worker finds all tasks in its queue, and the clock runs when it has warmed up."""
    made = subject(server)

    def run(count: int) -> Figure:
        results: list[Any] = []
        in_batches(made.app, made.nothing, WARM_UP + count, results)
        with worker(server, pool, 8 if pool == "threads" else 2) as pid:
            results[WARM_UP].get(timeout=60)

            def wait() -> None:
                for result in results[-20:]:
                    result.get(timeout=600)

            return measured(count, server, pid, wait)

    yield run
    made.app.close()


def opened(server: Server, workload: str) -> contextlib.AbstractContextManager[Work]:
    if workload in ("delay", "pipelined", "batch"):
        return producing(server, workload)
    return round_trips(server) if workload == "roundtrip" else working(server, workload)


def count_of(workload: str, name: str, scale: float) -> int:
    """How many tasks one turn has. Turns are short, so that all systems meet the same other load
    of the machine; those of workers have to begin anew."""
    if workload == "roundtrip":
        return int(40 * scale)
    if workload in ("delay", "pipelined", "batch"):
        return int(600 * scale) // 100 * 100
    return int((4000 if name == "celeriac" else 1500) * scale)


def show(workload: str, found: dict[str, list[Figure]]) -> None:
    digits, unit = (2, "ms p50") if workload == "roundtrip" else (0, "a second")
    print(f"\n{workload}")
    ours = found.get("celeriac", [])
    for name, figures in found.items():
        medians = Figure(*(statistics.median(values) for values in zip(*figures, strict=True)))
        line = f"  {name:16} {medians.rate:9,.{digits}f} {unit:9}"
        line += f" {medians.client_us:7,.0f} us  server {medians.server_us:6,.0f} us"
        if ours and figures is not ours:
            pairs = list(zip(ours, figures, strict=True))
            rate = statistics.median(own.rate / other.rate for own, other in pairs)
            time_ = sum(own.client_us for own, _ in pairs) / sum(o.client_us for _, o in pairs)
            line += f"   ours: {rate:5.2f} x, processor time {time_:5.2f} x"
        print(line)
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how many of the tasks")
    parser.add_argument("--only", default="", help="workloads and systems, by parts of their names")
    settings = parser.parse_args()
    wanted = [part for part in settings.only.split(",") if part]

    def chosen(names: tuple[str, ...]) -> list[str]:
        return [n for n in names if any(part in n for part in wanted)] or list(names)

    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in chosen(SYSTEMS):
            _, _, fsync = name.partition(" ")
            context = redis_server(fsync) if fsync else celeriac_server()
            servers[name] = stack.enter_context(context)
        for workload in chosen(WORKLOADS):
            with contextlib.ExitStack() as turns:
                works = {
                    name: turns.enter_context(opened(server, workload))
                    for name, server in servers.items()
                }
                found: dict[str, list[Figure]] = {name: [] for name in works}
                for _ in range(settings.rounds * (1 if workload in POOLS else 5)):
                    for name, work in works.items():
                        found[name].append(work(count_of(workload, name, settings.scale)))
            show(workload, found)


if __name__ == "__main__":
    main()
