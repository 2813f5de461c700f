"""How many tasks a second one process submits: one by one, in batches, pipelined, with asyncio, and
from several threads.

    CELERIAC_BINARY=target/release/celeriac python bench/producer.py
    python bench/producer.py --url celeriac://127.0.0.1:23537 --tasks 50000 --payload 200

Every figure counts tasks that the broker has confirmed as stored. The figures after it are the
processor time for each task, of this process and of the broker. With --rounds they are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from celeriac.aio import AsyncClient
from celeriac.client import Client
from celeriac.options import TaskOptions
from celeriac.submission import Submission, Submitted
from processor import processor_seconds
from servers import celeriac_server

NAME = "bench.produce"
OPTIONS = TaskOptions(queue="bench")
BATCH = 100
THREADS = 8


def one_by_one(client: Client, payload: bytes, tasks: int) -> None:
    for _ in range(tasks):
        client.submit(NAME, payload, options=OPTIONS)


def in_batches(client: Client, payload: bytes, tasks: int) -> None:
    for _ in range(tasks // BATCH):
        outcomes = client.submit_many([Submission(NAME, payload, OPTIONS)] * BATCH)
        assert all(isinstance(each, Submitted) for each in outcomes)


def at_once(client: Client, payload: bytes, tasks: int) -> None:
    outcomes = client.submit_many(Submission(NAME, payload, OPTIONS) for _ in range(tasks))
    assert all(isinstance(each, Submitted) for each in outcomes)


def pipelined(client: Client, payload: bytes, tasks: int) -> None:
    with client.batch():
        for _ in range(tasks):
            client.submit(NAME, payload, options=OPTIONS)


def in_threads(client: Client, payload: bytes, tasks: int) -> None:
    threads = [
        threading.Thread(target=one_by_one, args=(client, payload, tasks // THREADS))
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def with_asyncio(client: Client, payload: bytes, tasks: int) -> None:
    """64 submits are under way at each moment."""

    async def produce(aio: AsyncClient, count: int) -> None:
        for _ in range(count):
            await aio.submit(NAME, payload, options=OPTIONS)

    async def main() -> None:
        async with AsyncClient(f"celeriac://{client.url.address}") as aio:
            await asyncio.gather(*(produce(aio, tasks // 64) for _ in range(64)))

    asyncio.run(main())


WAYS: list[tuple[str, Callable[[Client, bytes, int], None], float]] = [
    ("one by one", one_by_one, 0.05),
    (f"one by one, {THREADS} threads", in_threads, 0.1),
    ("asyncio, 64 at once", with_asyncio, 0.2),
    (f"submit_many of {BATCH}", in_batches, 1.0),
    ("with batch()", pipelined, 1.0),
    ("one submit_many", at_once, 1.0),
]
"""Each way, and its share of the tasks: the slow ways need fewer."""


class Figures(NamedTuple):
    """Tasks a second, and microseconds of processor time for each task."""

    rate: float
    producer: float
    broker: float


def measure(
    way: Callable[[Client, bytes, int], None],
    client: Client,
    payload: bytes,
    tasks: int,
    pid: int | None,
) -> Figures:
    client.admin.purge("bench")
    of_broker = processor_seconds(pid) if pid else 0.0
    began, used = time.perf_counter(), time.process_time()
    way(client, payload, tasks)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    of_broker = processor_seconds(pid) - of_broker if pid else 0.0
    return Figures(tasks / seconds, processor / tasks * 1e6, of_broker / tasks * 1e6)


@contextlib.contextmanager
def broker_of(given: str | None) -> Iterator[tuple[str, int | None]]:
    """The broker that the caller named, or one for this measurement, with its process."""
    if given:
        yield given, None
        return
    with celeriac_server() as broker:
        yield broker.url, broker.pid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--url", help="a broker that runs; by default a new one is started")
    parser.add_argument("--tasks", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--payload", type=int, default=100, help="bytes of the payload")
    parser.add_argument("--only", default="", help="only the ways whose title has this text")
    given = parser.parse_args()
    payload = b'[["' + b"x" * max(0, given.payload - 9) + b'"],{}]'
    ways = [way for way in WAYS if given.only in way[0]]
    found: dict[str, list[Figures]] = {title: [] for title, _, _ in ways}
    with broker_of(given.url) as (url, pid), Client(url, timeout=60) as client:
        client.submit(NAME, payload, options=OPTIONS)
        for _ in range(given.rounds):
            for title, way, share in ways:
                tasks = max(640, int(given.tasks * share))
                found[title].append(measure(way, client, payload, tasks, pid))
    for title, figures in found.items():
        rate, producer, broker = (statistics.median(each) for each in zip(*figures, strict=True))
        print(f"{title:24} {rate:10,.0f}/s  producer {producer:6.1f} us, broker {broker:6.1f} us")


if __name__ == "__main__":
    main()
