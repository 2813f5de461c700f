"""Celery on Celeriac and on Redis, in turns: how many tasks a second, and how much processor time
for each task.

    CELERIAC_BINARY=target/release/celeriac python bench/celery.py
    python bench/celery.py --rounds 1 --only prefork,delay

It needs Celery, redis-py, and the programs `celeriac` and `redis-server`. Each server has a free
port and a temporary folder, and one task is the same everywhere: it does nothing with 200 bytes.

`us` is the processor time (user and system) for each task: of the process that submits, or of all
processes of the worker. `server` is that of the server. Every figure is the median of the rounds;
only the ratios of one run mean something.
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

from celeriac.scratch_broker import ScratchBroker

ARGUMENT = "x" * 200
TICK = os.sysconf("SC_CLK_TCK")
SYSTEMS = ("celeriac", "redis everysec", "redis always")
WORKLOADS = ("delay", "pipelined", "batch", "prefork", "threads", "roundtrip")
WARM_UP = 300


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
    """User and system time of a process and of the children that live."""
    total = 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICK
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


def producing(server: Server, workload: str, tasks: int) -> Figure:
    is_pipelined = workload == "pipelined"
    made = subject(server, {"confirm": "pipeline"} if is_pipelined else None)
    task = made.nothing

    def one_by_one(count: int) -> None:
        for _ in range(count):
            task.delay(ARGUMENT)
        if is_pipelined and server.url.startswith("celeriac"):
            from celeriac.celery.pipeline import flush

            flush()

    def run(count: int) -> None:
        if workload == "batch":
            in_batches(made.app, task, count)
        else:
            one_by_one(count)

    run(WARM_UP)
    figure = measured(tasks, server, os.getpid(), lambda: run(tasks))
    made.app.control.purge()
    made.app.close()
    return figure


def working(server: Server, pool: str, tasks: int) -> Figure:
    made = subject(server)
    results: list[Any] = []
    in_batches(made.app, made.nothing, WARM_UP + tasks, results)
    concurrency = 8 if pool == "threads" else 2
    with worker(server, pool, concurrency) as pid:
        results[WARM_UP].get(timeout=60)

        def wait() -> None:
            for result in results[-20:]:
                result.get(timeout=600)

        figure = measured(tasks, server, pid, wait)
    made.app.close()
    return figure


def round_trip(server: Server, tasks: int) -> Figure:
    """The rate is the median time in milliseconds."""
    made = subject(server)
    times: list[float] = []

    def run() -> None:
        for _ in range(tasks):
            began = time.perf_counter()
            made.nothing.delay(ARGUMENT).get(timeout=60)
            times.append(time.perf_counter() - began)

    with worker(server, "prefork", 2):
        for _ in range(50):
            made.nothing.delay(ARGUMENT).get(timeout=60)
        figure = measured(tasks, server, os.getpid(), run)
    made.app.close()
    return figure._replace(rate=statistics.median(times) * 1000)


def measure(server: Server, workload: str, scale: float) -> Figure:
    is_ours = server.url.startswith("celeriac")
    if workload in ("delay", "pipelined", "batch"):
        return producing(server, workload, int((6000 if workload == "batch" else 3000) * scale))
    if workload == "roundtrip":
        return round_trip(server, int(400 * scale))
    return working(server, workload, int((8000 if is_ours else 2500) * scale))


def show(workload: str, found: dict[str, list[Figure]]) -> None:
    unit = "ms p50" if workload == "roundtrip" else "a second"
    print(f"\n{workload}")
    medians = {
        name: Figure(*(statistics.median(values) for values in zip(*figures, strict=True)))
        for name, figures in found.items()
        if figures
    }
    for name, figure in medians.items():
        line = (
            f"  {name:16} {figure.rate:9,.2f} {unit:9}"
            if workload == "roundtrip"
            else (f"  {name:16} {figure.rate:9,.0f} {unit:9}")
        )
        line += f" {figure.client_us:7,.0f} us  server {figure.server_us:6,.0f} us"
        ours = medians.get("celeriac")
        if ours is not None and name != "celeriac":
            line += f"   ours: {ours.rate / figure.rate:5.2f} x"
            line += f", processor time {ours.client_us / max(figure.client_us, 1e-9):5.2f} x"
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
            found: dict[str, list[Figure]] = {name: [] for name in servers}
            for _ in range(settings.rounds):
                for name, server in servers.items():
                    found[name].append(measure(server, workload, settings.scale))
            show(workload, found)


if __name__ == "__main__":
    main()
