"""The socket behind a client with blocking calls. Threads share it, and a child process that was
forked opens its own. No thread runs in the background: who waits for an answer reads for all."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence

from celeriac import _codec
from celeriac._calls import Call
from celeriac._dial import dial
from celeriac._exchange import Exchange
from celeriac._watching import WatchedStates
from celeriac.errors import CeleriacError, ClientClosed, ConnectError, DeadlineExceeded
from celeriac.url import BrokerUrl

_READ_BYTES = 64 * 1024
_STEP_MAX = 3600.0
"""The longest time of one read. A socket takes no endless times."""


class Link:
    """One client's connection, which is opened at the first call and again when it breaks.

    At most one thread reads from the socket, and at most one writes to it. The lock is held only
    while nothing blocks. A thread whose answer another thread reads waits on the condition.
    """

    def __init__(
        self, url: BrokerUrl, hello: Callable[[], _codec.Hello], connect_timeout: float
    ) -> None:
        self.url = url
        self.connect_timeout = connect_timeout
        self._hello = hello
        self._begin(was_open=False)
        _links.add(self)

    def _begin(self, *, was_open: bool) -> None:
        """Begins anew, in a new object or in a child process."""
        self._pid = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._socket: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._is_reading = False
        self._is_writing = False
        self._unwritten = b""
        """The rest of a write for which the time was not enough."""
        self._used_at = 0.0
        self.exchange = Exchange(self._hello())
        self.exchange.was_open = was_open

    def after_fork(self) -> None:
        """Leaves the sockets to the parent: they are closed here without a word. The lock may be
        held by a thread that does not exist in the child, so there is a new one."""
        inherited = (self._socket, self._writer)
        is_closed = self.exchange.is_closed
        self._begin(was_open=self.exchange.was_open)
        self.exchange.is_closed = is_closed
        for each in inherited:
            if each is not None:
                each.close()

    def _check_process(self) -> None:
        # A fork that Python does not know of has not called `after_fork`.
        if self._pid != os.getpid():
            self.after_fork()

    # What clients do

    def post(self, calls: Sequence[Call]) -> None:
        """Sends requests without waiting for their answers."""
        self._check_process()
        with self._changed:
            self._send(calls)
            if self.exchange.is_open:
                self._write(max((call.deadline for call in calls), default=0.0))

    def run(self, calls: Sequence[Call]) -> None:
        """Waits until each of these posted requests is answered, or its deadline has come."""
        self._check_process()
        with self._changed:
            self._wait(lambda: _all_done(calls), lambda now: self._abandon(calls, now))

    def begin_watch(self, states: WatchedStates, deadline: float) -> list[Call]:
        """Begins a watch. Its requests are done when it has begun."""
        self._check_process()
        with self._changed:
            return self.exchange.watches.begin(states, time.monotonic(), deadline)

    def next_state(self, states: WatchedStates, deadline: float) -> _codec.TaskInfo | None:
        """The next state of a watch; None when all of its tasks have ended."""
        self._check_process()
        with self._changed:
            if not states.is_registered and states.error is None and not states.is_over:
                # The watch was begun in the parent of this process.
                self.exchange.watches.begin(states, time.monotonic(), math.inf)

            def is_due() -> bool:
                return states.has_more or states.is_over

            self._wait(is_due, lambda now: deadline if now < deadline else None)
            if states.has_more:
                return states.take()
            if states.error is not None:
                raise states.error
            if not states.is_over:
                raise DeadlineExceeded("the time of the watch is over")
            return None

    def end_watch(self, states: WatchedStates) -> None:
        """Ends a watch. The broker hears of it with the next call."""
        if self._pid == os.getpid() and states.is_registered:
            with self._changed:
                self.exchange.watches.end(states)

    def close(self, seconds: float = 1.0) -> None:
        """Ends the session and closes the socket. Calls that wait fail with `ClientClosed`."""
        self._check_process()
        deadline = time.monotonic() + seconds
        with self._changed:
            if self.exchange.is_closed:
                return
            self.exchange.goodbye()
            with contextlib.suppress(OSError):
                self._write(deadline)
            self._drop(ClientClosed("the client is closed"))

    # Within; the lock is held

    def _send(self, calls: Sequence[Call]) -> None:
        now = time.monotonic()
        exchange = self.exchange
        if exchange.is_open and now - self._used_at > 1.0:
            self._notice_end(now)
        self._used_at = now
        for call in calls:
            exchange.send(call, now)

    def _notice_end(self, now: float) -> None:
        """After a pause: whether the broker has closed the connection meanwhile, so that no request
        is written into it. What has arrived is read, so that it does not grow old."""
        if self._is_reading or self._socket is None:
            return
        try:
            self._socket.settimeout(0)
            self.exchange.receive(self._socket.recv(_READ_BYTES), now)
        except (BlockingIOError, TimeoutError):
            pass
        except OSError as error:
            self._drop(_lost(error))
            return
        if self.exchange.fault is not None:
            self._drop(self.exchange.fault)
        else:
            self.exchange.tick(now)

    def _abandon(self, calls: Sequence[Call], now: float) -> float | None:
        """Ends the calls whose time is over. The earliest deadline of the others."""
        nearest = math.inf
        for call in calls:
            if call.done:
                continue
            if now >= call.deadline:
                self.exchange.abandon(call, now)
            else:
                nearest = min(nearest, call.deadline)
        return nearest

    def _wait(
        self, is_done: Callable[[], bool], deadline_at: Callable[[float], float | None]
    ) -> None:
        """Reads, or waits for the thread that reads, until the work is done. `deadline_at` gives
        the next deadline, or None when there is no more time."""
        while not is_done():
            deadline = deadline_at(time.monotonic())
            if is_done():
                return
            if deadline is None:
                return
            if self._is_reading:
                self._changed.wait(min(deadline - time.monotonic(), _STEP_MAX))
                continue
            self._is_reading = True
            try:
                self._step(deadline)
            finally:
                self._is_reading = False
                self._changed.notify_all()

    def _step(self, deadline: float) -> None:
        """Opens the connection, or reads once. The calling thread is the one that reads."""
        if self.exchange.is_closed:
            self.exchange.fail_all(ClientClosed("the client is closed"))
        elif self._socket is None:
            self._connect(deadline)
        else:
            self._write(deadline)
            if self._socket is not None:
                self._read(deadline)

    def _connect(self, deadline: float) -> None:
        exchange = self.exchange
        pause = exchange.retry_at - time.monotonic()
        if pause > 0:
            # The condition lets other threads go on, and wakes up when the client is closed.
            self._changed.wait(min(pause, max(0.0, deadline - time.monotonic())))
            return
        until = min(deadline, time.monotonic() + self.connect_timeout)
        try:
            with self._unlocked():
                opened = dial(self.url, until)
        except ConnectError as error:
            exchange.disconnected(error, time.monotonic())
            if not exchange.was_open:
                exchange.fail_all(error)
            return
        if exchange.is_closed:
            opened.close()
            return
        self._socket, self._writer = opened, opened.dup()
        self._unwritten = b""
        self._used_at = time.monotonic()
        exchange.connected(self._used_at)
        self._write(until)
        while not exchange.is_open and self._socket is not None:
            if time.monotonic() >= until:
                if until < deadline or not exchange.was_open:
                    message = f"the program at {self.url.shown} does not answer as a broker does"
                    self._drop(ConnectError(message))
                else:
                    self._drop(ConnectError("the broker does not answer"))
                break
            self._read(until)

    def _read(self, deadline: float) -> None:
        """Reads once, at most until the deadline or until a heartbeat is due."""
        exchange, reader = self.exchange, self._socket
        assert reader is not None, "the caller has looked"
        until = min(deadline, exchange.next_tick())
        try:
            with self._unlocked():
                left = until - time.monotonic()
                reader.settimeout(min(max(left, 0.0005), _STEP_MAX))
                data = reader.recv(_READ_BYTES)
        except (TimeoutError, BlockingIOError):
            data = None
        except OSError as error:
            if reader is self._socket:
                self._drop(_lost(error))
            return
        except BaseException:
            # A signal or a greenlet's timeout: what was read may be lost, and with it the place
            # where the next frame begins.
            self._drop(ConnectError("the program interrupted the reading"))
            raise
        if reader is not self._socket:
            return
        now = self._used_at = time.monotonic()
        if data is not None:
            exchange.receive(data, now)
        exchange.tick(now)
        if exchange.fault is not None:
            self._drop(exchange.fault)

    def _write(self, deadline: float) -> None:
        """Writes what is to be written. Another thread that writes takes it along."""
        if self._is_writing:
            return
        exchange, writer = self.exchange, self._writer
        self._is_writing = True
        try:
            while writer is not None and (self._unwritten or exchange.has_outgoing):
                data = self._unwritten + exchange.take_outgoing()
                self._unwritten = b""
                with self._unlocked():
                    rest = _send_all(writer, data, deadline)
                if writer is not self._writer:
                    return
                if rest:
                    self._unwritten = rest
                    return
        except OSError as error:
            if writer is self._writer:
                self._drop(_lost(error))
        except BaseException:
            # As in `_read`: a part of a frame may have been written.
            self._drop(ConnectError("the program interrupted the writing"))
            raise
        finally:
            self._is_writing = False

    def _drop(self, reason: CeleriacError) -> None:
        """Closes the socket. The exchange decides what is sent again."""
        opened, self._socket = self._socket, None
        writer, self._writer = self._writer, None
        self._unwritten = b""
        was_open = self.exchange.was_open
        for each in (opened, writer):
            if each is not None:
                # A thread that reads or writes wakes up.
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self.exchange.disconnected(_at(reason, self.url), time.monotonic())
        if self.exchange.is_closed:
            self.exchange.fail_all(ClientClosed("the client is closed"))
        elif not was_open and isinstance(reason, ConnectionError):
            self.exchange.fail_all(_at(reason, self.url))
        self._changed.notify_all()

    @contextlib.contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Lets go of the lock while something blocks."""
        changed = self._changed
        changed.release()
        try:
            yield
        finally:
            changed.acquire()


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork() -> None:
    for link in list(_links):
        link.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _all_done(calls: Sequence[Call]) -> bool:
    return all(call.done for call in calls)


def _send_all(writer: socket.socket, data: bytes, deadline: float) -> bytes:
    """Writes the data. The rest for which the time was not enough."""
    view = memoryview(data)
    while view:
        left = deadline - time.monotonic()
        if left <= 0:
            return bytes(view)
        writer.settimeout(min(left, _STEP_MAX))
        try:
            view = view[writer.send(view) :]
        except (TimeoutError, BlockingIOError):
            continue
    return b""


def _lost(error: OSError) -> ConnectError:
    return ConnectError(f"the connection broke: {error.strerror or error}")


def _at(error: CeleriacError, url: BrokerUrl) -> CeleriacError:
    """The same error with the address of the broker."""
    if type(error).__module__ != ConnectError.__module__ or not isinstance(error, ConnectionError):
        return error
    text = str(error)
    return error if url.shown in text else type(error)(f"{text} (the broker at {url.shown})")
