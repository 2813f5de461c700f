"""The conversation with a broker over all of its connections: the handshake, requests and their
answers, watches, heartbeats, and what is sent again. This module does no I/O and reads no clock:
the link gives it bytes and times."""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Callable

from celeriac import _codec, _values
from celeriac._calls import READS, Call
from celeriac._codec import Message
from celeriac._protobuf import DecodeError, number
from celeriac._tls import TLS_ANSWERS, Tls
from celeriac._watches import Watches
from celeriac._wire import FrameFault, FrameReader, other_protocol
from celeriac.errors import (
    BrokerError,
    CeleriacError,
    ClientClosed,
    ConnectError,
    DeadlineExceeded,
    FrameTooLarge,
    Interrupted,
    NotABroker,
    Overloaded,
    ProtocolError,
    SessionLost,
    ShuttingDown,
    TlsError,
    VersionMismatch,
)

PROTOCOL = 1
LIMITS = _codec.Limits(
    frame_bytes_max=16 * 1024 * 1024,
    payload_bytes_max=8 * 1024 * 1024,
    result_bytes_max=1024 * 1024,
    batch_items_max=10_000,
    requests_in_flight_max=1024,
    credit_max=10_000,
)
"""The defaults of the protocol, for limits that Welcome does not name."""

FIELDS_MAX = 1_000_000
"""A little less than the fields that a frame may have."""

_IN_FLIGHT_RESERVE = 8
"""The broker reads nothing more while too many requests are unanswered. So much room is left, so
that heartbeats get through."""
_PAUSE_MIN, _PAUSE_MAX = 0.05, 5.0
_BROKER_PAUSE_MAX = 10.0
"""The longest pause that a broker can ask for."""
_LATER = 0.1
"""After this time a request is sent again that the broker refused for a moment."""
_GIVE_UP = frozenset(
    _codec.ErrorCode[name]
    for name in (
        "UNAUTHENTICATED",
        "FORBIDDEN",
        "VERSION_MISMATCH",
        "INVALID_ARGUMENT",
        "MALFORMED",
        "FRAME_TOO_LARGE",
        "UNSUPPORTED",
    )
)
"""Refusals of Hello that would come again."""


