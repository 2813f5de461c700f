"""Waiting for results: the broker pushes each change of the tasks for which somebody waits.

Nothing is watched because a task was sent. A watch begins when somebody waits, with the present
states, and it ends when nobody waits any more. Who waits for the end of one task, as `get` does,
sends a `Wait` in place of a watch: one answer comes, and there is nothing to end. No thread runs in
the background.
"""

from __future__ import annotations

import contextlib
import math
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
from celeriac.errors import CeleriacError
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

    def withdraw(self, link: Link) -> None:
        """Ends the watch at the broker."""
        link.end_watch(self, at_once=True)


class _Wait:
    """The wait for the end of one task."""

    error: CeleriacError | None = None

    def __init__(self, task_id: str) -> None:
        self.ids = [task_id]
        self.left = {task_id}
        body = wire.Wait(ids=self.ids, with_results=True)
        self.call = Call.of(body, then=self._answered, waits_until=math.inf)
        self.notify: Callable[[wire.TaskInfo | None], None]
        """Called with the task that has ended. None stands for a task whose end has not come with
        the answer, which is watched then, and for an error."""

    def _answered(self, call: Call) -> None:
        info = None
        if call.error is not None:
            self.error = call.error
        elif isinstance(call.answer, wire.WaitReply) and call.answer.tasks:
            info = call.answer.tasks[0]
        if self.left:
            # Somebody still waits.
            self.notify(info if info is not None and is_ended(info) else None)

    def has_begun(self) -> bool:
        """Whether the answer has come."""
        return self.call.done

    def withdraw(self, link: Link) -> None:
        """Withdraws the request."""
        self.left.clear()
        if not self.call.done:
            link.end_wait(self.call)


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
        self._watched: dict[str, _Watch | _Wait] = {}
        self._wanted: dict[str, bool] = {}
        """Ids that the next one who waits watches, and whether the end of the task alone is not
        enough."""
        self._gone: deque[str] = deque()
        """Ids for which nobody waits any more."""
        self._news: deque[tuple[_Watch | _Wait, wire.TaskInfo | None]] = deque()
        """Changes that nobody has handled; None for a watch that does not go on."""
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
        self._want(task_id, is_watch=False)

    def _want(self, task_id: str, *, is_watch: bool) -> None:
        if self._pid != os.getpid():
            self.on_after_fork()
        with self._lock:
            self._drop_gone()
            watch = self._watched.get(task_id)
            if is_watch and isinstance(watch, _Wait):
                # Another thread waits for the end alone. From now on the watch tells both.
                del self._watched[task_id]
                watch.withdraw(self._link)
            elif watch is not None or task_id in self._wanted:
                is_watch |= self._wanted.get(task_id, False)
                if watch is None:
                    self._wanted[task_id] = is_watch
                return
            self._wanted[task_id] = is_watch
        self._flush_gone()
        if self._has_drainer:
            self._link.wake()

    def cancel_for(self, task_id: str) -> None:
        """Nobody waits for this id any more."""
        self._gone.append(task_id)
        self._flush_gone()

    def on_wait_for_pending(self, result: Any, timeout: float | None = None, **_: Any) -> None:
        """Watches what is not watched yet, and handles the present states."""
        has_time = timeout is None or timeout >= _INTERVAL
        is_watch = self._has_drainer or self.on_message is not None or not has_time
        for node in _leaves(result):
            if not getattr(node, "_cache", None):
                self._want(node.id, is_watch=is_watch)
        link = self._link
        self._begin()
        if has_time:
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
        before, self.on_message = self.on_message, on_message
        try:
            self.on_wait_for_pending(result, timeout=timeout, **options)
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
                ids, is_watch = list(self._wanted), any(self._wanted.values())
                self._wanted.clear()
                if len(ids) == 1 and not is_watch:
                    self._begin_wait(ids.pop())
                for at in range(0, len(ids), _WATCHED_MAX):
                    watch = _Watch(ids[at : at + _WATCHED_MAX])
                    watch.notify = self._noticer(watch)
                    for task_id in watch.ids:
                        self._watched[task_id] = watch
                    watch.calls = link.begin_watch(watch, monotonic() + _BEGIN_SECONDS)
            self._flush_gone()
            link.write()

    def _begin_wait(self, task_id: str) -> None:
        """Waits for the end of one task. The caller holds the lock."""
        wait = self._watched[task_id] = _Wait(task_id)
        wait.notify = lambda info: self._news.append((wait, info))
        self._link.begin([wait.call])

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
                    watch.withdraw(self._link)

    def _suspend(self) -> None:
        """Ends all watches. What they were for is wanted again by the next one who waits."""
        with self._lock:
            self._drop_gone()
            for watch in dict.fromkeys(self._watched.values()):
                watch.withdraw(self._link)
            self._wanted.update(dict.fromkeys(self._watched, False))
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
                is_over = info is not None and self._handle(info)
                if info is None or (isinstance(watch, _Wait) and not is_over):
                    self._fail(watch)
            finally:
                self._link.wake(self._count)

    def _count(self) -> None:
        self._handled += 1

    def _fail(self, watch: _Watch | _Wait) -> None:
        """A watch has failed, or a wait is not enough. This thread tells why it has failed, and
        whoever still waits begins a watch."""
        with self._lock:
            for task_id in watch.ids:
                if self._watched.get(task_id) is watch:
                    del self._watched[task_id]
                    self._wanted[task_id] = True
        if watch.error is not None:
            raise watch.error

    def _handle(self, info: wire.TaskInfo) -> bool:
        """Handles one state. Whether the task is over for Celery: what the broker keeps for an id
        without a task is an ended record, also when it is the progress of a run."""
        if not is_ended(info) and not self.on_message:
            return False
        if is_bare(info):
            # The message was acknowledged and the record dropped, and the result may come later.
            body = wire.Get(ids=[info.id], with_results=True)
            info = self.backend.ask(body, wire.GetReply).tasks[0]
        try:
            meta: Any = meta_of(info)
            if meta is None:
                return False
            if isinstance(meta, dict):
                meta = self.backend.meta_from_decoded(meta)
            else:
                meta = self.backend.decode_result(meta)
        except Exception as error:
            # A result that this process cannot read. Who waits for it hears why.
            meta = {"status": states.FAILURE, "result": error, "traceback": None, "children": []}
        self.on_state_change({**meta, "task_id": info.id}, None)
        return meta["status"] in states.READY_STATES


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
