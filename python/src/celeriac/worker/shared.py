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
import tempfile

#: Far longer than a processor takes to show one core what another core has written.
SETTLE_SECONDS = 0.002

#: A limit that no number reaches.
NO_LIMIT = (1 << 63) - 1

_SIZE = mmap.PAGESIZE

#: Where the numbers stand, in steps of eight bytes: in cache lines of their own.
_BEGUN, _LIMIT = 0, 8


class Shared:
    """The two numbers, in memory that both processes have."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)
        # A number of a view is read and written as a whole. `struct` with an explicit byte order
        # moves byte after byte, and the other process could see a half of it.
        self._numbers = memoryview(self._memory).cast("q")

    @property
    def begun(self) -> int:
        """The number of the task that the child has begun, or of the last one before."""
        return self._numbers[_BEGUN]

    @begun.setter
    def begun(self, number: int) -> None:
        self._numbers[_BEGUN] = number

    @property
    def limit(self) -> int:
        """The last task that the child may begin."""
        return self._numbers[_LIMIT]

    @limit.setter
    def limit(self, number: int) -> None:
        self._numbers[_LIMIT] = number

    def close(self) -> None:
        """Gives the memory back."""
        self._numbers.release()
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
