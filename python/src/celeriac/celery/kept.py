"""The outcome of the task that this thread runs, kept until the worker's parent process reports it.

The parent tells the broker of the end of each run. So the outcome goes back with the answer of the
pool and into that report, and the process that ran the task waits for no disk. Everything that the
task does after its end, and that another process could see, sends the outcome first.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple, Protocol

from celeriac.celery.envelope import RIDES, RUN

BYTES_MAX = 64 * 1024
"""A longer outcome is sent at once: it would fill the pipe of the pool."""

_ATTRIBUTE = "celeriac_kept"
_SUCCESS, _FAILURE = "SUCCESS", "FAILURE"
_has_own_end: dict[type, bool] = {}


class Kept(NamedTuple):
    """What the broker shall store, and for how long; None stands for the broker's default."""

    state: str
    body: bytes
    ttl_ms: int | None


class Sender(Protocol):
    """The backend that has kept an outcome."""

    def put_kept(self, run: tuple[str, int], kept: Kept) -> None: ...


class _Slot:
    """The place for the outcome of one run."""

    __slots__ = ("kept", "run", "sender", "was_sent")

    def __init__(self, run: tuple[str, int]) -> None:
        self.run = run
        self.kept: Kept | None = None
        self.sender: Sender | None = None
        self.was_sent = False
        """Whether an outcome of the run has left: the later ones follow it."""

    def send(self) -> None:
        kept, self.kept = self.kept, None
        self.was_sent = True
        if kept is not None and self.sender is not None:
            self.sender.put_kept(self.run, kept)


class _Local(threading.local):
    slot: _Slot | None = None


_local = _Local()


class Riding(str):
    """The text of a result, with the outcome that the parent reports."""

    __slots__ = (_ATTRIBUTE,)
    celeriac_kept: Kept

    def __new__(cls, text: str, kept: tuple[str, bytes, int | None]) -> Riding:
        """The text and the outcome."""
        made = super().__new__(cls, text)
        made.celeriac_kept = Kept(*kept)
        return made

    def __reduce__(self) -> Any:
        return Riding, (str(self), tuple(self.celeriac_kept))


def kept_in(answer: Any) -> Kept | None:
    """The outcome that the answer of a pool carries."""
    kept = getattr(answer, _ATTRIBUTE, None)
    return Kept(*kept) if kept is not None else None


# Where the task runs


def trace_fast(*args: Any, **options: Any) -> Any:
    """Runs a task as Celery's `fast_trace_task` does."""
    from celery.worker import request

    return _trace(request.fast_trace_task, args, options)


def trace_any(*args: Any, **options: Any) -> Any:
    """Runs a task as Celery's `trace_task_ret` does."""
    from celery.worker import request

    return _trace(request.trace_task_ret, args, options)


def _trace(trace: Any, args: Any, options: Any) -> Any:
    properties = args[2].get("properties")
    if not properties or not properties.get(RIDES):
        return trace(*args, **options)
    stored_id, lease = properties[RUN]
    before, _local.slot = _local.slot, _Slot((stored_id, lease))
    slot = _local.slot
    try:
        failed, value, runtime = trace(*args, **options)
        return failed, _loaded(slot, failed, value), runtime
    finally:
        # After an exception the answer of the pool is not ours.
        _local.slot = before
        slot.send()


def _loaded(slot: _Slot, failed: Any, value: Any) -> Any:
    kept = slot.kept
    if kept is None:
        return value
    if failed:
        try:
            setattr(value, _ATTRIBUTE, tuple(kept))
        except AttributeError:
            return value
    elif isinstance(value, str):
        value = Riding(value, kept)
    else:
        return value
    slot.kept = None
    return value


# What the backend asks


def keep(sender: Sender, run: tuple[str, int], request: Any, kept: Kept) -> bool:
    """Keeps an outcome of the task that runs, if it may ride. Otherwise it is to be sent."""
    slot = _local.slot
    if slot is None or slot.run != run or slot.was_sent:
        return False
    if slot.kept is not None and slot.kept.state == _SUCCESS:
        # A success is never overwritten.
        return True
    if not _may_ride(request, kept):
        slot.send()
        return False
    slot.kept, slot.sender = kept, sender
    return True


def kept_of(stored_id: str) -> Kept | None:
    """The outcome of the task that this thread runs, when it is this task and has ended."""
    slot = _local.slot
    return slot.kept if slot is not None and slot.run[0] == stored_id else None


def let_go() -> None:
    """Sends what is kept, because something follows that another process may see."""
    slot = _local.slot
    if slot is not None and slot.kept is not None:
        slot.send()


def _may_ride(request: Any, kept: Kept) -> bool:
    if kept.state not in (_SUCCESS, _FAILURE) or len(kept.body) > BYTES_MAX or request.chord:
        return False
    if kept.state == _FAILURE:
        return True
    # Callbacks are sent before the result is stored, and may look for it.
    return not request.callbacks and not request.chain and not _runs_on()


def _runs_on() -> bool:
    """Whether the task has code of its own that runs after its success. When that kills the
    process, the success still counts."""
    from celery._state import get_current_task
    from celery.app.trace import task_has_custom

    task = get_current_task()
    kind = type(task)
    found = _has_own_end.get(kind)
    if found is None:
        found = _has_own_end[kind] = any(
            task_has_custom(task, name) for name in ("on_success", "after_return")
        )
    return found
