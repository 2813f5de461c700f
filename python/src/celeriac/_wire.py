"""Framing: four bytes of length, and then a message. This module does no I/O."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_FRAME_MAX = 6 * 1024 * 1024
"""The longest frame in each direction until the broker has accepted Hello."""

_LENGTH_BYTES = 4


class FrameFault(Exception):
    """The bytes are no frame. The connection cannot go on."""


class FrameReader:
    """Takes bytes as they come, and gives whole frames.

    The reader keeps only bytes that have arrived: the length that a frame announces takes no
    memory. A long frame is put together once, when its last byte is there.
    """

    __slots__ = ("_parts", "_size", "_wanted", "limit")

    def __init__(self, limit: int = FIRST_FRAME_MAX) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted = _LENGTH_BYTES
        """How many bytes must be there before the next frame can be complete."""

    @property
    def is_within_a_frame(self) -> bool:
        """Whether some bytes of a frame have arrived, and others have not."""
        return self._size > 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that these bytes complete, one after the other, so that the limit may change
        between two of them. Raises `FrameFault`."""
        if self._size:
            self._parts.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
        at, end = 0, len(data)
        self._wanted = _LENGTH_BYTES
        while end - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            length = int.from_bytes(data[at:start], "big")
            if not 0 < length <= self.limit:
                raise FrameFault(
                    f"a frame of {length} bytes was announced, and {self.limit} are allowed"
                )
            if end - start < length:
                self._wanted = _LENGTH_BYTES + length
                break
            at = start + length
            yield data[start:at]
        if at < end:
            self._parts.append(data[at:] if at else data)
            self._size = end - at


def other_protocol(data: bytes) -> str:
    """Which other protocol these first bytes of an answer look like; empty when none is known."""
    if data.startswith(b"HTTP/"):
        return "HTTP"
    if data[:2] in (b"\x15\x03", b"\x16\x03"):
        return "TLS"
    if data.startswith(b"AMQP"):
        return "AMQP"
    if data[:1] in (b"-", b"+") and data[1:2].isalpha():
        return "Redis"
    if data.startswith(b"SSH-"):
        return "SSH"
    return ""
