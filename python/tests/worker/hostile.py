"""Tasks that do what no task should. The worker and its other tasks must go on."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
import time

from celeriac import Celeriac

app = Celeriac(queue="hostile")


class Odd(BaseException):
    """No `Exception`."""


class ExitsWhenShown(Exception):
    def __str__(self) -> str:
        sys.exit(4)


class FailsWhenShown(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class HoldsALock(Exception):
    """Cannot be pickled, and its text has half of a surrogate pair."""

    def __init__(self) -> None:
        super().__init__("\ud800 half")
        self.lock = threading.Lock()


@app.task(name="raises", max_attempts=1)
def raises(kind: str) -> None:
    raise _error(kind)


@app.task(name="raises_async", max_attempts=1)
async def raises_async(kind: str) -> None:
    raise _error(kind)


def _error(kind: str) -> BaseException:
    if kind == "endless cause":
        first, second = ValueError(kind), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        return first
    if kind == "long chain":
        error = ValueError(kind)
        for _ in range(2000):
            following = ValueError(kind)
            following.__cause__, error = error, following
        return error
    kinds = {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
        "CancelledError": asyncio.CancelledError(),
        "MemoryError": MemoryError(),
        "StopIteration": StopIteration(3),
        "Odd": Odd("odd"),
        "ExitsWhenShown": ExitsWhenShown(),
        "FailsWhenShown": FailsWhenShown(),
        "HoldsALock": HoldsALock(),
    }
    return kinds[kind]


@app.task(name="returns", max_attempts=1)
def returns(kind: str) -> object:
    circle: list[object] = []
    circle.append(circle)
    values = {
        "a generator": (each for each in "ab"),
        "NaN": math.nan,
        "a circle": circle,
        "bytes": b"\0",
        "a lock": threading.Lock(),
    }
    return values[kind]


@app.task(name="returns_much", max_attempts=1)
def returns_much(size: int) -> str:
    return "x" * size


@app.task(name="endless_recursion", max_attempts=1)
def endless_recursion() -> None:
    endless_recursion()


@app.task(name="closes_its_streams", max_attempts=1)
def closes_its_streams() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        stream.close()
    print("nowhere")


@app.task(name="forks", max_attempts=1)
def forks() -> str:
    """Two processes come back from the handler."""
    if os.fork() == 0:
        return "the child"
    os.wait()
    return "the parent"


@app.task(name="forks_async", max_attempts=1)
async def forks_async() -> str:
    if os.fork() == 0:
        return "the child"
    os.wait()
    return "the parent"


@app.task(name="stops_its_loop", max_attempts=1)
async def stops_its_loop() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)
    return "went on"


@app.task(name="exits_beside", max_attempts=1)
async def exits_beside() -> str:
    async def leave() -> None:
        sys.exit(5)

    beside = asyncio.create_task(leave())
    await asyncio.sleep(0.05)
    return f"went on {beside.done()}"


@app.task(name="ignores_signals", max_attempts=1)
def ignores_signals() -> None:
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)


@app.task(name="leaves_a_thread", max_attempts=1)
def leaves_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()


@app.task(name="well", max_attempts=1)
def well() -> str:
    return "well"


@app.task(name="well_async", max_attempts=1)
async def well_async() -> str:
    return "well"
