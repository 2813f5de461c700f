"""The states that a watch shows, over all of its connections. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from celeriac import _codec
from celeriac.errors import CeleriacError

_KEPT_MAX = 1024
"""From so many states on that nobody has taken yet, only the latest of each task is kept."""

_ENDED = (
    _codec.TaskState.SUCCESS,
    _codec.TaskState.FAILURE,
    _codec.TaskState.REVOKED,
)


def is_ended(info: _codec.TaskInfo) -> bool:
    """Whether the task is SUCCESS, FAILURE or REVOKED."""
    return info.state in _ENDED


def is_unknown(info: _codec.TaskInfo) -> bool:
    """Whether there is no such task. A state that this version does not know is not that."""
    return info.state == _codec.TaskState.UNKNOWN and info.generation == 0


class WatchedStates:
    """Keeps the promises of a watch: no state comes twice, none that is older than one that was
    shown, and the latest always comes."""

    def __init__(self, ids: Iterable[str], *, with_results: bool = False) -> None:
        self.ids = list(dict.fromkeys(ids))
        self.with_results = with_results
        self.error: CeleriacError | None = None
        """Why the watch has ended before its tasks."""
        self.notify: Callable[[], None] | None = None
        """Called when there is something to take, or the watch is over."""
        self.is_registered = False
        """Whether an exchange keeps this watch going."""
        self._ready: deque[_codec.TaskInfo] = deque()
        self._seen: dict[str, tuple[int, int]] = {}
        """The generation and version of what was shown last; zeros for UNKNOWN."""
        self._open = set(self.ids)
        """The tasks of which more is to come."""
        self._known: set[str] = set()
        """The tasks that the broker has known at some time of this watch."""

    @property
    def is_over(self) -> bool:
        """Whether all tasks have ended, and all states were taken."""
        return not self._ready and (not self._open or self.error is not None)

    @property
    def has_more(self) -> bool:
        """Whether `take` gives a state at once."""
        return bool(self._ready)

    def take(self) -> _codec.TaskInfo:
        """The next state."""
        return self._ready.popleft()

    def push(self, info: _codec.TaskInfo) -> None:
        """One state, as the broker told it."""
        place = (info.generation, info.version)
        before = self._seen.get(info.id)
        if is_unknown(info):
            # A task that was known and is not any more was forgotten: nothing follows.
            if info.id in self._known:
                self._open.discard(info.id)
            if before == (0, 0):
                if self.notify is not None:
                    self.notify()
                return
            place = (0, 0)
        elif before is not None and place <= before:
            return
        else:
            self._known.add(info.id)
            if is_ended(info):
                self._open.discard(info.id)
            else:
                self._open.add(info.id)
        self._seen[info.id] = place
        self._ready.append(info)
        if self.notify is not None:
            self.notify()
        if len(self._ready) > _KEPT_MAX + 2 * len(self.ids):
            self._drop_older()

    def end(self, error: CeleriacError) -> None:
        """Nothing more comes."""
        self.error = error
        if self.notify is not None:
            self.notify()

    def _drop_older(self) -> None:
        latest = {info.id: info for info in self._ready}
        self._ready = deque(latest.values())
