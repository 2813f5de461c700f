"""A broker that a test plays: it listens on a free port, and the test says what it answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from celeriac import _codec
from celeriac._codec import Message

_M = TypeVar("_M", bound=Message)
SECONDS = 10.0

WELCOME = _codec.Welcome(
    protocol=1,
    server_name="played",
    server_version="0",
    session_id="session-1",
    heartbeat_ms=5000,
    lease_ms=15000,
    server_time_ms=1_790_000_000_000,
)


def framed(frame: Message) -> bytes:
    """A frame with its length in front."""
    data = frame.encode()
    return len(data).to_bytes(4, "big") + data


class Peer:
    """One connection, seen from the broker's side."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.socket.settimeout(SECONDS)
        self.request_id = 0
        """The id of the request that was read last."""

    def read_bytes(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError("the client closed the connection")
            data += part
        return data

    def read(self) -> _codec.ClientFrame:
        size = int.from_bytes(self.read_bytes(4), "big")
        frame = _codec.ClientFrame.decode(self.read_bytes(size))
        self.request_id = frame.request_id
        return frame

    def expect(self, kind: type[_M]) -> _M:
        """The next request, which must be of this kind. Heartbeats are answered on the way."""
        while True:
            body = self.read().body
            if isinstance(body, kind):
                return body
            if not isinstance(body, (_codec.Heartbeat, _codec.Unwatch, _codec.Unwait)):
                raise AssertionError(f"the client sent {body!r}")
            answer = _codec.HeartbeatReply() if isinstance(body, _codec.Heartbeat) else None
            self.answer(answer or _codec.Done())

    def answer(self, body: Message, request_id: int | None = None) -> None:
        """Answers the request that was read last."""
        chosen = self.request_id if request_id is None else request_id
        self.send(framed(_codec.ServerFrame(request_id=chosen, body=body)))  # type: ignore[arg-type]

    def push(self, body: Message) -> None:
        self.answer(body, 0)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def greet(self, welcome: Message = WELCOME) -> _codec.Hello:
        """The handshake."""
        hello = self.expect(_codec.Hello)
        self.answer(welcome)
        return hello

    def wait_for_end(self) -> None:
        """Waits until the client closes."""
        with contextlib.suppress(OSError):
            while self.socket.recv(65536):
                pass

    def cut(self) -> None:
        """Closes the connection without a word."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class PlayedBroker:
    """Listens, and plays a script for each connection in a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._peers: list[Peer] = []
        self.failures: list[BaseException] = []

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"celeriac://127.0.0.1:{self.port}"

    def play(self, *scripts: Callable[[Peer], None]) -> None:
        """Each script plays one connection, in the order in which they come."""

        def work() -> None:
            for script in scripts:
                try:
                    opened, _ = self._listener.accept()
                except OSError:
                    return
                peer = Peer(opened)
                self._peers.append(peer)
                try:
                    script(peer)
                except (EOFError, OSError) as error:
                    self.failures.append(error)
                except AssertionError as error:
                    self.failures.append(error)
                    peer.cut()

        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def finish(self) -> None:
        """Waits for the end of the scripts, and raises what went wrong in them."""
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive(), "a script of the played broker has not ended"
        if self.failures:
            raise self.failures[0]

    def __enter__(self) -> PlayedBroker:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._peers:
            peer.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
