"""The connection behind an `AsyncClient`: the same as `_link` for asyncio. It lives in one event
loop, whose timers send the heartbeats."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from celeriac import _codec
from celeriac._calls import Call
from celeriac._dial import prepare, reason_of
from celeriac._exchange import Exchange
from celeriac._flow import Flow
from celeriac._tls import Tls
from celeriac._watching import WatchedStates
from celeriac.errors import CeleriacError, ClientClosed, ConnectError, DeadlineExceeded
from celeriac.url import BrokerUrl, PresentToken

_T = TypeVar("_T")

_TIMER_MAX = 3600.0
"""The longest time of one timer."""


class AsyncLink:
    """One client's connection in one event loop."""

    def __init__(
        self, url: BrokerUrl, hello: Callable[[], _codec.Hello], connect_timeout: float
    ) -> None:
        self.url = url
        self.connect_timeout = connect_timeout
        self.exchange = Exchange(hello())
        self._hello = hello
        self._token = PresentToken(url)
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        """The socket of the transport."""
        self._tls: Tls | None = None
        """For the connection that is being opened."""
        self._flushing: asyncio.Handle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    def ready(self) -> Exchange:
        """The exchange for the loop that runs here. A client that finds itself in another process,
        or in another loop after its own has ended, begins anew."""
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._pid == os.getpid():
            return self.exchange
        before = self._loop
        if before is not None:
            if before.is_running() and self._pid == os.getpid():
                raise ClientClosed(
                    "this AsyncClient belongs to an event loop that runs in another thread; "
                    "make one client for each loop"
                )
            was_open, is_closed = self.exchange.was_open, self.exchange.is_closed
            self.exchange = Exchange(self._hello())
            self.exchange.was_open, self.exchange.is_closed = was_open, is_closed
            self._transport = self._opening = self._timer = self._flushing = None
            if self._socket is not None:
                # In a child process this leaves the connection to the parent.
                self._socket.close()
                self._socket = None
        self._loop, self._pid = loop, os.getpid()
        return self.exchange

    async def drive(self, flow: Flow[_T]) -> _T:
        """Runs a flow. Its caller has called `ready`."""
        try:
            step = next(flow)
            while True:
                if step.post:
                    self.post(step.post)
                if step.wait:
                    await self.run(step.wait)
                step = flow.send(None)
        except StopIteration as end:
            value: _T = end.value
            return value

    def post(self, calls: Sequence[Call]) -> None:
        """Sends requests without waiting for their answers."""
        now = time.monotonic()
        for call in calls:
            self.exchange.send(call, now)
        # What all tasks of the loop send in this turn is written together.
        if self._flushing is None:
            self._flushing = self._running.call_soon(self._flush)

    async def run(self, calls: Sequence[Call]) -> None:
        """Waits until each request is answered, or its deadline has come."""
        left = [call for call in calls if not call.done]
        if not left:
            return
        done = self._running.create_future()

        def finished(_: Call) -> None:
            if not done.done() and all(call.done for call in left):
                done.set_result(None)

        for call in left:
            call.then = _both(call.then, finished)
        self._open_if_needed()
        timer = self._expire(left)
        try:
            await done
        finally:
            if timer is not None:
                timer.cancel()
            if not done.done() or done.cancelled():
                # The caller was cancelled: nobody waits for these any more.
                now = time.monotonic()
                for call in left:
                    self.exchange.abandon(call, now)
                self._flush()

    def _expire(self, calls: Sequence[Call]) -> asyncio.TimerHandle | None:
        """Ends the calls whose time is over, and sets the timer for the next one."""
        now = time.monotonic()
        nearest = math.inf
        for call in calls:
            if not call.done and call.due <= now:
                self.exchange.abandon(call, now)
                self._flush()
            elif not call.done:
                nearest = min(nearest, call.due)
        if nearest == math.inf:
            return None
        return self._running.call_later(min(nearest - now, _TIMER_MAX), self._expire, calls)

    def begin_watch(self, states: WatchedStates, deadline: float) -> list[Call]:
        """Begins a watch. Its requests are done when it has begun."""
        calls = self.exchange.watches.begin(states, time.monotonic(), deadline)
        self._flush()
        return calls

    async def next_state(self, states: WatchedStates, deadline: float) -> _codec.TaskInfo | None:
        """The next state of a watch; None when all of its tasks have ended."""
        while not states.has_more and not states.is_over:
            told = self._running.create_future()
            states.notify = lambda told=told: None if told.done() else told.set_result(None)
            self._open_if_needed()
            seconds = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
            try:
                await asyncio.wait((told,), timeout=seconds)
            finally:
                states.notify = None
            if not told.done():
                raise DeadlineExceeded("the time of the watch is over")
        if states.has_more:
            return states.take()
        if states.error is not None:
            raise states.error
        return None

    def end_watch(self, states: WatchedStates) -> None:
        """Ends a watch."""
        self.exchange.watches.end(states)
        self._flush()

    async def close(self) -> None:
        """Ends the session and closes the connection. Calls that wait fail with `ClientClosed`."""
        self.ready()
        closed = ClientClosed("the client is closed")
        self.exchange.goodbye()
        self._flush()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
            self._lost(self._transport, closed)
            # One turn of the loop lets the transport close its socket.
            await asyncio.sleep(0)
        self.exchange.fail_all(closed)

    # Within

    @property
    def _running(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "`ready` has noted the loop"
        return self._loop

    def _open_if_needed(self) -> None:
        if self._transport is None and self._opening is None and not self.exchange.is_closed:
            self._opening = self._running.create_task(self._open())

    async def _open(self) -> None:
        """Opens one connection. The next one is opened when somebody waits for it."""
        exchange = self.exchange
        try:
            await asyncio.sleep(max(0.0, exchange.retry_at - time.monotonic()))
            await self._connect()
        except CeleriacError as error:
            exchange.disconnected(error, time.monotonic())
            if not exchange.was_open:
                exchange.fail_all(error)
        finally:
            if self._opening is asyncio.current_task():
                self._opening = None
            self._go_on()

    async def _connect(self) -> None:
        """Looks the host up, and tries each address in turn."""
        deadline = time.monotonic() + self.connect_timeout
        if self.url.tls is not None:
            # Reading the CAs of the system may take longer than a turn of the loop should.
            self._tls = await self._running.run_in_executor(None, Tls.of, self.url)
        token = self._token
        if token.is_from_file:
            self.exchange.hello.token = await self._running.run_in_executor(None, token)
        looking = self._running.getaddrinfo(self.url.host, self.url.port, type=socket.SOCK_STREAM)
        trouble: Exception | None = None
        addresses = []
        try:
            addresses = await asyncio.wait_for(looking, self.connect_timeout)
        except asyncio.TimeoutError:
            # Before Python 3.11 this is no TimeoutError.
            trouble = TimeoutError()
        except (OSError, UnicodeError) as error:
            trouble = error
        for place, (family, kind, protocol, _, address) in enumerate(addresses):
            # One address that does not answer must not take the time of the others.
            left = (deadline - time.monotonic()) / (len(addresses) - place)
            opened = socket.socket(family, kind, protocol)
            opened.setblocking(False)
            try:
                await asyncio.wait_for(self._running.sock_connect(opened, address), left)
                prepare(opened)
                await self._running.create_connection(lambda: _Protocol(self), sock=opened)
            except asyncio.TimeoutError:
                opened.close()
                trouble = TimeoutError()
            except OSError as error:
                opened.close()
                trouble = error
            except BaseException:
                opened.close()
                raise
            else:
                self._socket = opened
                return
        raise ConnectError(f"no connection to a broker at {self.url.shown}: {reason_of(trouble)}")

    def _connected(self, transport: asyncio.Transport) -> None:
        if self.exchange.is_closed or self._transport is not None:
            transport.abort()
            return
        self._transport = transport
        tls, self._tls = self._tls, None
        self.exchange.connected(time.monotonic(), tls)
        self._flush()
        self._running.call_later(self.connect_timeout, self._check_greeting, transport)

    def _check_greeting(self, transport: asyncio.Transport) -> None:
        if transport is self._transport and not self.exchange.is_open:
            message = f"the program at {self.url.shown} does not answer as a broker does"
            self._lost(transport, ConnectError(message))

    def _received(self, transport: asyncio.Transport, data: bytes) -> None:
        if transport is self._transport:
            self.exchange.receive(data, time.monotonic())
            self._flush()

    def _lost(self, transport: asyncio.Transport, reason: CeleriacError) -> None:
        """The connection is over. The exchange decides what is sent again."""
        if transport is not self._transport:
            return
        self._transport = None
        transport.abort()
        was_open = self.exchange.was_open
        self.exchange.disconnected(reason, time.monotonic())
        if not was_open and isinstance(reason, ConnectionError):
            self.exchange.fail_all(reason)
        self._go_on()

    def _go_on(self) -> None:
        """Opens the next connection when a call or a watch needs one."""
        if self.exchange.has_work:
            self._open_if_needed()

    def _flush(self) -> None:
        """Writes what is to be written, and sets the timer for what comes next."""
        self._flushing = None
        exchange, transport = self.exchange, self._transport
        if transport is None:
            return
        if exchange.fault is not None:
            self._lost(transport, exchange.fault)
            return
        data = exchange.take_outgoing()
        if data:
            transport.write(data)
        due = exchange.next_tick()
        if self._timer is not None and (self._timer.cancelled() or self._timer_due > due):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due != math.inf:
            self._timer_due = due
            wait = max(0.0, due - time.monotonic())
            self._timer = self._running.call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.exchange.tick(time.monotonic())
        self._flush()


class _Protocol(asyncio.Protocol):
    """Passes on what the event loop tells of one connection."""

    def __init__(self, link: AsyncLink) -> None:
        self._link = link
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of other loops, such as uvloop, are of classes of their own.
        self._transport = cast(asyncio.Transport, transport)
        self._link._connected(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._link._received(self._transport, bytes(data))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            reason = f"the connection broke: {exc}" if exc else "the broker closed the connection"
            self._link._lost(self._transport, ConnectError(reason))


def _both(
    first: Callable[[Call], None] | None, second: Callable[[Call], None]
) -> Callable[[Call], None]:
    if first is None:
        return second
    before = first

    def both(call: Call) -> None:
        before(call)
        second(call)

    return both