class Exchange:
    """One client's conversation with its broker.

    A link opens a socket, calls `connected`, writes what `take_outgoing` gives, and passes on what
    it reads with `receive`. It calls `tick` at the time that `next_tick` names, and `disconnected`
    when the socket is gone. When `fault` is set, the link closes the socket.
    """

    def __init__(self, hello: _codec.Hello, on_push: Callable[[Message], None] | None = None):
        self.hello = hello
        """What each connection says first. The session is filled in here."""
        self.on_push = on_push
        """Gets Deliver, CancelSignal, Order and whatever else the broker sends unasked."""
        self.watches = Watches(self)
        self.heartbeat = _codec.Heartbeat()
        """The figures of the next heartbeats."""
        self.is_open = False
        self.is_closed = False
        self.was_open = False
        """Whether a connection has been open at some time."""
        self.welcome: _codec.Welcome | None = None
        self.limits = LIMITS
        self.fault: CeleriacError | None = None
        """Why the present connection must be closed."""
        self.trouble = ""
        """Why there is no connection now, for the errors of calls that could not wait longer."""
        self.retry_at = 0.0
        """No connection should be opened before this time."""
        self._reader = FrameReader()
        self._tls: Tls | None = None
        self._outgoing: list[bytes] = []
        # A handler of a signal may send while a request is being sent: each takes its own id.
        self._ids = itertools.count(1)
        self._pending: dict[int, Call] = {}
        self._waits = 0
        """How many of these are Waits, which do not count among the unanswered requests."""
        self._waiting: deque[Call] = deque()
        """Calls that are not sent yet."""
        self._later: list[Call] = []
        self._later_at = math.inf
        self._attempts = 0
        self._opened_at = 0.0
        self._beat_at = math.inf
        self._unanswered_since = math.inf
        self._goodbye_id = 0
        self._has_received = False
        self._clock = (0, 0.0)
        """The broker's time in milliseconds, and the moment when it was heard."""

    # What the link does

    def connected(self, now: float, tls: Tls | None = None) -> None:
        """A socket is open: Hello goes first, after the handshake of TLS."""
        self._reader = FrameReader()
        self._tls = tls
        self._outgoing = []
        self._ids = itertools.count(1)
        self._has_received = False
        self.fault = None
        self._goodbye_id = 0
        self._unanswered_since = self._beat_at = math.inf
        self._opened_at = now
        self._put(next(self._ids), b"", Call.of(self.hello))

    def take_outgoing(self) -> bytes:
        """The bytes that are to be written now."""
        if self._tls is not None and not self._tls.is_open:
            return self._tls.take_outgoing()
        if not self._outgoing:
            return b"" if self._tls is None else self._tls.take_outgoing()
        data = b"".join(self._outgoing)
        self._outgoing = []
        if self._tls is None:
            return data
        try:
            return self._tls.seal(data)
        except TlsError as error:
            self._lose(error)
            return b""

    @property
    def has_outgoing(self) -> bool:
        """Whether `take_outgoing` gives bytes."""
        if self._tls is None:
            return bool(self._outgoing)
        return self._tls.has_outgoing or (self._tls.is_open and bool(self._outgoing))

    def receive(self, data: bytes, now: float) -> None:
        """Bytes that were read; none at the end of the stream."""
        if not data:
            within = " within a frame" if self._reader.is_within_a_frame else ""
            self._lose(ConnectError(f"the broker closed the connection{within}"))
            return
        self._unanswered_since = math.inf
        if self._tls is not None:
            try:
                data = self._tls.open(data)
            except TlsError as error:
                self._lose(error)
                return
            if self._tls.has_ended and not data:
                self._lose(ConnectError("the broker closed the connection"))
                return
        elif not self._has_received:
            self._has_received = True
            other = other_protocol(data)
            if other == "TLS":
                self._lose(TlsError(TLS_ANSWERS))
                return
            if other:
                self._lose(NotABroker(f"the program at this address speaks {other}"))
                return
        try:
            for frame in self._reader.feed(data):
                self._accept(_codec.ServerFrame.decode(frame), now)
                if self.fault is not None:
                    return
        except (FrameFault, DecodeError) as error:
            kind = ConnectError if self.is_open else NotABroker
            self._lose(kind(f"the answer is no frame of the protocol: {error}"))
            return
        if self._waiting and self.is_open:
            self._pump(now)

    def tick(self, now: float) -> None:
        """Sends what is due: a heartbeat, and requests that were refused for a moment."""
        if now >= self._later_at:
            self._later_at = math.inf
            later, self._later = self._later, []
            for call in later:
                self.send(call, now)
        if not self.is_open or self.fault is not None or now < self._beat_at:
            return
        lease = self._welcome.lease_ms / 1000 or 15.0
        if now - self._unanswered_since >= lease:
            self._lose(ConnectError(f"nothing came from the broker for {lease:g} s"))
            return
        self.beat(now)

    def beat(self, now: float) -> None:
        """Sends a heartbeat now."""
        self._beat_at = now + (self._welcome.heartbeat_ms / 1000 or 5.0)
        self._unanswered_since = min(self._unanswered_since, now)
        self._put(next(self._ids), b"", Call.of(self.heartbeat))

    def next_tick(self) -> float:
        """When `tick` has something to do."""
        return min(self._beat_at, self._later_at)

    def disconnected(self, reason: CeleriacError, now: float, *, is_own: bool = False) -> None:
        """The socket is gone. Calls that may be sent twice wait for the next one. When this side
        gave it up although nothing was wrong with it (`is_own`), the next one needs no pause."""
        was_open, self.is_open = self.is_open, False
        self.fault = None
        self._outgoing = []
        self._beat_at = self._unanswered_since = math.inf
        self.trouble = str(reason)
        pending, self._pending = list(self._pending.values()), {}
        self._waits = 0
        again = []
        for call in pending:
            if call.done:
                continue
            if call.may_be_sent_twice:
                call.is_sent = False
                again.append(call)
            else:
                call.finish(None, _interrupted())
        self._waiting.extendleft(reversed(again))
        self._waiting = deque(call for call in self._waiting if not _begins_again(call))
        self.watches.disconnected()
        if was_open and now - self._opened_at >= (self._welcome.heartbeat_ms / 1000 or 5.0):
            self._attempts = 0
        if isinstance(reason, SessionLost):
            self.hello.session_id = ""
        if not is_own:
            self._pause(reason, now)
        if not was_open and self._is_final(reason):
            self.fail_all(reason)

    def fail_all(self, error: CeleriacError) -> None:
        """Ends every call and every watch with this error."""
        calls = [*self._pending.values(), *self._waiting, *self._later]
        self._pending, self._later = {}, []
        self._waiting.clear()
        self._waits = 0
        self._later_at = math.inf
        self._attempts = 0
        self.retry_at = 0.0
        self.watches.fail_all(error)
        for call in calls:
            call.finish(None, error)

    def _is_final(self, reason: CeleriacError) -> bool:
        """Whether the next attempt would end in the same way."""
        if isinstance(reason, BrokerError):
            return reason.code in _GIVE_UP
        return isinstance(reason, (NotABroker, TlsError)) and not self.was_open

    def _pause(self, reason: CeleriacError, now: float) -> None:
        """The next attempt comes after a pause that grows, and that chance cuts, so that many
        clients do not come back at the same moment."""
        full = min(_PAUSE_MIN * 2 ** min(self._attempts, 16), _PAUSE_MAX)
        self._attempts += 1
        asked = getattr(reason, "retry_after", None) or 0.0
        pause = full * random.uniform(0.5, 1.0)
        self.retry_at = now + max(pause, min(asked, _BROKER_PAUSE_MAX))

    # What a caller does

    def send(self, call: Call, now: float) -> None:
        """Sends a request, now or as soon as there is a connection and room for it."""
        if self.is_closed:
            call.finish(None, ClientClosed("the client is closed"))
        elif not self.is_open or self.fault is not None or self._waiting or not self._has_room:
            self._waiting.append(call)
        else:
            self._send(call, now)

    def abandon(self, call: Call, now: float) -> None:
        """The caller stops waiting, because its time is over."""
        if call.done:
            return
        is_pending = self._pending.get(call.request_id) is call
        # The answer to a Watch is still needed: it names the watch that is to be ended.
        if is_pending and call.kind is not _codec.Watch:
            del self._pending[call.request_id]
            if call.kind is _codec.Wait:
                self._waits -= 1
                self.tell(_codec.Unwait(request_ids=[call.request_id]))
        for calls in (self._waiting, self._later):
            if call in calls:
                calls.remove(call)
        because = f" ({self.trouble})" if self.trouble and not self.is_open else ""
        sent = "" if call.is_sent else "; the request was not sent"
        call.finish(None, DeadlineExceeded(f"no answer came in time{because}{sent}"))

    def tell(self, message: Message) -> int:
        """Sends a request whose answer nobody needs, if there is a connection. Returns its id, or
        0 when it was not sent."""
        if not self.is_open or self.fault is not None:
            return 0
        request_id = next(self._ids)
        self._put(request_id, b"", Call.of(message))
        return request_id

    def goodbye(self) -> None:
        """Ends the session. Later calls fail with `ClientClosed`."""
        self.is_closed = True
        if not self._goodbye_id:
            self._goodbye_id = self.tell(_codec.Goodbye())

    def broker_ms(self, now: float) -> int:
        """The broker's time in milliseconds. The estimate is never ahead of it."""
        heard_ms, heard_at = self._clock
        return heard_ms + int((now - heard_at) * 1000)

    @property
    def has_work(self) -> bool:
        """Whether a call or a watch needs a connection."""
        return bool(self._pending or self._waiting or self._later or self.watches.is_going_on)

    # Within

    @property
    def _welcome(self) -> _codec.Welcome:
        assert self.welcome is not None, "a connection that is open has had a Welcome"
        return self.welcome

    @property
    def _has_room(self) -> bool:
        most = max(1, self.limits.requests_in_flight_max - _IN_FLIGHT_RESERVE)
        return len(self._pending) - self._waits < most

    def _pump(self, now: float) -> None:
        """Sends what waits, as far as there is room."""
        while self._waiting and self._has_room:
            self._send(self._waiting.popleft(), now)

    def _send(self, call: Call, now: float) -> None:
        if not call.body:
            call.finish(self._welcome)
            return
        request_id = next(self._ids)
        timeout = b""
        if call.waits_until is not None:
            # 0 would mean the broker's default, and a span has an end.
            left_ms = min(max(1.0, (call.waits_until - now) * 1000), _values.SPAN_MS_MAX)
            timeout = b"\x10" + number(int(left_ms))
        if not self._put(request_id, timeout, call):
            return
        call.request_id = request_id
        call.is_sent = True
        call.sent_at_ms = call.sent_at_ms or self.broker_ms(now)
        self._pending[request_id] = call
        if call.kind is _codec.Wait:
            self._waits += 1

    def _put(self, request_id: int, timeout: bytes, call: Call) -> bool:
        """Appends a frame. A frame that is too long is refused here."""
        head = b"\x08" + number(request_id) + timeout
        size = len(head) + len(call.body)
        limit = self.limits.frame_bytes_max if self.is_open else self._reader.limit
        if size > limit:
            message = f"the request has {size} bytes, and the broker allows {limit}"
            call.finish(None, FrameTooLarge(message))
            return False
        self._outgoing += (size.to_bytes(4, "big"), head, call.body)
        return True

    def _lose(self, reason: CeleriacError) -> None:
        self.fault = self.fault or reason

    def _accept(self, frame: _codec.ServerFrame, now: float) -> None:
        body = frame.body
        if not self.is_open:
            self._greet(frame, now)
        elif isinstance(body, _codec.HeartbeatReply):
            self._clock = (body.server_time_ms, now)
        elif frame.request_id == 0:
            self._push(body)
        elif frame.request_id == self._goodbye_id:
            self._lose(ClientClosed("the client is closed"))
        else:
            call = self._pending.pop(frame.request_id, None)
            if call is not None:
                if call.kind is _codec.Wait:
                    self._waits -= 1
                self._answer(call, body, now)

    def _greet(self, frame: _codec.ServerFrame, now: float) -> None:
        """The first frame of a connection."""
        body = frame.body
        if isinstance(body, _codec.Closing):
            body = body.error
        if isinstance(body, _codec.Error):
            self._lose(error_of(body))
            return
        if not isinstance(body, _codec.Welcome):
            self._lose(NotABroker("the answer to Hello is no Welcome"))
            return
        if body.protocol != PROTOCOL:
            self._lose(
                VersionMismatch(
                    f"the broker chose version {body.protocol} of the protocol, "
                    f"and this package speaks version {PROTOCOL}"
                )
            )
            return
        self.is_open = self.was_open = True
        self.trouble = ""
        self.welcome = body
        self.limits = _effective(body.limits)
        self._reader.limit = self.limits.frame_bytes_max
        self._clock = (body.server_time_ms, now)
        self._beat_at = now + (body.heartbeat_ms / 1000 or 5.0)
        # Only the session of a worker outlives its connection.
        if self.hello.worker is not None:
            self.hello.session_id = body.session_id
        self.watches.begin_again(now)
        self._pump(now)

    def _push(self, body: Message | None) -> None:
        if isinstance(body, _codec.Transition):
            self.watches.show(body)
            return
        if isinstance(body, (_codec.Error, _codec.Closing)):
            error = body.error if isinstance(body, _codec.Closing) else body
            self._lose(error_of(error or _codec.Error()))
        elif body is not None and self.on_push is not None:
            self.on_push(body)

    def _answer(self, call: Call, body: Message | None, now: float) -> None:
        if isinstance(body, _codec.Error):
            error = error_of(body)
            later = isinstance(error, ShuttingDown) or (
                isinstance(error, Overloaded)
                and error.retryable
                and (call.kind in READS or _begins_again(call))
            )
            if later and now + _LATER < call.deadline:
                call.is_sent = False
                self._later.append(call)
                self._later_at = min(self._later_at, now + _LATER)
            else:
                call.finish(None, error)
        elif isinstance(body, _codec.WatchReply) and call.watching is not None:
            self.watches.begun(call, body, now)
        elif type(body) is call.reply:
            call.finish(body)
        else:
            kind = "an unknown kind" if body is None else type(body).__name__
            call.finish(None, ProtocolError(f"the answer to {call.kind.__name__} is of {kind}"))


def error_of(error: _codec.Error) -> BrokerError:
    """The exception for an error of the broker."""
    return BrokerError.of(error.code, error.message, error.retryable, error.retry_after_ms)


def _begins_again(call: Call) -> bool:
    """Whether the call belongs to a watch that begins again by itself."""
    return call.watching is not None and call.watching.is_kept


def _interrupted() -> Interrupted:
    return Interrupted(
        "the connection broke before the answer came; the request may have been carried out"
    )


def _effective(limits: _codec.Limits | None) -> _codec.Limits:
    """The limits of a Welcome. One that it leaves out has the protocol's default."""
    given = limits or _codec.Limits()
    found = _codec.Limits()
    for name in _codec.Limits.__slots__:
        setattr(found, name, getattr(given, name) or getattr(LIMITS, name))
    return found
