"""A coroutine that can be told of its soft time limit from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from celeriac.context import DROP, SOFT_LIMIT
from celeriac.control import SoftTimeLimitExceeded


class Stoppable:
    """A coroutine around another one, in which it raises `SoftTimeLimitExceeded` when the soft
    limit is over. `start` makes a task of asyncio of it.

    The task calls `send` and `throw` itself, so that a step of the inner coroutine takes hardly
    longer than without this one.
    """

    __slots__ = ("_coroutine", "_events", "_is_soft", "_task")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._is_soft = False
        self._events: asyncio.AbstractEventLoop
        self._task: asyncio.Task[Any]

    def start(self, events: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        """Begins to run as a task of this event loop."""
        self._events = events
        coroutine: Any = self
        self._task = events.create_task(coroutine)
        return self._task

    def ask_soon(self, what: int) -> None:
        """As `ask`, from any thread. A loop that is closed has no run to stop."""
        with suppress(RuntimeError):
            self._events.call_soon_threadsafe(self.ask, what)

    def ask(self, what: int) -> None:
        """On the event loop: stops the coroutine, or tells it of its soft limit."""
        task = self._task
        if task.done():
            return
        if what & DROP:
            task.cancel()
        elif what & SOFT_LIMIT:
            self._is_soft = True
            task.cancel()

    # What a task of asyncio calls.

    def send(self, value: Any) -> Any:
        """Goes on with the coroutine."""
        return self._coroutine.send(value)

    def throw(self, error: BaseException, *_: Any) -> Any:
        """Raises an error in the coroutine."""
        return self._coroutine.throw(self._translated(error))

    def close(self) -> None:
        """Ends the coroutine."""
        self._coroutine.close()

    def _translated(self, raised: BaseException) -> BaseException:
        """The cancel that `ask` caused is the soft limit, and every other one a cancel."""
        if not self._is_soft or not isinstance(raised, asyncio.CancelledError):
            return raised
        self._is_soft = False
        current = asyncio.current_task()
        # Since Python 3.11 a task counts its cancels.
        uncancel = getattr(current, "uncancel", None)
        if uncancel is not None:
            uncancel()
        return SoftTimeLimitExceeded()


# By this asyncio knows that a task can be made of it.
Coroutine.register(Stoppable)
