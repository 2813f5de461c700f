"""Runs handlers in this process: functions on threads, `async def` on one event loop.

A thread cannot be stopped from outside. A handler that is given up hears of it at its next call of
the context, and takes its place in the pool until it returns.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from functools import partial
from time import monotonic
from typing import Any

from celeriac import _codec as wire
from celeriac.app import Celeriac
from celeriac.context import DROP, Context
from celeriac.worker.execution import Execution, Tasks, leave_fork, unforeseen
from celeriac.worker.leases import RELEASE, RELEASE_UNBEGUN, RUNNING, Held, Leases
from celeriac.worker.loop import Loop
from celeriac.worker.reports import Encoded, encoded
from celeriac.worker.stoppable import Stoppable

log = logging.getLogger("celeriac.worker")


class LocalPool:
    """Threads and an event loop with together `slots` places."""

    def __init__(self, app: Celeriac, tasks: Tasks, leases: Leases, slots: int) -> None:
        self._app = app
        self._leases = leases
        self._slots = slots
        self._execution = Execution(tasks, middleware=app.middleware)
        self._async_names = frozenset(name for name, task in tasks.items() if task.is_async)
        self._changed = threading.Condition(leases.lock)
        """Wakes a thread: a delivery waits, or a run may begin."""
        self._pid = os.getpid()
        self._running = 0
        self._threads = 0
        self._idle = 0
        self._is_closed = False
        self._events: asyncio.AbstractEventLoop | None = None
        self._events_lock = threading.Lock()
        self._runs: set[asyncio.Task[Any]] = set()
        self._ended: list[tuple[Held, Encoded]] = []
        """The runs on the event loop that have ended in this turn of the loop, with their reports.
        """
        self._unbegun: set[Held] = set()
        """The runs that wait until the broker has the report of their start."""

    is_ready = True

    @property
    def running(self) -> int:
        """How many handlers run."""
        return self._running

    @property
    def is_withdrawn(self) -> bool:
        """Whether every delivery that has a place has begun."""
        return not self._unbegun

    def start(self, loop: Loop) -> None:
        """Threads begin when there is work for them."""

    def dispatch(self) -> None:
        """Begins what waits, as far as there are places."""
        with self._changed:
            begun = self._take_async()
            self._staff()
        self._begin_async(begun)

    def may_begin(self, held: Held) -> None:
        """The broker has the report of the start for which this run waits."""
        with self._changed:
            held.may_begin = True
            is_async = self._is_async(held)
            if is_async and held in self._unbegun:
                self._unbegun.discard(held)
            elif is_async:
                return
            else:
                self._changed.notify_all()
        if is_async:
            self._begin_async([held])

    def ask(self, held: Held, what: int) -> None:
        """Tells a handler that it should stop, or that its soft time limit is over."""
        with self._leases.lock:
            held.asked |= what
            context = held.context
        if context is not None:
            context.ask(what)

    def drop(self, held: Held) -> None:
        """Tells a handler that its lease is over. One on the event loop is cancelled."""
        self.ask(held, DROP)
        if held in self._unbegun:
            self._forget_unbegun(held)

    def withdraw(self) -> None:
        """Hands back the runs that wait for the answer to their start."""
        for held in list(self._unbegun):
            if self._leases.end(held, RELEASE_UNBEGUN):
                self._forget_unbegun(held)

    def release_of(self, held: Held) -> wire.Release:
        """The report that hands this run back: it says whether the handler has begun."""
        return RELEASE_UNBEGUN if held.begun_at is None else RELEASE

    def set_result_bytes_max(self, bytes_max: int) -> None:
        """The broker's limit for results."""
        self._execution.result_bytes_max = bytes_max

    def step(self, now: float) -> None:
        """Nothing is due at a time of its own."""

    def next_at(self) -> float | None:
        """Nothing is due at a time of its own."""
        return None

    def close(self) -> None:
        """Ends the threads that are idle and the event loop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            events, self._events = self._events, None
        if events is not None:
            events.call_soon_threadsafe(events.stop)

    def _serve(self, events: asyncio.AbstractEventLoop) -> None:
        """The thread of the event loop, until `close` stops it. Code of a handler may stop it too,
        and a task of its own that raises `SystemExit` does: the other runs go on then."""
        asyncio.set_event_loop(events)
        while self._events is events:
            try:
                events.run_forever()
            except BaseException as error:
                log.error("A handler's own task raised on the event loop: %r", error)
        events.close()

    def _is_async(self, held: Held) -> bool:
        return held.delivery.name in self._async_names

    def _context(self, held: Held) -> Context:
        # The fields of both kinds of deliveries are the same.
        delivered: Any = held.delivery
        context = Context(delivered, self._app, self._leases.progress)
        context.asked = held.asked
        held.context = context
        return context

    # The threads.

    def _staff(self) -> None:
        """Has a thread for each delivery that waits and has a place. The caller has the lock."""
        places = min(len(self._leases.waiting), self._slots - self._running)
        woken = min(places, self._idle)
        if woken > 0:
            self._changed.notify(woken)
        for _ in range(min(places - woken, self._slots - self._threads)):
            self._threads += 1
            threading.Thread(target=self._run, name="celeriac-handler", daemon=True).start()

    def _run(self) -> None:
        """One thread: runs deliveries until the pool ends."""
        taken = self._next()
        while taken is not None:
            held, context = taken
            delivered: Any = held.delivery
            try:
                report = self._execution.run(delivered, context, _drive)
            except BaseException as error:
                report = unforeseen(error)
            if os.getpid() != self._pid:
                leave_fork(held.id)
            taken = self._next(held, _encoded(held, report))

    def _next(
        self, ended: Held | None = None, report: Encoded | None = None
    ) -> tuple[Held, Context] | None:
        """Takes the report of one run, and then waits for the next delivery. None at the end."""
        leases = self._leases
        # The lock of `_changed`, whose own way to it is slower.
        with leases.lock:
            if ended is not None and report is not None:
                self._leave(ended, report)
                leases.wake()
            while True:
                held = self._wait_for_delivery()
                if held is None:
                    self._threads -= 1
                    return None
                if not held.may_begin and not self._wait_for_start(held):
                    continue
                context = self._context(held)
                leases.begin(held)
                return held, context

    def _wait_for_delivery(self) -> Held | None:
        while not self._is_closed:
            if self._async_names:
                self._begin_async(self._take_async())
            if self._running < self._slots:
                held = self._leases.take()
                if held is not None:
                    self._running += 1
                    return held
            self._idle += 1
            self._changed.wait()
            self._idle -= 1
        return None

    def _wait_for_start(self, held: Held) -> bool:
        """Reports the start, and waits for the answer. False when the lease is over before it."""
        self._ask_for_start(held)
        while not held.may_begin and held.state == RUNNING and not self._is_closed:
            self._changed.wait()
        self._unbegun.discard(held)
        if held.state == RUNNING and not self._is_closed:
            return True
        self._running -= 1
        return False

    def _ask_for_start(self, held: Held) -> None:
        self._unbegun.add(held)
        self._leases.ask_for_start(held)
        self._leases.wake()

    def _forget_unbegun(self, held: Held) -> None:
        """A run that has not begun is over: its thread takes the next delivery."""
        with self._changed:
            if self._is_async(held) and held in self._unbegun:
                self._running -= 1
            self._unbegun.discard(held)
            self._changed.notify_all()
            self._staff()

    def _leave(self, held: Held, report: Encoded) -> None:
        """A run has ended. The caller has the lock, and wakes the driver."""
        leases = self._leases
        leases.end_encoded(held, report)
        leases.ended += 1
        if held.begun_at is not None:
            leases.busy += monotonic() - held.begun_at
        self._running -= 1

    # The event loop.

    def _take_async(self) -> list[Held]:
        """Takes the deliveries in front of the queue that are for the event loop."""
        leases, waiting, names = self._leases, self._leases.waiting, self._async_names
        taken: list[Held] = []
        while (
            waiting
            and self._running < self._slots
            and waiting[0].delivery.name in names
            and not self._is_closed
        ):
            held = leases.take()
            assert held is not None
            self._running += 1
            if held.may_begin:
                taken.append(held)
            else:
                self._ask_for_start(held)
        return taken

    def _begin_async(self, begun: list[Held]) -> None:
        if begun:
            self._event_loop().call_soon_threadsafe(self._start_all, begun)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._events_lock:
            if self._events is None:
                events = self._events = asyncio.new_event_loop()
                threading.Thread(
                    target=self._serve, args=(events,), name="celeriac-asyncio", daemon=True
                ).start()
            return self._events

    def _start_all(self, begun: list[Held]) -> None:
        """On the event loop: begins these runs."""
        leases = self._leases
        runs: list[tuple[Held, Context]] = []
        with leases.lock:
            for held in begun:
                if held.state != RUNNING:
                    self._running -= 1
                    continue
                runs.append((held, self._context(held)))
                leases.begin(held)
        events = asyncio.get_running_loop()
        for held, context in runs:
            self._start(events, held, context)

    def _start(self, events: asyncio.AbstractEventLoop, held: Held, context: Context) -> None:
        """Begins a run as one task of asyncio."""
        delivered: Any = held.delivery
        run = Stoppable(self._execution.run_async(delivered, context))
        task = run.start(events)
        # asyncio itself keeps no reference, and a run could vanish.
        self._runs.add(task)
        task.add_done_callback(partial(self._on_done, held, context))
        context.listen(run.ask_soon)
        if context.asked:
            run.ask(context.asked)

    def _on_done(self, held: Held, context: Context, task: asyncio.Task[Any]) -> None:
        """On the event loop: a run has ended."""
        context.listen(None)
        self._runs.discard(task)
        # A task that is cancelled before its first step has no result.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        report = task.result() if error is None else unforeseen(error)
        if os.getpid() != self._pid:
            leave_fork(held.id)
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._end_all)
        self._ended.append((held, _encoded(held, report)))

    def _end_all(self) -> None:
        """On the event loop: the runs that have ended in this turn of the loop leave together, and
        other runs take their places."""
        ended, self._ended = self._ended, []
        with self._leases.lock:
            for held, report in ended:
                self._leave(held, report)
            begun = self._take_async()
            self._staff()
        self._leases.wake()
        if begun:
            self._start_all(begun)


def _drive(awaitable: Any) -> Any:
    """Runs what a function returned that is not `async def` itself, on a loop of its own."""
    return asyncio.run(_value_of(awaitable))


async def _value_of(awaitable: Any) -> Any:
    return await awaitable


def _encoded(held: Held, report: Any) -> Encoded:
    return encoded(held.id, held.lease, report)
