"""Celery on Celeriac, on Redis and on RabbitMQ, in turns: how many tasks a second, and how much
processor time for each task.

    CELERIAC_BINARY=target/release/celeriac python bench/with_celery.py
    python bench/with_celery.py --rounds 1 --only prefork,delay

It needs Celery; redis-py and `redis-server`; and `rabbitmq-server`. What is missing is said. Each
server has a free port and a temporary folder, and one task is the same everywhere: it does nothing
with 200 bytes.

`us` is the processor time (user and system) for each task: of the process that submits, or of all
processes of the worker, or of both where both are at work. `server` is that of the server. Every
rate is the median of its turns, and every processor time their mean. A ratio is the median of the
ratios of turns that followed each other: only those mean something.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
for path in (HERE / "celery_subject", HERE.parent / "src"):
    sys.path.insert(1, str(path))

from figures import Figure, measured, middle_of, timed  # noqa: E402
from leash import running  # noqa: E402
from processor import processor_seconds  # noqa: E402
from servers import Missing, Server, celeriac_server, rabbitmq_server, redis_server  # noqa: E402

ARGUMENT = "x" * 200
WORKLOADS = ("delay", "pipelined", "batch", "prefork", "threads", "lifecycle", "roundtrip")
FROM_FULL_QUEUE = ("prefork", "threads")
WARM_UP = 300
Work = Callable[[int], "Figure"]


class System(NamedTuple):
    """What Celery runs on, and how durable that is."""

    title: str
    durability: str
    start: Callable[[], contextlib.AbstractContextManager[Server]]


SYSTEMS = {
    "celeriac": System("Celery on Celeriac", "fdatasync before each confirmation", celeriac_server),
    "redis everysec": System(
        "Celery on Redis",
        "appendfsync everysec (may lose a second)",
        partial(redis_server, "everysec"),
    ),
    "redis always": System(
        "Celery on Redis", "appendfsync always", partial(redis_server, "always")
    ),
    "rabbitmq": System(
        "Celery on RabbitMQ",
        "classic durable queue, confirms; results in memory (rpc://)",
        rabbitmq_server,
    ),
}


@contextlib.contextmanager
def worker(server: Server, pool: str, concurrency: int) -> Iterator[int]:
    """A worker as users start it."""
    source = os.pathsep.join((str(HERE.parent / "src"), str(HERE / "celery_subject")))
    command = [sys.executable, "-m", "celery", "-A", "bench_subject", "worker", "-P", pool]
    environment = {**os.environ, "PYTHONPATH": source, "C_FORCE_ROOT": "1", **address(server)}
    with running(
        [*command, "-c", str(concurrency), "-l", "ERROR"],
        cwd=HERE / "celery_subject",
        env=environment,
    ) as process:
        yield process.pid


def address(server: Server) -> dict[str, str]:
    return {"BENCH_URL": server.url, "BENCH_RESULTS": server.results}


def subject(server: Server, options: dict[str, Any] | None = None) -> Any:
    """The app, made anew for this server."""
    os.environ.update(address(server), BENCH_OPTIONS=json.dumps(options or {}))
    sys.modules.pop("bench_subject", None)
    import bench_subject

    return bench_subject


def in_batches(app: Any, task: Any, tasks: int, results: list[Any] | None = None) -> None:
    with app.producer_pool.acquire(block=True) as producer, producer.batch(100):
        for _ in range(tasks):
            result = task.apply_async((ARGUMENT,), producer=producer)
            if results is not None:
                results.append(result)


@contextlib.contextmanager
def producing(server: Server, workload: str) -> Iterator[Work]:
    is_pipelined = workload == "pipelined"
    made = subject(server, {"confirm": "pipeline"} if is_pipelined else None)

    def run(count: int) -> Figure:
        if workload == "batch":
            work = partial(in_batches, made.app, made.nothing, count)
        else:
            work = partial(one_by_one, count)
        return measured(count, server, time.process_time, work)

    def one_by_one(count: int) -> None:
        for _ in range(count):
            made.nothing.delay(ARGUMENT)
        if is_pipelined:
            from celeriac.celery.pipeline import flush

            flush()

    run(WARM_UP)
    yield run
    made.app.control.purge()
    made.app.close()


@contextlib.contextmanager
def round_trips(server: Server) -> Iterator[Work]:
    made = subject(server)

    def trip() -> None:
        made.nothing.delay(ARGUMENT).get(timeout=60)

    def run(count: int) -> Figure:
        return timed(count, server, trip)

    with worker(server, "prefork", 2):
        run(50)
        yield run
    made.app.close()


@contextlib.contextmanager
def lifecycles(server: Server) -> Iterator[Work]:
    """One process submits in batches, and a worker of two processes runs what comes."""
    made = subject(server)
    with worker(server, "prefork", 2) as pid:

        def clock() -> float:
            return time.process_time() + processor_seconds(pid)

        def work(count: int) -> None:
            results: list[Any] = []
            in_batches(made.app, made.nothing, count, results)
            wait_for_the_last(results)

        def run(count: int) -> Figure:
            return measured(count, server, clock, partial(work, count))

        work(WARM_UP)
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
            clock = partial(processor_seconds, pid)
            return measured(count, server, clock, partial(wait_for_the_last, results))

    yield run
    made.app.close()


def wait_for_the_last(results: list[Any]) -> None:
    for result in results[-20:]:
        result.get(timeout=600)


def opened(server: Server, workload: str) -> contextlib.AbstractContextManager[Work]:
    if workload in ("delay", "pipelined", "batch"):
        return producing(server, workload)
    if workload == "lifecycle":
        return lifecycles(server)
    return round_trips(server) if workload == "roundtrip" else working(server, workload)


def count_of(workload: str, name: str, scale: float) -> int:
    """How many tasks one turn has. Turns are short, so that all systems meet the same other load
    of the machine; those of workers have to begin anew."""
    if workload == "roundtrip":
        return max(int(40 * scale), 10)
    if workload in ("delay", "pipelined", "batch", "lifecycle"):
        return max(int(600 * scale) // 100 * 100, 100)
    return int((4000 if name == "celeriac" else 1500) * scale)


def turns_of(
    workload: str, servers: dict[str, Server], rounds: int, scale: float
) -> dict[str, list[Figure]]:
    """The figures of one workload, of each system in turn."""
    # Only the drop-in leaves answers for later.
    names = [name for name in servers if workload != "pipelined" or name == "celeriac"]
    with contextlib.ExitStack() as stack:
        works = {name: stack.enter_context(opened(servers[name], workload)) for name in names}
        found: dict[str, list[Figure]] = {name: [] for name in works}
        for _ in range(rounds * (1 if workload in FROM_FULL_QUEUE else 5)):
            for name, work in works.items():
                found[name].append(work(count_of(workload, name, scale)))
    return found


def show(workload: str, found: dict[str, list[Figure]]) -> None:
    print(f"\n{workload}")
    ours = found.get("celeriac", [])
    for name, figures in found.items():
        middle = middle_of(figures)
        if middle.p50_ms is None:
            line = f"  {name:16} {middle.rate:9,.0f} a second"
        else:
            line = f"  {name:16} {middle.p50_ms:9,.2f} ms p50  "
        line += f" {middle.client_us:7,.0f} us  server {middle.server_us:6,.0f} us"
        if ours and figures is not ours:
            pairs = list(zip(ours, figures, strict=True))
            rate = statistics.median(own.rate / other.rate for own, other in pairs)
            time_ = sum(own.client_us for own, _ in pairs) / sum(o.client_us for _, o in pairs)
            line += f"   ours: {rate:5.2f} x, processor time {time_:5.2f} x"
        print(line)
    sys.stdout.flush()


@contextlib.contextmanager
def started(names: list[str], missing: list[str]) -> Iterator[dict[str, Server]]:
    """The servers that are installed. For each other one a sentence says what is missing."""
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in names:
            try:
                if name.startswith("redis"):
                    require_redis_client()
                servers[name] = stack.enter_context(SYSTEMS[name].start())
            except Missing as reason:
                if str(reason) not in missing:
                    missing.append(str(reason))
        yield servers


def require_redis_client() -> None:
    try:
        import redis  # noqa: F401
    except ImportError:
        raise Missing(f"redis-py is not installed: {sys.executable} -m pip install redis") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how many of the tasks")
    parser.add_argument("--only", default="", help="workloads and systems, by parts of their names")
    settings = parser.parse_args()
    wanted = [part for part in settings.only.split(",") if part]

    def chosen(names: tuple[str, ...]) -> list[str]:
        return [n for n in names if any(part in n for part in wanted)] or list(names)

    missing: list[str] = []
    with started(chosen(tuple(SYSTEMS)), missing) as servers:
        for sentence in missing:
            print(f"missing: {sentence}")
        for workload in chosen(WORKLOADS):
            show(workload, turns_of(workload, servers, settings.rounds, settings.scale))


if __name__ == "__main__":
    main()
