"""What a handler knows of its run and can do in it. A handler gets the context as the parameter
that is annotated `Context` or named `context`; any other code asks `current_context()`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from celeriac.control import SoftTimeLimitExceeded, TaskCancelled
from celeriac.errors import InvalidArgument
from celeriac.payload import to_json

if TYPE_CHECKING:
    from celeriac.app import Celeriac

#: The most bytes of the details of a progress report, and of the name of its state.
PROGRESS_BYTES_MAX = 64 * 1024
STATE_BYTES_MAX = 255

#: What was asked of a run. The bits of `Context.asked`.
CANCEL, SOFT_LIMIT, DROP = 1, 2, 4

#: The bit that remembers that the soft limit was raised in the handler.
_SOFT_RAISED = 8


class Delivered(NamedTuple):
    """One task as the broker handed it out. The fields are those of `Delivery` in work.proto."""

    id: str
    lease: int = 0
    name: str = ""
    queue: str = ""
    payload: bytes = b""
    content_type: str = ""
    headers: Mapping[str, bytes] = {}
    shadow: str = ""
    priority: int = 4
    attempt: int = 1
    attempts_max: int = 1
    deliveries: int = 1
    generation: int = 1
    submitted_at_ms: int = 0
    eta_at_ms: int | None = None
    expires_at_ms: int | None = None
    soft_time_limit_ms: int | None = None
    time_limit_ms: int | None = None
    root_id: str = ""
    parent_id: str = ""
    tags: tuple[str, ...] | list[str] = ()
    redelivered: bool = False


#: The context of the run in which this code is called.
_current: ContextVar[Context | None] = ContextVar("celeriac_context", default=None)


class Context:
    """One run of a task. A context that outlives its run does no harm: its reports are ignored."""

    __slots__ = ("_app", "_begun_at", "_delivered", "_listener", "_reporter", "asked")

    def __init__(
        self,
        delivered: Delivered,
        app: Celeriac | None = None,
        reporter: Callable[[int, str, bytes], None] | None = None,
    ) -> None:
        self._delivered = delivered
        self._app = app
        self._reporter = reporter
        self._begun_at = time.time()
        self._listener: Callable[[int], None] | None = None
        self.asked = 0
        """What was asked of the run, as bits. The worker sets them with `ask`."""

    @staticmethod
    def detached(task_id: str = "detached", **fields: Any) -> Context:
        """A context without a worker, for tests of a handler's body. Its reports are dropped.

        >>> Context.detached("song-1", attempt=2).attempt
        2
        """
        return Context(Delivered(task_id, **fields))

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._delivered.id

    @property
    def name(self) -> str:
        """The name of the task."""
        return self._delivered.name

    @property
    def queue(self) -> str:
        """The queue in which the task waited."""
        return self._delivered.queue

    @property
    def shadow(self) -> str:
        """What the producer wants shown in place of the name."""
        return self._delivered.shadow

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._delivered.attempt

    @property
    def attempts_max(self) -> int:
        """How many attempts the retry policy allows."""
        return self._delivered.attempts_max

    @property
    def is_last_attempt(self) -> bool:
        """Whether no further attempt follows a failure of this one."""
        return self._delivered.attempt >= self._delivered.attempts_max

    @property
    def deliveries(self) -> int:
        """How often the task began without an outcome, this time included. The number is above 1
        when workers were lost."""
        return self._delivered.deliveries

    @property
    def redelivered(self) -> bool:
        """Whether the broker handed out this generation of the task before."""
        return self._delivered.redelivered

    @property
    def generation(self) -> int:
        """The number of the run of this id, from 1."""
        return self._delivered.generation

    @property
    def priority(self) -> int:
        """The priority, 0 to 9."""
        return self._delivered.priority

    @property
    def headers(self) -> Mapping[str, bytes]:
        """The headers that the producer set."""
        return self._delivered.headers

    @property
    def tags(self) -> tuple[str, ...]:
        """The words by which the task can be found and cancelled."""
        return tuple(self._delivered.tags)

    @property
    def root_id(self) -> str:
        """The id of the first task of the tree; for the first task its own id."""
        return self._delivered.root_id or self._delivered.id

    @property
    def parent_id(self) -> str:
        """The id of the task whose handler submitted this task; empty when none did."""
        return self._delivered.parent_id

    @property
    def lease(self) -> int:
        """A number that rises over all runs of all tasks. Send it with writes to another system,
        which can then refuse the writes of a run whose task has a newer lease."""
        return self._delivered.lease

    @property
    def submitted_at(self) -> datetime:
        """When the task was submitted, by the broker's clock."""
        return _time(self._delivered.submitted_at_ms)

    @property
    def expires_at(self) -> datetime | None:
        """The time after which no attempt begins."""
        at_ms = self._delivered.expires_at_ms
        return None if at_ms is None else _time(at_ms)

    @property
    def deadline(self) -> datetime | None:
        """When the hard time limit of this attempt is over; None without a limit."""
        limit_ms = self._delivered.time_limit_ms
        if limit_ms is None:
            return None
        return _time(int(self._begun_at * 1000)) + timedelta(milliseconds=limit_ms)

    @property
    def elapsed(self) -> float:
        """How many seconds the attempt has run."""
        return time.time() - self._begun_at

    @property
    def time_left(self) -> float | None:
        """The seconds until the hard time limit; None without a limit."""
        limit_ms = self._delivered.time_limit_ms
        return None if limit_ms is None else self._begun_at + limit_ms / 1000 - time.time()

    @property
    def app(self) -> Celeriac:
        """The app whose worker runs the task."""
        if self._app is None:
            raise InvalidArgument("A detached context has no app.")
        return self._app

    @property
    def cancelled(self) -> bool:
        """Whether the run should stop: the task was cancelled, or the worker gives the run up."""
        return self.asked & (CANCEL | DROP) != 0

    @property
    def is_dropped(self) -> bool:
        """Whether the worker gives the run up: nobody takes its outcome any more."""
        return self.asked & DROP != 0

    @property
    def soft_time_limit_exceeded(self) -> bool:
        """Whether the soft time limit is over."""
        return self.asked & SOFT_LIMIT != 0

    def check(self) -> None:
        """Raises what was asked of the run: `TaskCancelled`, or once `SoftTimeLimitExceeded`.

        A long loop in a thread should call this, because nothing else can stop it.
        """
        if self.asked:
            self._raise(CANCEL | DROP)

    def progress(self, state: str = "PROGRESS", meta: Any = None) -> None:
        """Reports the progress of the run: a word for the state, and details that JSON can hold.

        The call returns at once. The worker sends at most ten reports a second for a task: of
        reports that come faster it sends the newest. The call raises `SoftTimeLimitExceeded` once,
        and `TaskCancelled` when the worker gives the run up.
        """
        if self.asked:
            self._raise(DROP)
        if not state or len(state.encode()) > STATE_BYTES_MAX:
            raise InvalidArgument(f"A progress state has 1 to {STATE_BYTES_MAX} bytes: {state!r}")
        encoded = to_json(meta)
        if len(encoded) > PROGRESS_BYTES_MAX:
            raise InvalidArgument(
                f"The details of the progress have {len(encoded)} bytes, and {PROGRESS_BYTES_MAX} "
                "are allowed. Return large data as the result."
            )
        if self._reporter is not None:
            self._reporter(self._delivered.lease, state, encoded)

    def ask(self, what: int) -> None:
        """The worker asks something of the run: one of the bits of `asked`. The broker and the
        worker both watch the soft limit, so the same wish may come twice."""
        if self.asked & what:
            return
        self.asked |= what
        if self._listener is not None:
            self._listener(what)

    def listen(self, listener: Callable[[int], None] | None) -> None:
        """The worker hears of each `ask`, to stop a handler that it can stop."""
        self._listener = listener

    @property
    def is_listened(self) -> bool:
        """Whether the worker hears of each `ask`, as it does of an `async def`."""
        return self._listener is not None

    def check_soft_limit(self) -> None:
        """Raises `SoftTimeLimitExceeded` once after the soft limit."""
        self._raise(0)

    def _raise(self, stop: int) -> None:
        if self.asked & stop:
            raise TaskCancelled
        # Once, so that the handler can report while it cleans up.
        if self.asked & (SOFT_LIMIT | _SOFT_RAISED) == SOFT_LIMIT:
            self.asked |= _SOFT_RAISED
            raise SoftTimeLimitExceeded


def current_context() -> Context | None:
    """The context of the run in which this code is called; None outside of a handler."""
    return _current.get()


def lineage() -> tuple[str, str]:
    """The root and the parent of a task that is submitted here; empty outside of a handler."""
    context = _current.get()
    return ("", "") if context is None else (context.root_id, context.task_id)


enter = _current.set
leave = _current.reset


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc)
