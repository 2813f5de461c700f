"""A coroutine that can be told of its soft time limit from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from celeriac.context import DROP, SOFT_LIMIT
from celeriac.control import SoftTimeLimitExceeded


class Stoppable:
    """Awaits a coroutine, and raises `SoftTimeLimitExceeded` in it when its soft limit is over."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._is_soft = False

    def ask(self, what: int, task: asyncio.Task[Any]) -> None:
        """On the event loop: stops the coroutine, or tells it of its soft limit."""
        if task.done():
            return
        if what & DROP:
            task.cancel()
        elif what & SOFT_LIMIT:
            self._is_soft = True
            task.cancel()

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        error: BaseException | None = None
        while True:
            try:
                waited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            try:
                yield waited
            except BaseException as raised:
                error = self._translated(raised)

    def _translated(self, raised: BaseException) -> BaseException:
        """The cancel that `ask` caused is the soft limit, and every other one a cancel."""
        if not self._is_soft or not isinstance(raised, asyncio.CancelledError):
            return raised
        self._is_soft = False
        current = asyncio.current_task()
        if current is not None and hasattr(current, "uncancel"):
            current.uncancel()
        return SoftTimeLimitExceeded()


async def awaited(run: Stoppable) -> Any:
    """What the coroutine returns. A task of asyncio needs a coroutine of its own."""
    return await run
