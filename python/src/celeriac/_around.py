"""What a worker does around each run of a handler. A framework sets it: the Django part of this
package closes connections to databases there."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol


class Around(Protocol):
    """Makes the two kinds of context managers. One of them is entered for each run."""

    def function(self) -> AbstractContextManager[None]:
        """For a handler that is a function. It runs on the thread of the handler."""
        ...

    def coroutine(self) -> AbstractAsyncContextManager[None]:
        """For a handler that is an `async def`. It runs on the event loop of the handler."""
        ...


_around: Around | None = None


def set_around(around: Around | None) -> None:
    """All workers of this process use this from now on; None means nothing."""
    global _around
    _around = around


def get_around() -> Around | None:
    """What the workers of this process use."""
    return _around


async def awaited(around: Around, call: Any) -> Any:
    """Awaits the call of an `async def` within its context manager."""
    async with around.coroutine():
        return await call
