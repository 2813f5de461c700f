"""Ids for tasks whose caller chose none: UUIDs of version 7, which sort by time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_COUNTS_MAX = 1 << 30


class _Mint:
    """Makes ids. To ask the system for random bits costs more than all else, so the mint asks once
    for each millisecond and counts up within it (RFC 9562, 6.2, method 2).

    An id is no secret: knowing it gives no access.
    """

    __slots__ = ("_count", "_end", "_head", "_now")

    def __init__(self) -> None:
        self._now = -1
        self._count = 0
        self._head = ""
        self._end = ""

    def __call__(self) -> str:
        now = time.time_ns() // 1_000_000
        # When the clock stands still or goes back, the mint counts on in its latest millisecond.
        if now > self._now or self._count >= _COUNTS_MAX:
            self._begin(max(now, self._now + 1))
        count = self._count
        self._count = count + 1
        return f"{self._head}{count >> 16 & 0x3FFF | 0x8000:04x}-{count & 0xFFFF:04x}{self._end}"

    def _begin(self, now: int) -> None:
        chance = int.from_bytes(os.urandom(7), "big")
        self._now = now
        # The upper half of the counter's range stays free, so that counting up has room.
        self._count = chance & (_COUNTS_MAX // 2 - 1)
        time_text = f"{now & 0xFFFF_FFFF_FFFF:012x}"
        self._head = f"{time_text[:8]}-{time_text[8:]}-7{chance >> 30 & 0xFFF:03x}-"
        self._end = f"{os.urandom(4).hex()}"


class _Local(threading.local):
    """Each thread has a mint of its own, and so needs no lock."""

    def __init__(self) -> None:
        self.make: Callable[[], str] = _Mint()


_local = _Local()


def make_id() -> str:
    """A new id, different from all others."""
    return _local.make()


def _after_fork() -> None:
    # The child would make the same ids as its parent.
    global _local
    _local = _Local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
