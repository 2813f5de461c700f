"""What the broker tells of a task: its state, and everything that it knows."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from celeriac._values import EPOCH, time_of

if TYPE_CHECKING:
    from celeriac import _codec


class State(str, enum.Enum):
    """The state of a task. A state equals its name as text.

    >>> State.SUCCESS == "SUCCESS"
    True
    >>> State.RETRY.is_ended
    False
    """

    UNKNOWN = "UNKNOWN"
    """There is no such task. This never means that a task waits."""
    SCHEDULED = "SCHEDULED"
    """The task waits for its eta, or for the end of another run of its id."""
    QUEUED = "QUEUED"
    """The task waits for a worker."""
    LEASED = "LEASED"
    """The task is handed to a worker that has not begun it."""
    STARTED = "STARTED"
    """The handler of the task runs."""
    RETRY = "RETRY"
    """The task failed and waits for its next attempt."""
    SUCCESS = "SUCCESS"
    """The task ended with a result."""
    FAILURE = "FAILURE"
    """The task ended without a result."""
    REVOKED = "REVOKED"
    """The task ended before its time: it was cancelled, replaced or purged, or it expired."""

    def __str__(self) -> str:
        return self.value

    @property
    def is_ended(self) -> bool:
        """Whether the task has ended: SUCCESS, FAILURE or REVOKED."""
        return self in _ENDED


STATES = tuple(State)
"""The states in the order of their numbers in the protocol."""

_ENDED = frozenset((State.SUCCESS, State.FAILURE, State.REVOKED))


def state_of(number: int) -> State:
    """The state of this number. A number of a later protocol counts as UNKNOWN."""
    return STATES[number] if 0 <= number < len(STATES) else State.UNKNOWN


class WaitingFor(str, enum.Enum):
    """Why a waiting task does not run."""

    NOTHING = "NOTHING"
    TURN = "TURN"
    """Its turn: the workers are busy."""
    TIME = "TIME"
    """Its eta or its next attempt."""
    WORKER = "WORKER"
    """A worker that serves the queue and knows the name of the task."""
    QUEUE = "QUEUE"
    """The end of the pause of its queue."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Progress:
    """The latest progress that the handler reported."""

    state: str
    """The word that the handler gave; `PROGRESS` when it gave none."""
    meta: bytes
    """What the handler reported, encoded by the worker; JSON by default."""
    at: datetime


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why one attempt of a task failed."""

    kind: str
    """The kind of the error, for example `ValueError`, `time_limit` or `worker_lost`."""
    message: str
    traceback: str
    at: datetime | None
    attempt: int
    leased_at: datetime | None = None
    """When the attempt was handed to its worker. None when no worker had the task."""
    started_at: datetime | None = None
    """When the attempt began."""
    worker: str = ""
    """The worker that had the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """Everything that the broker knows of a task. All times are aware datetimes in UTC."""

    id: str
    state: State
    generation: int = 0
    """The number of the run of this id, from 1."""
    version: int = 0
    """Rises with each transition within a generation."""
    name: str = ""
    queue: str = ""
    shadow: str = ""
    priority: int = 0
    headers: Mapping[str, bytes] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    root_id: str = ""
    parent_id: str = ""
    waiting_for: WaitingFor = WaitingFor.NOTHING
    submitted_at: datetime | None = None
    eta: datetime | None = None
    """When the task is due: its eta, or its next attempt."""
    expires_at: datetime | None = None
    """No attempt begins after this time."""
    leased_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    forget_at: datetime | None = None
    """When the broker will drop the ended task."""
    worker: str = ""
    """The worker that holds or held the task."""
    attempts: int = 0
    attempts_max: int = 0
    deliveries: int = 0
    """How often the task was handed out without an outcome, the present delivery included."""
    deliveries_max: int = 0
    """The number of such deliveries with which the task fails."""
    progress: Progress | None = None
    errors: tuple[TaskError, ...] = ()
    """The last five errors, the oldest first."""
    result: bytes = b""
    """The encoded result, when the request asked for it."""
    result_content_type: str = ""
    revoked_reason: str = ""
    cancel_requested: bool = False
    cancel_requested_at: datetime | None = None
    """When the task was first asked to stop."""
    actor: str = ""
    """Who made the latest transition: the name of a client, or `broker`."""
    payload: bytes = b""
    """The encoded arguments, when the request asked for them."""
    content_type: str = ""
    payload_left_out: bool = False
    """Whether the payload had no room beside the result: ask for it without the result."""

    @property
    def error(self) -> TaskError | None:
        """The latest error. It is the reason of a FAILURE."""
        return self.errors[-1] if self.errors else None

    @property
    def is_known(self) -> bool:
        """Whether the broker knows the task."""
        return self.state is not State.UNKNOWN

    @property
    def title(self) -> str:
        """What logs and listings show: the shadow, or else the name."""
        return self.shadow or self.name


_WAITING_FOR = tuple(WaitingFor)


def info_of(wire: _codec.TaskInfo) -> TaskInfo:
    """What a message of the protocol tells of a task."""
    progress = wire.progress
    waiting_for = wire.waiting_for if 0 <= wire.waiting_for < len(_WAITING_FOR) else 0
    return TaskInfo(
        id=wire.id,
        state=state_of(wire.state),
        generation=wire.generation,
        version=wire.version,
        name=wire.name,
        queue=wire.queue,
        shadow=wire.shadow,
        priority=wire.priority,
        headers=wire.headers,
        tags=tuple(wire.tags),
        root_id=wire.root_id,
        parent_id=wire.parent_id,
        waiting_for=_WAITING_FOR[waiting_for],
        submitted_at=time_of(wire.submitted_at_ms or None),
        eta=time_of(wire.eta_at_ms),
        expires_at=time_of(wire.expires_at_ms),
        leased_at=time_of(wire.leased_at_ms),
        started_at=time_of(wire.started_at_ms),
        finished_at=time_of(wire.finished_at_ms),
        forget_at=time_of(wire.forget_at_ms),
        worker=wire.worker,
        attempts=wire.attempts,
        attempts_max=wire.attempts_max,
        deliveries=wire.deliveries,
        deliveries_max=wire.deliveries_max,
        progress=Progress(progress.state, progress.meta, time_of(progress.at_ms) or EPOCH)
        if progress is not None
        else None,
        errors=tuple(error_of(each) for each in wire.errors),
        result=wire.result,
        result_content_type=wire.result_content_type,
        revoked_reason=wire.revoked_reason,
        cancel_requested=wire.cancel_requested,
        cancel_requested_at=time_of(wire.cancel_requested_at_ms),
        actor=wire.actor,
        payload=wire.payload,
        content_type=wire.content_type,
        payload_left_out=wire.payload_left_out,
    )


def error_of(wire: _codec.TaskError) -> TaskError:
    """What a message of the protocol tells of one failure."""
    return TaskError(
        wire.kind,
        wire.message,
        wire.traceback,
        time_of(wire.at_ms or None),
        wire.attempt,
        time_of(wire.leased_at_ms),
        time_of(wire.started_at_ms),
        wire.worker,
    )
