"""What operators see and select: queues and their settings, workers, pages of tasks."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from celeriac import _codec, _values
from celeriac._values import Span
from celeriac.errors import InvalidArgument
from celeriac.info import STATES, State, TaskInfo, info_of


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """The bounds of a queue, and the defaults of its tasks. None means no bound, or the default of
    the broker.

    >>> QueueSettings(tasks_max=100_000, result_ttl=3600).tasks_max
    100000
    """

    tasks_max: int | None = None
    """The broker refuses submits over it with `QueueFull`."""
    bytes_max: int | None = None
    """The same for the bytes of payloads."""
    expires: Span | None = None
    """By when tasks that name no `expires` must have started, from their submit or their eta."""
    result_ttl: Span | None = None
    """How long the broker keeps ended tasks that name no `result_ttl`."""

    def to_wire(self) -> _codec.QueueSettings:
        """The message of the protocol."""
        most = _values.UINT64_MAX
        return _codec.QueueSettings(
            tasks_max=_values.whole("tasks_max", self.tasks_max, 0, most),
            bytes_max=_values.whole("bytes_max", self.bytes_max, 0, most),
            expires_in_ms=_values.span_ms("expires", self.expires),
            result_ttl_ms=_values.span_ms("result_ttl", self.result_ttl),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """The figures and settings of one queue."""

    name: str
    ready: int
    """Tasks that a worker could start now."""
    scheduled: int
    """Tasks that wait for their eta or their next attempt."""
    leased: int
    """Tasks that workers hold, started or not."""
    dead: int
    """Tasks that ended as FAILURE and are kept."""
    oldest_ready: timedelta
    """How long the oldest ready task has waited."""
    paused: bool
    workers: int
    """Connected workers that serve the queue."""
    submitted_total: int
    """Counted from the start of the broker, like `ended_total`."""
    ended_total: int
    submitted_per_second: float
    """Over the last ten seconds, like `ended_per_second`."""
    ended_per_second: float
    bytes: int
    """The payload bytes of tasks that have not ended."""
    settings: QueueSettings


class WorkerOrder(enum.Enum):
    """What an operator asks of a worker."""

    QUIET = 1
    """Take no new tasks, and finish those that run."""
    SHUTDOWN = 2
    """Shut down as on SIGTERM."""
    RESUME = 3
    """Take tasks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """The session of one worker, as the broker sees it."""

    instance_id: str
    hostname: str
    pid: int
    queues: tuple[str, ...]
    task_names: tuple[str, ...]
    concurrency: int
    """How many handlers the worker runs at once."""
    credit: int
    """How many leases the worker may hold."""
    running: tuple[TaskInfo, ...]
    """The first hundred tasks that the worker holds, or as many as fit into the answer."""
    running_left_out: int
    """How many more tasks the worker holds."""
    memory_bytes: int
    connected_at: datetime | None
    seen_at: datetime | None
    quiet: bool
    """Whether the worker was told to take no new tasks."""
    lost: bool
    """Whether the connection of the worker is lost. The broker keeps its leases for some time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Selects the tasks that match every field that is set.

    >>> TaskFilter(queue="songs", states=[State.FAILURE]).queue
    'songs'
    """

    queue: str = ""
    states: Iterable[State | str] = ()
    name: str = ""
    tag: str = ""
    id_prefix: str = ""
    root_id: str = ""
    submitted_before: datetime | None = None
    """A naive datetime is local time."""
    submitted_after: datetime | None = None

    def to_wire(self) -> _codec.TaskFilter:
        """The message of the protocol."""
        states = (self.states,) if isinstance(self.states, str) else self.states
        return _codec.TaskFilter(
            queue=_values.text("queue", self.queue),
            states=[STATES.index(_state(each)) for each in states],
            name=_values.text("name", self.name),
            tag=_values.text("tag", self.tag),
            id_prefix=_values.text("id_prefix", self.id_prefix),
            root_id=_values.text("root_id", self.root_id),
            submitted_before_ms=_values.time_ms("submitted_before", self.submitted_before),
            submitted_after_ms=_values.time_ms("submitted_after", self.submitted_after),
        )


def _state(given: State | str) -> State:
    try:
        return State(given)
    except ValueError:
        names = ", ".join(State.__members__)
        raise InvalidArgument(f"states has {given!r}; it may have {names}") from None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of a listing."""

    tasks: list[TaskInfo]
    """Without results."""
    cursor: bytes
    """Where the next page begins; empty at the end of the listing."""


@dataclass(frozen=True, slots=True)
class BackupDone:
    """A backup that is complete and on the disk of the broker's machine."""

    tasks: int
    """The tasks that the broker knew when the backup began."""
    bytes: int
    """The size of the copied records."""


def queue_of(wire: _codec.QueueInfo) -> QueueInfo:
    """What a message of the protocol tells of a queue."""
    settings = wire.settings or _codec.QueueSettings()
    return QueueInfo(
        name=wire.name,
        ready=wire.ready,
        scheduled=wire.scheduled,
        leased=wire.leased,
        dead=wire.dead,
        oldest_ready=_span(wire.oldest_ready_ms) or timedelta(0),
        paused=wire.paused,
        workers=wire.workers,
        submitted_total=wire.submitted_total,
        ended_total=wire.ended_total,
        submitted_per_second=wire.submitted_per_second,
        ended_per_second=wire.ended_per_second,
        bytes=wire.bytes,
        settings=QueueSettings(
            tasks_max=settings.tasks_max,
            bytes_max=settings.bytes_max,
            expires=_span(settings.expires_in_ms),
            result_ttl=_span(settings.result_ttl_ms),
        ),
    )


def _span(milliseconds: int | None) -> timedelta | None:
    if milliseconds is None:
        return None
    return timedelta(milliseconds=min(milliseconds, _values.SPAN_MS_MAX))


def worker_of(wire: _codec.WorkerStatus) -> WorkerStatus:
    """What a message of the protocol tells of a worker."""
    return WorkerStatus(
        instance_id=wire.instance_id,
        hostname=wire.hostname,
        pid=wire.pid,
        queues=tuple(wire.queues),
        task_names=tuple(wire.task_names),
        concurrency=wire.concurrency,
        credit=wire.credit,
        running=tuple(info_of(each) for each in wire.running),
        running_left_out=wire.running_left_out,
        memory_bytes=wire.memory_bytes,
        connected_at=_values.time_of(wire.connected_at_ms or None),
        seen_at=_values.time_of(wire.seen_at_ms or None),
        quiet=wire.quiet,
        lost=wire.lost,
    )
