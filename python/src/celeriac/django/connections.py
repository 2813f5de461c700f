"""Closes connections around each task, as Django does around each request."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)

from asgiref.sync import sync_to_async
from django.core.cache import close_caches
from django.db import close_old_connections, reset_queries

log = logging.getLogger("celeriac.django")


class Connections:
    """A connection that is broken or older than its `CONN_MAX_AGE` is closed before a task and
    after it. Caches are closed after it."""

    def function(self) -> AbstractContextManager[None]:
        """For a task that is a function. Connections belong to its thread."""
        return _around_function()

    def coroutine(self) -> AbstractAsyncContextManager[None]:
        """For a task that is an `async def`. Its connections belong to the thread on which
        `sync_to_async` runs functions."""
        return _around_coroutine()


@contextmanager
def _around_function() -> Iterator[None]:
    _before()
    try:
        yield
    finally:
        _after()


@asynccontextmanager
async def _around_coroutine() -> AsyncIterator[None]:
    await sync_to_async(_before)()
    try:
        yield
    finally:
        await sync_to_async(_after)()


def _before() -> None:
    # With DEBUG each connection keeps its queries, which would fill the memory of a worker.
    reset_queries()
    close_old_connections()


def _after() -> None:
    # The task has ended, so an error here must not take its result away.
    try:
        close_old_connections()
        close_caches()
    except Exception:
        log.exception("The connections of a task were not all closed.")
