"""The figures of one measurement, and the middle of several."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from processor import processor_seconds
from servers import Server

Clock = Callable[[], float]


class Figure(NamedTuple):
    """What one measurement found: tasks a second, and microseconds of processor time for each task.
    Of round trips the median time is known, in milliseconds."""

    rate: float
    client_us: float
    server_us: float
    p50_ms: float | None = None


def measured(tasks: int, server: Server, client: Clock, work: Callable[[], Any]) -> Figure:
    """Runs the work between two looks at the clocks."""
    before = time.monotonic(), client(), processor_seconds(server.pid)
    work()
    seconds = time.monotonic() - before[0]
    client_seconds = client() - before[1]
    server_seconds = processor_seconds(server.pid) - before[2]
    return Figure(tasks / seconds, client_seconds / tasks * 1e6, server_seconds / tasks * 1e6)


def timed(tasks: int, server: Server, trip: Callable[[], Any]) -> Figure:
    """Makes so many trips, one after the other."""
    times: list[float] = []

    def work() -> None:
        for _ in range(tasks):
            began = time.perf_counter()
            trip()
            times.append(time.perf_counter() - began)

    figure = measured(tasks, server, time.process_time, work)
    return figure._replace(p50_ms=statistics.median(times) * 1000)


def middle_of(figures: list[Figure]) -> Figure:
    """The medians of rates and of times, and the mean of processor times: the kernel counts those
    in hundredths of a second, and a turn may take a few of them."""
    rate = statistics.median(figure.rate for figure in figures)
    client_us = statistics.mean(figure.client_us for figure in figures)
    server_us = statistics.mean(figure.server_us for figure in figures)
    times = [figure.p50_ms for figure in figures if figure.p50_ms is not None]
    return Figure(rate, client_us, server_us, statistics.median(times) if times else None)
