"""Waiting for results: the broker pushes each change of the tasks for which somebody waits.

Nothing is watched because a task was sent. A watch begins when somebody waits, with the present
states, and it ends when nobody waits any more. No thread runs in the background.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from types import FunctionType
from typing import Any

from celery.backends.asynchronous import BaseResultConsumer, greenletDrainer
from celery.exceptions import TimeoutError as CeleryTimeoutError

from celeriac import _codec as wire
from celeriac._calls import Call
from celeriac._link import Link
from celeriac._watching import WatchedStates
from celeriac.celery.shapes import is_bare, is_ended, meta_of
from celery import states

_INTERVAL = 1.0
"""After this time a thread that waits calls its `on_interval`."""

_BEGIN_SECONDS = 30.0
_WATCHED_MAX = 10_000
"""The most ids of one request."""


class _Watch(WatchedStates):
    """One watch of several ids. It ends with the last of them that is left."""

    def __init__(self, ids: Iterable[str]) -> None:
        super().__init__(ids, with_results=True)
        self.left = set(self.ids)
        self.calls: list[Call] = []

    def has_begun(self) -> bool:
        """Whether the present states have come, or an error."""
        return bool(self.calls) and all(call.done for call in self.calls)


class ResultConsumer(BaseResultConsumer):
    """One for each backend. Any thread may wait, and each handles all changes that have come.

    The garbage collector may end the waiting for a result at any moment, so `cancel_for` waits for
    no lock: who holds it does the work before it goes on.
    """

    _connection_errors = (ConnectionError,)
    on_message: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watched: dict[str, _Watch] = {}
        self._wanted: dict[str, None] = {}
        """Ids that the next one who waits watches."""
        self._gone: deque[str] = deque()
        """Ids for which nobody waits any more."""
        self._news: deque[tuple[_Watch, wire.TaskInfo | None]] = deque()
        """Changes that nobody has handled; None for the failure of a watch."""
        self._handled = 0
        self._drained = 0
        self._waiters: dict[int, int] = {}
        """How many threads wait for each result object, by its identity."""

    @property
    def _link(self) -> Link:
        if self._pid != os.getpid():
            self.on_after_fork()
        link: Link = self.backend.client._link
        return link

    # What Celery calls

    def start(self, initial_task_id: str, **_: Any) -> None:
        """Begins with one id."""
        self.consume_from(initial_task_id)

    def stop(self) -> None:
        """Ends all watches."""
        self._suspend()

    def on_after_fork(self) -> None:
        """A child has the results of its parent, and none of its watches."""
        self._reset()

    def consume_from(self, task_id: str) -> None:
        """Notes an id. The next one who waits watches it."""
        if self._pid != os.getpid():
            self.on_after_fork()
        with self._lock:
            self._drop_gone()
            if task_id in self._watched or task_id in self._wanted:
                return
            self._wanted[task_id] = None
        self._flush_gone()
        if self._has_drainer:
            self._link.wake()

    def cancel_for(self, task_id: str) -> None:
        """Nobody waits for this id any more."""
        self._gone.append(task_id)
        self._flush_gone()

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **_: Any) -> None:
        """Watches what is not watched yet, and handles the present states."""
        for node in _leaves(result):
            if not getattr(node, "_cache", None):
                self.consume_from(node.id)
        link = self._link
        self._begin()
        if timeout is None or timeout >= _INTERVAL:
            # The present states are the first news. To wait for them is for those without time.
            return
        # The copy is made at once, while other threads change the dictionary.
        watches = list(self._watched.values())
        mine = [watch for watch in dict.fromkeys(watches) if not watch.has_begun()]
        link.wait(lambda: all(watch.has_begun() for watch in mine), monotonic() + _BEGIN_SECONDS)
        self._handle_news()

    def drain_events(self, timeout: float | None = None) -> None:
        """Waits for a change and handles it. Raises `TimeoutError`."""
        link = self._link
        deadline = monotonic() + (3600.0 if timeout is None else timeout)
        self._begin()
        link.wait(
            lambda: bool(self._news or self._wanted) or self._handled != self._drained, deadline
        )
        self._begin()
        self._handle_news()
        had, self._drained = self._drained, self._handled
        if had == self._drained and monotonic() >= deadline:
            raise TimeoutError("no result has changed")

    def drain_events_until(
        self, p: Any, timeout: float | None = None, on_interval: Any = None
    ) -> Iterator[Any]:
        """Handles changes until the promise is fulfilled. Raises `TimeoutError`."""
        if self._has_drainer:
            interval = _INTERVAL if timeout is None else min(max(timeout, 0.0), _INTERVAL)
            yield from self.drainer.drain_events_until(
                p, timeout=timeout, interval=interval, on_interval=on_interval
            )
            return
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            seen = self._handled
            if p.ready:
                return
            now = monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError("the time is over")
            # The first connection may take its time. It fails by itself.
            was_open = self._link.exchange.was_open
            until = now + (_INTERVAL if was_open else _BEGIN_SECONDS)
            if deadline is not None:
                until = min(until, deadline)
            self._begin()
            self._link.wait(self._until(p, seen), until)
            self._handle_news()
            yield
            if on_interval:
                on_interval()

    def _until(self, p: Any, seen: int) -> Callable[[], bool]:
        return lambda: bool(self._news) or p.ready or self._handled != seen

    def _wait_for_pending(self, result: Any, **options: Any) -> Iterator[Any]:
        key = id(result)
        with self._lock:
            self._waiters[key] = self._waiters.get(key, 0) + 1
        try:
            if self._has_drainer:
                yield from super()._wait_for_pending(result, **options)
            else:
                yield from self._wait_awake(result, **options)
        finally:
            self._leave(result)

    def _wait_awake(
        self,
        result: Any,
        timeout: float | None = None,
        on_interval: Any = None,
        on_message: Any = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Does what Celery does, and never sleeps after a change. Even a sleep of no time gives
        the processor away for a moment."""
        self.on_wait_for_pending(result, timeout=timeout, **options)
        before, self.on_message = self.on_message, on_message
        try:
            yield from self.drain_events_until(
                result.on_ready, timeout=timeout, on_interval=on_interval
            )
        except TimeoutError:
            raise CeleryTimeoutError("The operation timed out.") from None
        finally:
            self.on_message = before

    def on_state_change(self, meta: Any, message: Any) -> None:
        """One state of a task."""
        if meta["status"] not in states.READY_STATES:
            super().on_state_change(meta, message)
            return
        task_id = meta["task_id"]
        # First: who comes now begins another watch, and those who came before are found.
        self.cancel_for(task_id)
        if self._has_drainer:
            super().on_state_change(meta, message)
        else:
            _note_change(self, meta, message)
        # Celery keeps a result that nobody waits for, and would take it for that of a later run.
        with contextlib.suppress(KeyError):
            kept = self._pending_messages.pop(task_id)
            self._pending_messages.total -= len(kept)

    # Watches

    @property
    def _has_drainer(self) -> bool:
        """Whether a greenlet handles what comes, for all others."""
        return isinstance(self.drainer, greenletDrainer)

    def _begin(self) -> None:
        """Watches all ids that somebody wants."""
        link = self._link
        if self._wanted or self._gone:
            with self._lock:
                self._drop_gone()
                ids = list(self._wanted)
                self._wanted.clear()
                for at in range(0, len(ids), _WATCHED_MAX):
                    watch = _Watch(ids[at : at + _WATCHED_MAX])
                    watch.notify = self._noticer(watch)
                    for task_id in watch.ids:
                        self._watched[task_id] = watch
                    watch.calls = link.begin_watch(watch, monotonic() + _BEGIN_SECONDS)
            self._flush_gone()
            link.write()

    def _noticer(self, watch: _Watch) -> Callable[[], None]:
        """What the link calls, with its lock, when a watch has something."""

        def notice() -> None:
            while watch.has_more:
                self._news.append((watch, watch.take()))
            if watch.error is not None:
                self._news.append((watch, None))

        return notice

    def _flush_gone(self) -> None:
        while self._gone and self._lock.acquire(blocking=False):
            try:
                self._drop_gone()
            finally:
                self._lock.release()

    def _drop_gone(self) -> None:
        """Ends the watches that nobody needs. The caller holds the lock."""
        while self._gone:
            task_id = self._gone.popleft()
            self._wanted.pop(task_id, None)
            watch = self._watched.pop(task_id, None)
            if watch is not None:
                watch.left.discard(task_id)
                if not watch.left:
                    self._link.end_watch(watch, at_once=True)

    def _suspend(self) -> None:
        """Ends all watches. What they were for is wanted again by the next one who waits."""
        with self._lock:
            self._drop_gone()
            for watch in set(self._watched.values()):
                self._link.end_watch(watch, at_once=True)
            self._wanted.update(dict.fromkeys(self._watched))
            self._watched.clear()

    def _leave(self, result: Any) -> None:
        """One who waited goes away."""
        key = id(result)
        with self._lock:
            self._waiters[key] -= 1
            is_last = not self._waiters[key]
            if is_last:
                del self._waiters[key]
            is_idle = not self._waiters
        if is_last and getattr(result, "_cache", self) is None and not _has_listeners(result):
            self.backend.remove_pending_result(result)
        if is_idle and not self._has_drainer and self._watched:
            self._suspend()

    # Changes

    def _handle_news(self) -> None:
        """Handles all changes that have come, and wakes those who wait for them."""
        while self._news:
            try:
                watch, info = self._news.popleft()
            except IndexError:
                return
            try:
                if info is not None:
                    self._handle(info)
                else:
                    self._fail(watch)
            finally:
                self._link.wake(self._count)

    def _count(self) -> None:
        self._handled += 1

    def _fail(self, watch: _Watch) -> None:
        """A watch has failed. This thread tells why, and others begin another one."""
        with self._lock:
            for task_id in watch.ids:
                if self._watched.get(task_id) is watch:
                    del self._watched[task_id]
                    self._wanted[task_id] = None
        if watch.error is not None:
            raise watch.error

    def _handle(self, info: wire.TaskInfo) -> None:
        if not is_ended(info) and not self.on_message:
            return
        if is_bare(info):
            # The message was acknowledged and the record dropped, and the result may come later.
            body = wire.Get(ids=[info.id], with_results=True)
            info = self.backend.ask(body, wire.GetReply).tasks[0]
        try:
            meta: Any = meta_of(info)
            if meta is None:
                return
            if isinstance(meta, dict):
                meta = self.backend.meta_from_decoded(meta)
            else:
                meta = self.backend.decode_result(meta)
        except Exception as error:
            # A result that this process cannot read. Who waits for it hears why.
            meta = {"status": states.FAILURE, "result": error, "traceback": None, "children": []}
        self.on_state_change({**meta, "task_id": info.id}, None)


def _sleepless(function: Any) -> Any:
    """A copy of a function of Celery that does not sleep. The function ends with a sleep of no
    time, which gives the processor away while the caller has its result already."""
    names = {**function.__globals__, "sleep": lambda _: None}
    code, defaults = function.__code__, function.__defaults__
    return FunctionType(code, names, function.__name__, defaults, function.__closure__)


_note_change = _sleepless(BaseResultConsumer.on_state_change)


def _leaves(result: Any) -> Iterator[Any]:
    """The results of single tasks in a result."""
    if hasattr(result, "_cache"):
        yield result
        return
    for node in getattr(result, "results", None) or ():
        yield from _leaves(node)


def _has_listeners(result: Any) -> bool:
    """Whether somebody has called `then`."""
    promise = getattr(result, "on_ready", None)
    return bool(
        getattr(promise, "_svpending", None) is not None or getattr(promise, "_lvpending", None)
    )
