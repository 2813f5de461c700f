"""What a child process and its parent see at the same time: the number of the task that the child
has begun, and the last one that it may begin.

The parent reads the first number after a child has died, to know which task it ran. It lowers the
second number to take back tasks that the child has not begun. The child writes its number before it
reads the limit, and the parent reads the child's number `SETTLE_SECONDS` after it has lowered the
limit. So either the child sees the new limit, or the parent sees that the child has begun.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile

#: Far longer than a processor takes to show one core what another core has written.
SETTLE_SECONDS = 0.002

#: A limit that no number reaches.
NO_LIMIT = (1 << 63) - 1

_NUMBER = struct.Struct("=q")
_BEGUN_AT, _LIMIT_AT, _SIZE = 0, 64, mmap.PAGESIZE


class Shared:
    """The two numbers, in memory that both processes have."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)

    @property
    def begun(self) -> int:
        """The number of the task that the child has begun, or of the last one before."""
        number: int = _NUMBER.unpack_from(self._memory, _BEGUN_AT)[0]
        return number

    @begun.setter
    def begun(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, _BEGUN_AT, number)

    @property
    def limit(self) -> int:
        """The last task that the child may begin."""
        number: int = _NUMBER.unpack_from(self._memory, _LIMIT_AT)[0]
        return number

    @limit.setter
    def limit(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, _LIMIT_AT, number)

    def close(self) -> None:
        """Gives the memory back."""
        self._memory.close()


def shared_descriptor() -> int:
    """A new piece of memory, as a descriptor that a child process can inherit."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("celeriac-worker")
    else:
        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
    os.ftruncate(descriptor, _SIZE)
    return descriptor
