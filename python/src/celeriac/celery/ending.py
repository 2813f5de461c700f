"""How long a worker of Celery waits for its broker after it was told to end.

Whoever has told it so kills it after a while: Docker after 10 s, Kubernetes after 30 s. A worker
has several connections, and asks the broker many things while it ends. So the waits in vain of all
its connections share the bounds that stand here, and no other module has a bound of its own for
them.
"""

from __future__ import annotations

import math
import sys
from time import monotonic
from typing import Any

ANSWER_SECONDS = 3.0
"""One wait for an answer."""

SILENT_SECONDS = 5.0
"""All waits without an answer together."""

REPORT_SECONDS = 30.0
"""All waits without an answer together, while the broker has not heard of the end of runs: it would
take them for lost."""

_LOOK_SECONDS = 0.1
"""One wait when that time is over. The answer may be there already."""

_CONNECTS_MAX = 1
"""So many failed connections Celery may follow by another one. It goes on for ever otherwise, with
its event that tells that the worker lives, for example."""


def is_ending() -> bool:
    """Whether this process is a worker of Celery that was told to end."""
    state: Any = sys.modules.get("celery.worker.state")
    told = (getattr(state, "should_stop", None), getattr(state, "should_terminate", None))
    return any(each is not None and each is not False for each in told)


class Ending:
    """The waits of one process."""

    def __init__(self) -> None:
        self._told_at: float | None = None
        self._in_vain = 0.0
        self._failed_connects = 0

    def until(self, begun_at: float, *, is_patient: bool = False) -> float:
        """When a wait that began at this time ends at the latest. This changes when the process is
        told to end, so who waits asks again after `SLICE_SECONDS`."""
        if not is_ending():
            # The tests have several workers in one process, one after another.
            self._told_at, self._in_vain, self._failed_connects = None, 0.0, 0
            return math.inf
        if self._told_at is None:
            self._told_at = monotonic()
        left = (REPORT_SECONDS if is_patient else SILENT_SECONDS) - self._in_vain
        if not is_patient:
            left = min(left, ANSWER_SECONDS)
        return max(begun_at, self._told_at) + max(left, _LOOK_SECONDS)

    def seconds(self, most: float, *, is_patient: bool = False) -> float:
        """The time of a wait that begins now, and takes at most so long otherwise."""
        now = monotonic()
        return min(most, self.until(now, is_patient=is_patient) - now)

    def note_silence(self, begun_at: float) -> None:
        """A wait that began at this time is over, and no answer has come."""
        if self._told_at is not None:
            self._in_vain += max(monotonic() - max(begun_at, self._told_at), 0.0)

    def gives_up(self) -> bool:
        """Notes that a connection could not be opened. Whether Celery must not try again."""
        if not is_ending():
            return False
        self._failed_connects += 1
        return self._failed_connects > _CONNECTS_MAX


SLICE_SECONDS = 1.0
"""Who waits looks so often whether the process was told to end."""

ending = Ending()
