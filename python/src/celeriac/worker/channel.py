"""Frames over a socket that never blocks: four bytes with the length, and then the bytes.

The connection to the broker and the pipes to child processes are channels. The driver's loop reads
and writes them when the system says that it can.
"""

from __future__ import annotations

import selectors
import socket
from collections import deque

from celeriac._tls import Tls
from celeriac._wire import FrameFault, FrameReader
from celeriac.errors import TlsError

_READ_BYTES = 256 * 1024

#: How many parts one system call writes. The system refuses more than 1,024.
_PARTS_MAX = 512


class ChannelClosed(Exception):
    """The other side has closed the channel, or sent bytes that are no frame."""


class Channel:
    """One socket with frames in both directions."""

    def __init__(self, sock: socket.socket, reader: FrameReader, tls: Tls | None = None) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._tls = tls
        self._reader = reader
        self._outgoing: deque[bytes | memoryview] = deque()

    def fileno(self) -> int:
        """The file descriptor, for the selector."""
        return self.socket.fileno()

    @property
    def events(self) -> int:
        """What the loop waits for."""
        if self._outgoing:
            return selectors.EVENT_READ | selectors.EVENT_WRITE
        return selectors.EVENT_READ

    def send(self, *parts: bytes) -> None:
        """Sends one frame, now or as soon as the system takes it."""
        size = sum(map(len, parts))
        was_empty = not self._outgoing
        if self._tls is not None:
            self._outgoing.append(self._sealed(b"".join((size.to_bytes(4, "big"), *parts))))
        else:
            self._outgoing.append(size.to_bytes(4, "big") + parts[0])
            self._outgoing.extend(parts[1:])
        if was_empty:
            self.flush()

    def flush(self) -> None:
        """Writes as much as the system takes."""
        while self._outgoing:
            parts = [self._outgoing[at] for at in range(min(len(self._outgoing), _PARTS_MAX))]
            try:
                written = self.socket.sendmsg(parts)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise ChannelClosed(str(error)) from None
            self._drop(written)

    def _drop(self, written: int) -> None:
        while written:
            first = self._outgoing[0]
            if written < len(first):
                self._outgoing[0] = memoryview(first)[written:]
                return
            written -= len(first)
            self._outgoing.popleft()

    def read(self) -> list[bytes]:
        """The frames that have fully arrived. Raises `ChannelClosed` at the end of the stream."""
        try:
            received = self.socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise ChannelClosed(str(error)) from None
        if not received:
            raise ChannelClosed("the other side closed the connection")
        try:
            if self._tls is not None:
                received = self._opened(self._tls, received)
            return list(self._reader.feed(received))
        except FrameFault as fault:
            raise ChannelClosed(str(fault)) from None

    def _sealed(self, data: bytes) -> bytes:
        assert self._tls is not None
        try:
            return self._tls.seal(data)
        except TlsError as error:
            raise ChannelClosed(str(error)) from None

    def _opened(self, tls: Tls, received: bytes) -> bytes:
        try:
            data = tls.open(received)
        except TlsError as error:
            raise ChannelClosed(str(error)) from None
        if tls.has_outgoing:
            self._outgoing.append(tls.take_outgoing())
        if tls.has_ended and not data:
            raise ChannelClosed("the other side closed the connection")
        return data

    def close(self) -> None:
        """Closes the socket. What was not written is dropped."""
        self._outgoing.clear()
        self.socket.close()
