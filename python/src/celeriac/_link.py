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
from collections import deque
from collections.abc import Callable, Sequence

from celeriac import _codec
from celeriac._calls import Call
from celeriac._dial import dial
from celeriac._exchange import Exchange
from celeriac._tls import Tls
from celeriac._watching import WatchedStates
from celeriac.errors import (
    CeleriacError,
    ClientClosed,
    ConnectError,
    DeadlineExceeded,
    TlsError,
)
from celeriac.url import BrokerUrl, PresentToken

_READ_BYTES = 64 * 1024
_STEP_MAX = 3600.0
"""The longest time of one read. A socket takes no endless times."""
_TELL_SECONDS = 0.1
"""So long the end of a watch may take to write. What is left is written with the next call."""
_LOOK_AGAIN = 1.0
"""After this time a thread that waits looks whether another one has done its work."""


class _Turn:
    """The right of one thread to read, or to write. The link keeps a weak reference, so the right
    ends with the thread's call, however that ends."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()


_TurnRef = weakref.ref[_Turn]


class Link:
    """One client's connection, which is opened at the first call and again when it breaks.

    At most one thread reads from the socket, and at most one writes to it; the others wait for the
    one that reads. The lock is never held while something blocks.

    A signal's handler may raise an exception at any moment, as time limits do. So the lock is used
    in `with` statements only, which Python does not interrupt, and a connection in whose reading or
    writing such an exception came is given up: nobody knows where its next frame begins. A handler
    may also use the client itself, while its thread reads: it then reads in place of that call.
    """

    def __init__(
        self, url: BrokerUrl, hello: Callable[[], _codec.Hello], connect_timeout: float
    ) -> None:
        self.url = url
        self.connect_timeout = connect_timeout
        self._hello = hello
        self._token = PresentToken(url)
        self._begin(was_open=False)
        _links.add(self)

    def _begin(self, *, was_open: bool) -> None:
        """Begins anew, in a new object or in a child process."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._left: deque[WatchedStates | Call] = deque()
        """Watches that nobody follows any more, and requests whose answers nobody needs. The
        garbage collector may end a watch at any moment, also while its thread holds the lock: this
        takes no lock."""
        self._waiters: list[threading.Lock] = []
        """The threads that wait for the one that reads: releasing a lock wakes its thread."""
        self._socket: socket.socket | None = None
        self._writer: socket.socket | None = None
        """A second descriptor of the socket, with a timeout of its own."""
        self._reading: _TurnRef | None = None
        self._writing: _TurnRef | None = None
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

    def __del__(self) -> None:
        # A client that was dropped without `close` leaves no warning of open sockets.
        for each in (self.__dict__.get("_socket"), self.__dict__.get("_writer")):
            if each is not None:
                each.close()

    def _check_process(self) -> None:
        # A fork that Python does not know of has not called `after_fork`.
        if self._pid != os.getpid():
            self.after_fork()

    # What clients do

    def post(self, calls: Sequence[Call]) -> None:
        """Sends requests without waiting for their answers."""
        self.begin(calls)
        if self.exchange.is_open:
            self._write(max(call.deadline for call in calls))

    def begin(self, calls: Sequence[Call]) -> None:
        """Begins requests. `write` sends them, or who waits next."""
        self._check_process()
        with self._lock:
            self._send(calls)

    def run(self, calls: Sequence[Call]) -> None:
        """Waits until each of these posted requests is answered, or its deadline has come."""
        self._check_process()
        self._wait(lambda: _all_done(calls), lambda now: self._abandon(calls, now))

    def begin_watch(self, states: WatchedStates, deadline: float) -> list[Call]:
        """Begins a watch. Its requests are done when it has begun."""
        self._check_process()
        with self._lock:
            return self.exchange.watches.begin(states, time.monotonic(), deadline)

    def next_state(self, states: WatchedStates, deadline: float) -> _codec.TaskInfo | None:
        """The next state of a watch; None when all of its tasks have ended."""
        self._check_process()
        with self._lock:
            watches = self.exchange.watches
            if states.owner is not watches and states.error is None and not states.is_over:
                # The watch was begun in the parent of this process.
                watches.begin(states, time.monotonic(), math.inf)
        self._wait(
            lambda: states.has_more or states.is_over,
            lambda now: deadline if now < deadline else None,
        )
        with self._lock:
            if states.has_more:
                return states.take()
        if states.error is not None:
            raise states.error
        if not states.is_over:
            raise DeadlineExceeded("the time of the watch is over")
        return None

    def end_watch(self, states: WatchedStates, *, at_once: bool = False) -> None:
        """Ends a watch. The broker hears of it with the next call, or at once when no thread is in
        the way. This waits for no lock."""
        self._leave(states, at_once=at_once)

    def end_wait(self, call: Call) -> None:
        """Withdraws a `Wait`, in the same way, and at once when no thread is in the way."""
        self._leave(call, at_once=True)

    def _leave(self, left: WatchedStates | Call, *, at_once: bool) -> None:
        self._left.append(left)
        if not at_once or self._pid != os.getpid() or self._is_within():
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._end_watches()
        finally:
            self._lock.release()
        if self.exchange.is_open:
            with contextlib.suppress(CeleriacError, OSError):
                self._write(time.monotonic() + _TELL_SECONDS)

    def _is_within(self) -> bool:
        """Whether this thread holds the lock already: the garbage collector may run anywhere."""
        is_owned: Callable[[], bool] | None = getattr(self._lock, "_is_owned", None)
        return is_owned is None or is_owned()

    def write(self) -> None:
        """Writes what was begun, if there is a connection."""
        if self.exchange.is_open:
            self._write(time.monotonic() + _STEP_MAX)

    def wait(self, is_done: Callable[[], bool], deadline: float) -> None:
        """Reads, or waits for the thread that reads, until this is true or the time is over."""
        self._check_process()
        self._wait(is_done, lambda now: deadline if now < deadline else None)

    def wake(self, change: Callable[[], None] | None = None) -> None:
        """Lets all threads that wait look again, after this change."""
        with self._lock:
            if change is not None:
                change()
            self._wake()

    def close(self, seconds: float = 1.0) -> None:
        """Ends the session and closes the socket. Calls that wait fail with `ClientClosed`."""
        self._check_process()
        with self._lock:
            if self.exchange.is_closed:
                return
            self.exchange.goodbye()
        self._write(time.monotonic() + seconds)
        with self._lock:
            self._drop(ClientClosed("the client is closed"))

    # Within, with the lock

    def _send(self, calls: Sequence[Call]) -> None:
        now = time.monotonic()
        exchange = self.exchange
        if exchange.is_open and now - self._used_at > 1.0:
            self._notice_end(now)
        self._used_at = now
        self._end_watches()
        for call in calls:
            exchange.send(call, now)

    def _end_watches(self) -> None:
        """Ends the watches that nobody follows any more."""
        while self._left:
            left = self._left.popleft()
            if isinstance(left, Call):
                self.exchange.abandon(left, time.monotonic())
            elif left.owner is self.exchange.watches:
                self.exchange.watches.end(left)

    def _notice_end(self, now: float) -> None:
        """After a pause: whether the broker has closed the connection meanwhile, so that no request
        is written into it. What has arrived is read, so that it does not grow old."""
        if _is_held(self._reading) or self._socket is None:
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
            if now >= call.due:
                self.exchange.abandon(call, now)
            else:
                nearest = min(nearest, call.due)
        return nearest

    def _drop(self, reason: CeleriacError, *, is_own: bool = False) -> None:
        """Closes the socket. The exchange decides what is sent again."""
        opened, self._socket = self._socket, None
        writer, self._writer = self._writer, None
        self._unwritten = b""
        exchange = self.exchange
        was_open = exchange.was_open
        for each in (opened, writer):
            if each is not None:
                # A thread that reads or writes wakes up.
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        shown = _at(reason, self.url)
        exchange.disconnected(shown, time.monotonic(), is_own=is_own)
        if exchange.is_closed:
            exchange.fail_all(ClientClosed("the client is closed"))
        elif not was_open and not is_own and isinstance(reason, ConnectionError):
            exchange.fail_all(shown)
        self._wake()

    def _wake(self) -> None:
        """Wakes the threads that wait for the one that reads."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.release()

    def _new_waiter(self) -> threading.Lock:
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        return waiter

    # Within, without the lock

    def _wait(
        self, is_done: Callable[[], bool], deadline_at: Callable[[float], float | None]
    ) -> None:
        """Reads, or waits for the thread that reads, until the work is done. `deadline_at` gives
        the next deadline, or None when there is no more time."""
        turn = _Turn()
        while True:
            with self._lock:
                deadline = deadline_at(time.monotonic())
                if is_done() or deadline is None:
                    return
                before = self._reading
                reader = before() if before is not None else None
                waiter = None
                if reader is None or reader.thread == turn.thread:
                    self._reading = weakref.ref(turn)
                else:
                    waiter = self._new_waiter()
            if waiter is not None:
                self._sleep(waiter, deadline, _LOOK_AGAIN)
                continue
            try:
                self._step(deadline)
            finally:
                with self._lock:
                    self._reading = before
                    self._wake()

    def _sleep(self, waiter: threading.Lock, deadline: float, most: float) -> None:
        """Sleeps until the lock is released, which the thread itself has acquired."""
        seconds = min(deadline - time.monotonic(), most)
        if seconds <= 0 or not waiter.acquire(timeout=seconds):
            with self._lock, contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _step(self, deadline: float) -> None:
        """Opens the connection, or reads once. The calling thread is the one that reads."""
        exchange, reader = self.exchange, self._socket
        if exchange.is_closed:
            with self._lock:
                exchange.fail_all(ClientClosed("the client is closed"))
        elif reader is None:
            self._connect(exchange, deadline)
        else:
            self._write(deadline)
            self._read(reader, deadline)

    def _connect(self, exchange: Exchange, deadline: float) -> None:
        now = time.monotonic()
        if exchange.retry_at > now:
            with self._lock:
                waiter = self._new_waiter()
            self._sleep(waiter, deadline, exchange.retry_at - now)
            return
        until = min(deadline, now + self.connect_timeout)
        token = self._token()
        try:
            tls = Tls.of(self.url)
            opened = dial(self.url, until)
        except (ConnectError, TlsError) as error:
            with self._lock:
                exchange.disconnected(error, time.monotonic())
                if not exchange.was_open:
                    exchange.fail_all(error)
            return
        with self._lock:
            if exchange.is_closed or exchange is not self.exchange:
                opened.close()
                return
            self._writer = opened.dup()
            self._unwritten = b""
            self._used_at = time.monotonic()
            exchange.hello.token = token
            exchange.connected(self._used_at, tls)
            # This comes last: after an exception in between, the next call connects anew.
            self._socket = opened
        self._write(until)
        while self._socket is opened and not exchange.is_open:
            if time.monotonic() < until:
                self._read(opened, until)
                # The handshake of TLS goes to and fro.
                self._write(until)
                continue
            message = f"the program at {self.url.shown} does not answer as a broker does"
            with self._lock:
                if self._socket is opened:
                    self._drop(ConnectError(message))

    def _read(self, reader: socket.socket, deadline: float) -> None:
        """Reads once, at most until the deadline or until a heartbeat is due."""
        exchange = self.exchange
        # A signal's handler may use the client in the midst of this read, and read the answer for
        # which this call waits. Python then goes on with the read.
        until = min(deadline, exchange.next_tick(), time.monotonic() + _LOOK_AGAIN)
        try:
            data = None
            with contextlib.suppress(TimeoutError, BlockingIOError):
                reader.settimeout(min(max(until - time.monotonic(), 0.0005), _STEP_MAX))
                data = reader.recv(_READ_BYTES)
            with self._lock:
                if reader is not self._socket:
                    return
                now = self._used_at = time.monotonic()
                self._end_watches()
                if data is not None:
                    exchange.receive(data, now)
                exchange.tick(now)
                if exchange.fault is not None:
                    self._drop(exchange.fault)
        except BaseException as error:
            with self._lock:
                if reader is self._socket:
                    self._drop(_lost(error), is_own=not isinstance(error, OSError))
            if not isinstance(error, OSError):
                raise

    def _write(self, deadline: float) -> None:
        """Writes what is to be written. Another thread that writes takes it along."""
        turn = _Turn()
        with self._lock:
            if _is_held(self._writing):
                return
            self._writing = weakref.ref(turn)
        writer = None
        try:
            while True:
                with self._lock:
                    writer = self._writer
                    data = b""
                    if writer is not None:
                        data = self._unwritten + self.exchange.take_outgoing()
                        self._unwritten = b""
                    if writer is None or not data:
                        # In the same moment as the last look, so that nothing is left behind.
                        self._writing = None
                        return
                rest = _send_all(writer, data, deadline)
                if rest:
                    with self._lock:
                        self._writing = None
                        if writer is self._writer:
                            self._unwritten = rest
                    return
        except BaseException as error:
            with self._lock:
                self._writing = None
                if writer is not None and writer is self._writer:
                    self._drop(_lost(error), is_own=not isinstance(error, OSError))
            if not isinstance(error, OSError):
                raise


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork() -> None:
    for link in list(_links):
        link.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _is_held(turn: _TurnRef | None) -> bool:
    """Whether a thread reads, or writes, by this turn."""
    return turn is not None and turn() is not None


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


def _lost(error: BaseException) -> ConnectError:
    if isinstance(error, OSError):
        return ConnectError(f"the connection broke: {error.strerror or error}")
    return ConnectError("the program was interrupted while it used the connection")


def _at(error: CeleriacError, url: BrokerUrl) -> CeleriacError:
    """The same error with the address of the broker."""
    if type(error).__module__ != ConnectError.__module__ or not isinstance(error, ConnectionError):
        return error
    text = str(error)
    return error if url.shown in text else type(error)(f"{text} (the broker at {url.shown})")
