"""Opens the connection to the broker, on a thread of its own: looking up a host and waiting for an
answer may take long, and the driver must not stand still meanwhile."""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from celeriac import _codec as wire
from celeriac._tls import TLS_ANSWERS, Tls, shake_hands
from celeriac._wire import FrameFault, FrameReader, other_protocol
from celeriac.errors import BrokerError, CeleriacError, NotABroker, TlsError, VersionMismatch
from celeriac.url import BrokerUrl, PresentToken

log = logging.getLogger("celeriac.worker")

#: How long one try may take.
TRY_TIMEOUT = 10.0

#: The pauses between tries grow from the first to the last, in seconds.
PAUSE_FIRST, PAUSE_LAST = 0.05, 5.0

#: How often a worker that waits for its broker says so.
WARNING_INTERVAL = 10.0

#: The codes of an answer to Hello that would come again.
_FINAL = {
    wire.ErrorCode.UNAUTHENTICATED,
    wire.ErrorCode.FORBIDDEN,
    wire.ErrorCode.VERSION_MISMATCH,
    wire.ErrorCode.INVALID_ARGUMENT,
    wire.ErrorCode.MALFORMED,
    wire.ErrorCode.FRAME_TOO_LARGE,
    wire.ErrorCode.UNSUPPORTED,
}


class Connected(NamedTuple):
    """A connection that the broker has accepted."""

    socket: socket.socket
    welcome: wire.Welcome
    reader: FrameReader
    frames: list[bytes]
    """Frames that came right after the welcome."""
    tls: Tls | None


class Connector:
    """Tries until the broker accepts the worker, or says that it never will.

    `done` is called on the connector's thread, with the connection or with the final error.
    """

    def __init__(self, url: BrokerUrl, done: Callable[[Connected | CeleriacError], None]) -> None:
        self.url = url
        self._done = done
        self._token = PresentToken(url)
        self._stopped = threading.Event()
        self._pause = PAUSE_FIRST
        self._has_connected = False

    def start(self, hello: wire.Hello, *, has_lived: bool) -> None:
        """Begins to try: at once, and with short pauses, when the last connection has lived for
        some time."""
        if has_lived:
            self._pause = PAUSE_FIRST
        thread = threading.Thread(
            target=self._run, args=(hello, not has_lived), name="celeriac-connector", daemon=True
        )
        thread.start()

    def stop(self) -> None:
        """Ends the tries. `done` may still be called once."""
        self._stopped.set()

    def _run(self, hello: wire.Hello, waits_first: bool) -> None:
        if waits_first:
            # A broker that closes every connection at once must not be called without a pause.
            self._wait()
        warned_at = monotonic() - WARNING_INTERVAL + 1.0
        while not self._stopped.is_set():
            try:
                hello.token = self._token()
                connected = connect(self.url, hello)
            except BrokerError as error:
                if error.code in _FINAL:
                    self._done(error)
                    return
                why = str(error)
            except TlsError as error:
                # At the start somebody has to put it right. Later a file may be missing only for a
                # moment, while it is replaced.
                if not self._has_connected:
                    self._done(error)
                    return
                why = str(error)
            except (OSError, CeleriacError) as error:
                why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            else:
                self._has_connected = True
                self._done(connected)
                return
            if monotonic() - warned_at >= WARNING_INTERVAL:
                warned_at = monotonic()
                log.warning(
                    "No broker answers at %s (%s). The worker keeps trying.", self.url.shown, why
                )
            self._wait()

    def _wait(self) -> None:
        self._stopped.wait(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, PAUSE_LAST)


def connect(url: BrokerUrl, hello: wire.Hello) -> Connected:
    """Opens one connection, and says Hello. Raises what kept it from that."""
    tls = Tls.of(url)
    sock = socket.create_connection((url.host, url.port), timeout=TRY_TIMEOUT)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        frame = wire.ClientFrame(request_id=1, body=hello).encode()
        data = len(frame).to_bytes(4, "big") + frame
        if tls is not None:
            shake_hands(tls, sock, monotonic() + TRY_TIMEOUT)
            data = tls.seal(data)
        sock.sendall(data)
        reader = FrameReader()
        frames = _first_frames(sock, reader, tls)
        try:
            answer = wire.ServerFrame.decode(frames[0]).body
        except wire.DecodeError as error:
            raise NotABroker(f"the answer is no frame: {error}") from None
        if isinstance(answer, wire.Error):
            raise BrokerError.of(answer.code, answer.message, answer.retryable)
        if not isinstance(answer, wire.Welcome):
            raise NotABroker("the answer to Hello is no Welcome")
        if answer.protocol != hello.protocol_max:
            raise VersionMismatch(f"the broker chose the version {answer.protocol}")
    except BaseException:
        sock.close()
        raise
    if answer.limits is not None:
        reader.limit = answer.limits.frame_bytes_max
    return Connected(sock, answer, reader, frames[1:], tls)


def _first_frames(sock: socket.socket, reader: FrameReader, tls: Tls | None) -> list[bytes]:
    until = monotonic() + TRY_TIMEOUT
    first = b""
    while True:
        sock.settimeout(max(until - monotonic(), 0.001))
        received = sock.recv(64 * 1024)
        if not received:
            raise ConnectionError("the program there closed the connection")
        if tls is not None:
            received = tls.open(received)
        first = first or received
        try:
            frames = list(reader.feed(received))
        except FrameFault as fault:
            other = other_protocol(first)
            if other == "TLS":
                raise TlsError(TLS_ANSWERS) from None
            raise NotABroker(f"it speaks {other}" if other else str(fault)) from None
        if frames:
            return frames
