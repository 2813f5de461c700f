"""One TCP connection to the broker with blocking calls, for the thread that uses it. Other threads
may write."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from celeriac import _codec as wire
from celeriac._dial import dial, reason_of
from celeriac._exchange import PROTOCOL
from celeriac._hello import client_version, instance_name
from celeriac._tls import TLS_ANSWERS, Tls, shake_hands
from celeriac._wire import FrameFault, FrameReader, other_protocol
from celeriac.celery.ending import SLICE_SECONDS, ending
from celeriac.celery.faults import (
    CONNECTION_ERRORS,
    ENDING_CODES,
    NoConnection,
    connect_error,
    lost,
    too_large,
)
from celeriac.errors import BrokerError, ConnectError, NotABroker, TlsError
from celeriac.url import BrokerUrl, PresentToken

_M = TypeVar("_M", bound=wire.Message)

CALL_SECONDS = 30.0
_READ_BYTES = 256 * 1024
_NO_WAIT = 0.0
_IDLE_SECONDS = 1.0
"""After a pause of this length the broker may have closed the connection."""
_GOODBYE_SECONDS = 2.0


class Line:
    """Opens the connection at once, and never again: who wants another one makes a new `Line`."""

    def __init__(
        self,
        url: BrokerUrl,
        *,
        worker: wire.WorkerInfo | None = None,
        session_id: str = "",
        seconds: float = 10.0,
    ) -> None:
        self.pushes: deque[Any] = deque()
        """What the broker sent unasked, oldest first."""
        self.is_broken = False
        self.limits = wire.Limits()
        self.has_more = False
        """Whether the last read may have left something."""
        self._timeout = -1.0
        self._used_at = monotonic()
        self.call_seconds = CALL_SECONDS
        """So long a request waits for its answer."""
        self._reader = FrameReader()
        self._answers: dict[int, Callable[[Any], None]] = {}
        self._last_id = 0
        self._lock = threading.Lock()
        seconds = ending.seconds(seconds)
        begun_at = monotonic()
        try:
            self._tls = Tls.of(url)
            self.sock = dial(url, begun_at + seconds)
        except (ConnectError, TlsError) as error:
            if isinstance(error, ConnectError):
                ending.note_silence(begun_at)
            raise NoConnection(str(error)) from None
        if self._tls is not None:
            self._shake_hands(self._tls, url, begun_at + seconds)
        # A second descriptor has a timeout of its own: one thread reads while another one writes.
        self._writer = self.sock.dup()
        self._writer.settimeout(0)
        hello = wire.Hello(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            client_name="celeriac-celery",
            client_version=client_version(),
            token=PresentToken(url)(),
            instance_id=instance_name(),
            session_id=session_id,
            worker=worker,
        )
        try:
            self.welcome = self.call(hello, wire.Welcome, seconds)
        except BrokerError as error:
            self.drop()
            raise connect_error(error) from error
        except BaseException as error:
            self.drop()
            if isinstance(error.__cause__, TlsError):
                # The broker refuses a certificate after this side's part of the handshake.
                raise self._no_connection(url, error.__cause__) from None
            raise
        self.limits = self.welcome.limits or wire.Limits()
        self._reader.limit = self.limits.frame_bytes_max

    def fileno(self) -> int:
        """The descriptor, for selectors and for the event loop."""
        return self.sock.fileno()

    def send(self, body: Any) -> None:
        """Sends a request that needs no answer."""
        self._write(wire.ClientFrame(body=body).encode())

    def post(self, body: Any, on_answer: Callable[[Any], None], timeout_ms: int = 0) -> None:
        """Sends a request. A later read calls `on_answer`."""
        with self._lock:
            self._last_id += 1
            request_id = self._last_id
            self._answers[request_id] = on_answer
        frame = wire.ClientFrame(request_id=request_id, timeout_ms=timeout_ms, body=body)
        try:
            self._write(frame.encode())
        except BaseException:
            self._answers.pop(request_id, None)
            raise

    def call(
        self,
        body: Any,
        kind: type[_M],
        seconds: float | None = None,
        *,
        is_patient: bool = False,
    ) -> _M:
        """Sends a request and waits for its answer. Raises `BrokerError` when it is refused. A
        worker that ends waits for a shorter time, unless it must be patient."""
        answers: list[Any] = []
        self.post(body, answers.append)
        self.read_until(lambda: bool(answers), seconds, is_patient=is_patient)
        answer = answers[0]
        if isinstance(answer, wire.Error):
            if answer.code in ENDING_CODES:
                raise self._lose(answer.message)
            raise BrokerError.of(
                answer.code, answer.message, answer.retryable, answer.retry_after_ms
            )
        if not isinstance(answer, kind):
            raise self._lose(f"the answer is a {type(answer).__name__}, not a {kind.__name__}")
        return answer

    def read_until(
        self,
        is_done: Callable[[], bool],
        seconds: float | None = None,
        *,
        is_patient: bool = False,
    ) -> None:
        """Reads until this is true. A broker that does not answer in time ends the connection."""
        begun_at = monotonic()
        most = begun_at + (self.call_seconds if seconds is None else seconds)
        while not is_done():
            left = min(most, ending.until(begun_at, is_patient=is_patient)) - monotonic()
            if left <= 0:
                ending.note_silence(begun_at)
                raise self._lose("the broker does not answer")
            self.read(min(left, SLICE_SECONDS))

    def read(self, seconds: float = _NO_WAIT) -> bool:
        """Reads once, and waits at most for this time. Whether something came."""
        if self.is_broken:
            raise lost("it was closed")
        try:
            return self._read(seconds)
        except OSError:
            raise
        except BaseException:
            # A signal's handler may raise at any moment, as time limits and Ctrl-C do. What was
            # read may be gone, and nobody knows where the next frame begins.
            self.drop()
            raise

    def _read(self, seconds: float) -> bool:
        try:
            self._set_timeout(seconds)
            self.has_more = False
            data = self.sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError, TimeoutError):
            return False
        except OSError as error:
            raise self._lose(error) from error
        self.has_more = len(data) == _READ_BYTES
        self._used_at = monotonic()
        if self._tls is not None and data:
            data, is_partial = self._opened(self._tls, data)
            if is_partial:
                return True
        if not data:
            raise self._lose("the broker closed it")
        try:
            for frame in self._reader.feed(data):
                self._take(wire.ServerFrame.decode(frame))
        except (FrameFault, wire.DecodeError) as fault:
            self.drop()
            name = other_protocol(data)
            if name == "TLS":
                raise TlsError(TLS_ANSWERS) from fault
            raise NotABroker(f"it speaks {name}" if name else str(fault)) from fault
        return True

    def _set_timeout(self, seconds: float) -> None:
        # Each change is a call of the system. Whole seconds change rarely.
        timeout = float(math.ceil(seconds)) if seconds > 1 else seconds
        if timeout != self._timeout:
            self._timeout = timeout
            self.sock.settimeout(timeout)

    def has_ended(self, pause: float = _IDLE_SECONDS) -> bool:
        """Whether the other side has closed the connection during a pause. A connection that was
        used a shorter time ago counts as open."""
        if self.is_broken:
            return True
        if monotonic() - self._used_at < pause:
            return False
        try:
            self._set_timeout(_NO_WAIT)
            if not self.sock.recv(1, socket.MSG_PEEK):
                return True
            # It may be the word of the broker that it ends the connection.
            self.read()
        except (BlockingIOError, InterruptedError, TimeoutError):
            return False
        except CONNECTION_ERRORS:
            return True
        return self.is_broken

    def bound(self, seconds: float) -> None:
        """From now on the broker has this time at most to answer, and to take what is sent."""
        self.call_seconds = min(self.call_seconds, seconds)

    def drop(self) -> None:
        """Closes the descriptors without a word. After a fork the parent keeps its own."""
        self.is_broken = True
        self.sock.close()
        self._writer.close()

    def close(self, seconds: float = _GOODBYE_SECONDS) -> None:
        """Ends the session of this connection."""
        if not self.is_broken:
            with contextlib.suppress(Exception):
                self.call(wire.Goodbye(), wire.Done, min(self.call_seconds, seconds))
        self.drop()

    def _take(self, frame: wire.ServerFrame) -> None:
        body = frame.body
        if frame.request_id:
            on_answer = self._answers.pop(frame.request_id, None)
            if on_answer is not None:
                on_answer(body)
        elif isinstance(body, wire.Closing):
            raise self._lose(body.error.message if body.error is not None else "it was closed")
        elif isinstance(body, wire.Error):
            # Requests without an answer are refused in this way. They are sent on.
            if body.code in ENDING_CODES or body.code == wire.ErrorCode.FRAME_TOO_LARGE:
                raise self._lose(body.message)
        elif body is not None and not isinstance(body, wire.HeartbeatReply):
            self.pushes.append(body)

    def _write(self, frame: bytes) -> None:
        if self.is_broken:
            raise lost("it was closed")
        if len(frame) > self.limits.frame_bytes_max > 0:
            raise too_large(len(frame), self.limits.frame_bytes_max)
        data = len(frame).to_bytes(4, "big") + frame
        try:
            with self._lock:
                self._send_all(data if self._tls is None else self._tls.seal(data))
        except OSError as error:
            raise self._lose(error) from error
        except BaseException:
            # A part of the frame may be written.
            self.drop()
            raise

    def _send_all(self, data: bytes) -> None:
        try:
            sent = self._writer.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(data):
            begun_at = monotonic()
            self._writer.settimeout(max(ending.seconds(self.call_seconds), 0.001))
            try:
                self._writer.sendall(memoryview(data)[sent:])
            except TimeoutError:
                ending.note_silence(begun_at)
                raise
            finally:
                self._writer.settimeout(0)

    def _shake_hands(self, tls: Tls, url: BrokerUrl, deadline: float) -> None:
        try:
            shake_hands(tls, self.sock, deadline)
        except (OSError, TlsError) as error:
            self.sock.close()
            raise self._no_connection(url, error) from None
        except BaseException:
            self.sock.close()
            raise

    @staticmethod
    def _no_connection(url: BrokerUrl, error: Exception) -> NoConnection:
        why = str(error) if isinstance(error, TlsError) else reason_of(error)
        return NoConnection(f"no connection to a broker at {url.shown}: {why}")

    def _opened(self, tls: Tls, data: bytes) -> tuple[bytes, bool]:
        """What these bytes of the network say, and whether more of them are needed for it."""
        try:
            opened = tls.open(data)
        except TlsError as error:
            raise self._lose(error) from error
        return opened, not opened and not tls.has_ended

    def _lose(self, reason: object) -> Exception:
        self.drop()
        error: Exception = lost(reason)
        return error
