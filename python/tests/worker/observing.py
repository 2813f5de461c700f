"""Waits until a test sees what it expects."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celeriac import Result, State


def eventually(
    condition: Callable[[], object], seconds: float = 10.0, told: Callable[[], str] = str
) -> None:
    """Waits until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"the condition did not hold in {seconds} s: {told()}"
        time.sleep(0.01)


def wait_for_state(result: Result, *states: State, seconds: float = 10.0) -> None:
    """Waits until the task is in one of these states."""
    eventually(lambda: result.state in states, seconds, lambda: str(result.info()))


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stops a process for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
