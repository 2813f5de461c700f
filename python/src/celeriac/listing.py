"""What operators see and select: the broker, queues and their settings, workers, pages of tasks."""

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
    newest_first: bool = False
    """Whether the tasks that were submitted last come first. A broker that is older than this order
    lists tasks in its own."""
    just_ended: bool = False
    """Whether the tasks that ended last come first. A broker that does not know this list lists
    other tasks."""
    looked: int = 0
    """How many tasks the broker has looked at for this listing, those for the pages before
    included: 0 if the broker does not say so."""
    total: int = 0
    """How many tasks there are to look at."""


@dataclass(frozen=True, slots=True)
class BackupDone:
    """A backup that is complete and on the disk of the broker's machine."""

    tasks: int
    """The tasks that the broker knew when the backup began."""
    bytes: int
    """The size of the copied records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUsage:
    """How full the data folder of the broker and its disk are, at most a second ago."""

    live_bytes: int
    """Records that still matter."""
    log_bytes: int
    """All records: at most about twice those, and 64 MiB."""
    file_bytes: int
    """The files that hold the log: the file `db` of the data folder, and those of the journal."""
    reusable_bytes: int
    """Space within the file `db` to which the broker writes again before it grows."""
    disk_free_bytes: int
    disk_bytes: int
    """The size of the disk."""
    usable_bytes: int
    """The room that is left: the free and the reusable bytes, less those that the journal of the
    broker still has to move to the file `db`."""
    disk_low_bytes: int
    """The disk is low when the usable bytes are below this."""
    disk_is_low: bool
    """Whether the broker refuses new tasks with `DiskFull`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """The bounds that the broker enforces, and the spans that its operator has set."""

    frame_bytes_max: int
    payload_bytes_max: int
    result_bytes_max: int
    batch_items_max: int
    requests_in_flight_max: int
    credit_max: int
    """The most tasks that one worker may hold."""
    heartbeat: timedelta
    lease: timedelta
    """A worker that is silent for this long loses its tasks."""
    result_ttl: timedelta
    """How long the broker keeps an ended task when neither the task nor its queue sets a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerInfo:
    """The broker itself and its present figures."""

    version: str
    protocol: int
    """The version of the protocol that the connection uses."""
    started_at: datetime | None
    """When the broker began to serve, by its wall clock."""
    uptime: timedelta
    memory_bytes: int | None
    """The memory of its process that is in use; None where the system does not tell."""
    connections: int
    """This one is among them."""
    connections_max: int
    workers: int
    """Workers that are connected."""
    workers_lost: int
    """Workers whose connection is lost. The broker keeps their leases for some time."""
    queues: int
    mailboxes: int
    ready: int
    """Tasks of all queues, like the next three, as in `QueueInfo`."""
    scheduled: int
    leased: int
    dead: int
    ended: int
    """Tasks that ended as SUCCESS or REVOKED and are kept."""
    draining: bool
    """Whether an operator drains the broker: it delivers no task."""
    data: DataUsage | None
    """None where the system does not tell."""
    limits: BrokerLimits


def broker_of(wire: _codec.BrokerInfo) -> BrokerInfo:
    """What a message of the protocol tells of the broker."""
    tasks = wire.tasks or _codec.TaskCounts()
    data = wire.data
    return BrokerInfo(
        version=wire.server_version,
        protocol=wire.protocol,
        started_at=_values.time_of(wire.started_at_ms or None),
        uptime=_span(wire.uptime_ms) or timedelta(0),
        memory_bytes=wire.memory_bytes,
        connections=wire.connections,
        connections_max=wire.connections_max,
        workers=wire.workers,
        workers_lost=wire.workers_lost,
        queues=wire.queues,
        mailboxes=wire.mailboxes,
        ready=tasks.ready,
        scheduled=tasks.scheduled,
        leased=tasks.leased,
        dead=tasks.dead,
        ended=tasks.ended,
        draining=wire.draining,
        data=None if data is None else usage_of(data),
        limits=_limits_of(wire),
    )


def usage_of(data: _codec.DataUsage) -> DataUsage:
    """What a message of the protocol tells of the disk."""
    return DataUsage(
        live_bytes=data.live_bytes,
        log_bytes=data.log_bytes,
        file_bytes=data.file_bytes,
        reusable_bytes=data.reusable_bytes,
        disk_free_bytes=data.disk_free_bytes,
        disk_bytes=data.disk_bytes,
        # A broker that does not tell the room has no journal.
        usable_bytes=data.disk_free_bytes + data.reusable_bytes
        if data.usable_bytes is None
        else data.usable_bytes,
        disk_low_bytes=data.disk_low_bytes,
        disk_is_low=data.disk_is_low,
    )


def _limits_of(wire: _codec.BrokerInfo) -> BrokerLimits:
    limits = wire.limits or _codec.Limits()
    return BrokerLimits(
        frame_bytes_max=limits.frame_bytes_max,
        payload_bytes_max=limits.payload_bytes_max,
        result_bytes_max=limits.result_bytes_max,
        batch_items_max=limits.batch_items_max,
        requests_in_flight_max=limits.requests_in_flight_max,
        credit_max=limits.credit_max,
        heartbeat=_span(wire.heartbeat_ms) or timedelta(0),
        lease=_span(wire.lease_ms) or timedelta(0),
        result_ttl=_span(wire.result_ttl_ms) or timedelta(0),
    )


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
