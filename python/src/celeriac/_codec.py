"""The messages of the protocol. `python/tools/generate_codec.py` writes this file from the `.proto`
files; change those, and run it again."""
# fmt: off
# ruff: noqa

from __future__ import annotations

from enum import IntEnum
from struct import pack as _pack, unpack_from as _unpack
from typing import Any, Callable

from celeriac._protobuf import (
    MASK32 as _MASK32,
    TABLE as _TABLE,
    TABLE_SIZE as _TABLE_SIZE,
    DecodeError as DecodeError,
    Message as Message,
    long_number as _long,
    number as _number,
    numbers as _numbers,
    packed as _packed,
    signed32 as _signed32,
    signed64 as _signed64,
    skip as _skip,
)

_new = object.__new__


class ErrorCode(IntEnum):
    """PROTOCOL.md says for each code whether to retry, and whether the connection stays open."""

    UNSPECIFIED = 0
    MALFORMED = 1
    FRAME_TOO_LARGE = 2
    UNSUPPORTED = 3
    VERSION_MISMATCH = 4
    HANDSHAKE = 5
    UNAUTHENTICATED = 6
    FORBIDDEN = 7
    INVALID_ARGUMENT = 8
    PAYLOAD_TOO_LARGE = 9
    RESULT_TOO_LARGE = 10
    NOT_FOUND = 11
    TASK_EXISTS = 12
    NOT_FINISHED = 13
    STALE_LEASE = 14
    QUEUE_FULL = 15
    DISK_FULL = 16
    DEADLINE_EXCEEDED = 17
    OVERLOADED = 18
    SHUTTING_DOWN = 19
    SESSION_LOST = 20
    SLOW_CONSUMER = 21
    INTERNAL = 22


class ExchangeType(IntEnum):
    """How an exchange compares the routing key of a message with those of its bindings."""

    UNSPECIFIED = 0
    DIRECT = 1
    TOPIC = 2
    FANOUT = 3
    HEADERS = 4


class TaskState(IntEnum):
    """The state of a task."""

    UNKNOWN = 0
    SCHEDULED = 1
    QUEUED = 2
    LEASED = 3
    STARTED = 4
    RETRY = 5
    SUCCESS = 6
    FAILURE = 7
    REVOKED = 8


class Backoff(IntEnum):
    """How the delay grows with the number of attempts."""

    EXPONENTIAL = 0
    FIXED = 1
    POLYNOMIAL = 2


class Jitter(IntEnum):
    """How the broker spreads a delay at random."""

    NONE = 0
    FULL = 1
    EQUAL = 2


class OnConflict(IntEnum):
    """What a submit does when a task of its id exists."""

    RUN_AGAIN_IF_FINISHED = 0
    REJECT = 1
    REPLACE = 2
    RUN_AGAIN_AFTER = 3
    SUPERSEDE = 4
    BESIDE = 5


class SubmitOutcomeKind(IntEnum):
    UNSPECIFIED = 0
    CREATED = 1
    JOINED = 2
    NEW_GENERATION = 3
    REFUSED = 4


class WaitingFor(IntEnum):
    """Why a waiting task does not run."""

    NOTHING = 0
    TURN = 1
    TIME = 2
    WORKER = 3
    QUEUE = 4


class WaitMode(IntEnum):
    ALL = 0
    ANY = 1


class CancelMode(IntEnum):
    COOPERATIVE = 0
    FORCE = 1
    WAITING = 2


class CancelOutcomeKind(IntEnum):
    UNSPECIFIED = 0
    REVOKED = 1
    SIGNALLED = 2
    ALREADY_ENDED = 3
    NOT_FOUND = 4
    LEFT_RUNNING = 5


class CancelSignalKind(IntEnum):
    UNSPECIFIED = 0
    COOPERATIVE = 1
    FORCE = 2
    SOFT_TIME_LIMIT = 3
    TIME_LIMIT = 4
    TAKEN_BACK = 5


class OrderKind(IntEnum):
    UNSPECIFIED = 0
    QUIET = 1
    SHUTDOWN = 2
    RESUME = 3


class ListQueues(Message):
    """Lists queues."""

    __slots__: tuple[str, ...] = ("queues", "cursor",)
    FIELDS = (
        (1, "queues", "string", "repeated"),
        (2, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        queues: list[str] | None = None,
        cursor: bytes = b"",
    ) -> None:
        self.queues = [] if queues is None else queues
        self.cursor: bytes = cursor


class QueueList(Message):
    """One page of queues, in order of name."""

    __slots__: tuple[str, ...] = ("queues", "cursor",)
    FIELDS = (
        (1, "queues", "QueueInfo", "repeated"),
        (2, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        queues: list[QueueInfo] | None = None,
        cursor: bytes = b"",
    ) -> None:
        self.queues = [] if queues is None else queues
        self.cursor: bytes = cursor


class QueueInfo(Message):
    """The figures and settings of one queue."""

    __slots__: tuple[str, ...] = (
        "name", "ready", "scheduled", "leased", "dead", "oldest_ready_ms", "paused", "workers",
        "submitted_total", "ended_total", "settings", "bytes", "submitted_per_second",
        "ended_per_second",
    )
    FIELDS = (
        (1, "name", "string", ""),
        (2, "ready", "uint64", ""),
        (3, "scheduled", "uint64", ""),
        (4, "leased", "uint64", ""),
        (5, "dead", "uint64", ""),
        (6, "oldest_ready_ms", "uint64", ""),
        (7, "paused", "bool", ""),
        (8, "workers", "uint32", ""),
        (9, "submitted_total", "uint64", ""),
        (10, "ended_total", "uint64", ""),
        (11, "settings", "QueueSettings", ""),
        (12, "bytes", "uint64", ""),
        (13, "submitted_per_second", "double", ""),
        (14, "ended_per_second", "double", ""),
    )

    def __init__(
        self,
        *,
        name: str = "",
        ready: int = 0,
        scheduled: int = 0,
        leased: int = 0,
        dead: int = 0,
        oldest_ready_ms: int = 0,
        paused: bool = False,
        workers: int = 0,
        submitted_total: int = 0,
        ended_total: int = 0,
        settings: QueueSettings | None = None,
        bytes: int = 0,
        submitted_per_second: float = 0.0,
        ended_per_second: float = 0.0,
    ) -> None:
        self.name: str = name
        self.ready: int = ready
        self.scheduled: int = scheduled
        self.leased: int = leased
        self.dead: int = dead
        self.oldest_ready_ms: int = oldest_ready_ms
        self.paused: bool = paused
        self.workers: int = workers
        self.submitted_total: int = submitted_total
        self.ended_total: int = ended_total
        self.settings: QueueSettings | None = settings
        self.bytes: int = bytes
        self.submitted_per_second: float = submitted_per_second
        self.ended_per_second: float = ended_per_second


class QueueSettings(Message):
    """The settings of one queue."""

    __slots__: tuple[str, ...] = ("tasks_max", "bytes_max", "expires_in_ms", "result_ttl_ms",)
    FIELDS = (
        (1, "tasks_max", "uint64", "optional"),
        (2, "bytes_max", "uint64", "optional"),
        (3, "expires_in_ms", "uint64", "optional"),
        (4, "result_ttl_ms", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        tasks_max: int | None = None,
        bytes_max: int | None = None,
        expires_in_ms: int | None = None,
        result_ttl_ms: int | None = None,
    ) -> None:
        self.tasks_max: int | None = tasks_max
        self.bytes_max: int | None = bytes_max
        self.expires_in_ms: int | None = expires_in_ms
        self.result_ttl_ms: int | None = result_ttl_ms


class ConfigureQueue(Message):
    """Creates the queue if needed and replaces its settings."""

    __slots__: tuple[str, ...] = ("queue", "settings",)
    FIELDS = (
        (1, "queue", "string", ""),
        (2, "settings", "QueueSettings", ""),
    )

    def __init__(
        self,
        *,
        queue: str = "",
        settings: QueueSettings | None = None,
    ) -> None:
        self.queue: str = queue
        self.settings: QueueSettings | None = settings


class DeclareQueue(Message):
    """Creates the queue if needed, and keeps it until it is deleted, also without tasks and
    workers."""

    __slots__: tuple[str, ...] = ("queue", "passive", "settings", "idle_ms",)
    FIELDS = (
        (1, "queue", "string", ""),
        (2, "passive", "bool", ""),
        (3, "settings", "QueueSettings", ""),
        (4, "idle_ms", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        queue: str = "",
        passive: bool = False,
        settings: QueueSettings | None = None,
        idle_ms: int | None = None,
    ) -> None:
        self.queue: str = queue
        self.passive: bool = passive
        self.settings: QueueSettings | None = settings
        self.idle_ms: int | None = idle_ms


class DeclareQueueReply(Message):
    """The answer to a DeclareQueue."""

    __slots__: tuple[str, ...] = ("created", "ready", "workers",)
    FIELDS = (
        (1, "created", "bool", ""),
        (2, "ready", "uint64", ""),
        (3, "workers", "uint32", ""),
    )

    def __init__(
        self,
        *,
        created: bool = False,
        ready: int = 0,
        workers: int = 0,
    ) -> None:
        self.created: bool = created
        self.ready: int = ready
        self.workers: int = workers


class PauseQueues(Message):
    """Pauses or resumes queues."""

    __slots__: tuple[str, ...] = ("queues", "paused",)
    FIELDS = (
        (1, "queues", "string", "repeated"),
        (2, "paused", "bool", ""),
    )

    def __init__(
        self,
        *,
        queues: list[str] | None = None,
        paused: bool = False,
    ) -> None:
        self.queues = [] if queues is None else queues
        self.paused: bool = paused


class PurgeQueue(Message):
    """Revokes every task of the queue that has not begun."""

    __slots__: tuple[str, ...] = ("queue",)
    FIELDS = (
        (1, "queue", "string", ""),
    )

    def __init__(
        self,
        *,
        queue: str = "",
    ) -> None:
        self.queue: str = queue


class DeleteQueue(Message):
    """Purges the queue and drops its settings."""

    __slots__: tuple[str, ...] = ("queue",)
    FIELDS = (
        (1, "queue", "string", ""),
    )

    def __init__(
        self,
        *,
        queue: str = "",
    ) -> None:
        self.queue: str = queue


class CountReply(Message):
    """How many tasks or workers the request changed."""

    __slots__: tuple[str, ...] = ("count",)
    FIELDS = (
        (1, "count", "uint64", ""),
    )

    def __init__(
        self,
        *,
        count: int = 0,
    ) -> None:
        self.count: int = count


class TaskFilter(Message):
    """Selects the tasks that match every field that is set."""

    __slots__: tuple[str, ...] = (
        "queue", "states", "name", "tag", "id_prefix", "submitted_before_ms", "submitted_after_ms",
        "root_id",
    )
    FIELDS = (
        (1, "queue", "string", ""),
        (2, "states", "enum", "repeated"),
        (3, "name", "string", ""),
        (4, "tag", "string", ""),
        (5, "id_prefix", "string", ""),
        (6, "submitted_before_ms", "int64", "optional"),
        (7, "submitted_after_ms", "int64", "optional"),
        (8, "root_id", "string", ""),
    )

    def __init__(
        self,
        *,
        queue: str = "",
        states: list[int] | None = None,
        name: str = "",
        tag: str = "",
        id_prefix: str = "",
        submitted_before_ms: int | None = None,
        submitted_after_ms: int | None = None,
        root_id: str = "",
    ) -> None:
        self.queue: str = queue
        self.states = [] if states is None else states
        self.name: str = name
        self.tag: str = tag
        self.id_prefix: str = id_prefix
        self.submitted_before_ms: int | None = submitted_before_ms
        self.submitted_after_ms: int | None = submitted_after_ms
        self.root_id: str = root_id


class ListTasks(Message):
    """Lists the tasks that match the filter."""

    __slots__: tuple[str, ...] = (
        "filter", "limit", "cursor", "with_tracebacks", "newest_first", "just_ended",
    )
    FIELDS = (
        (1, "filter", "TaskFilter", ""),
        (2, "limit", "uint32", ""),
        (3, "cursor", "bytes", ""),
        (4, "with_tracebacks", "bool", ""),
        (5, "newest_first", "bool", ""),
        (6, "just_ended", "bool", ""),
    )

    def __init__(
        self,
        *,
        filter: TaskFilter | None = None,
        limit: int = 0,
        cursor: bytes = b"",
        with_tracebacks: bool = False,
        newest_first: bool = False,
        just_ended: bool = False,
    ) -> None:
        self.filter: TaskFilter | None = filter
        self.limit: int = limit
        self.cursor: bytes = cursor
        self.with_tracebacks: bool = with_tracebacks
        self.newest_first: bool = newest_first
        self.just_ended: bool = just_ended


class TaskPage(Message):
    """One page of tasks."""

    __slots__: tuple[str, ...] = (
        "tasks", "cursor", "newest_first", "just_ended", "looked", "total",
    )
    FIELDS = (
        (1, "tasks", "TaskInfo", "repeated"),
        (2, "cursor", "bytes", ""),
        (3, "newest_first", "bool", ""),
        (4, "just_ended", "bool", ""),
        (5, "looked", "uint64", ""),
        (6, "total", "uint64", ""),
    )

    def __init__(
        self,
        *,
        tasks: list[TaskInfo] | None = None,
        cursor: bytes = b"",
        newest_first: bool = False,
        just_ended: bool = False,
        looked: int = 0,
        total: int = 0,
    ) -> None:
        self.tasks = [] if tasks is None else tasks
        self.cursor: bytes = cursor
        self.newest_first: bool = newest_first
        self.just_ended: bool = just_ended
        self.looked: int = looked
        self.total: int = total


class ReplayDead(Message):
    """Runs dead tasks again, each as a new generation:"""

    __slots__: tuple[str, ...] = ("ids", "filter",)
    FIELDS = (
        (1, "ids", "string", "repeated"),
        (2, "filter", "TaskFilter", ""),
    )

    def __init__(
        self,
        *,
        ids: list[str] | None = None,
        filter: TaskFilter | None = None,
    ) -> None:
        self.ids = [] if ids is None else ids
        self.filter: TaskFilter | None = filter


class DiscardDead(Message):
    """Drops dead tasks before their time."""

    __slots__: tuple[str, ...] = ("ids", "filter", "all",)
    FIELDS = (
        (1, "ids", "string", "repeated"),
        (2, "filter", "TaskFilter", ""),
        (3, "all", "bool", ""),
    )

    def __init__(
        self,
        *,
        ids: list[str] | None = None,
        filter: TaskFilter | None = None,
        all: bool = False,
    ) -> None:
        self.ids = [] if ids is None else ids
        self.filter: TaskFilter | None = filter
        self.all: bool = all


class ListWorkers(Message):
    """Lists the sessions of workers."""

    __slots__: tuple[str, ...] = ("cursor", "with_tracebacks",)
    FIELDS = (
        (1, "cursor", "bytes", ""),
        (2, "with_tracebacks", "bool", ""),
    )

    def __init__(
        self,
        *,
        cursor: bytes = b"",
        with_tracebacks: bool = False,
    ) -> None:
        self.cursor: bytes = cursor
        self.with_tracebacks: bool = with_tracebacks


class WorkerList(Message):
    """One page of workers."""

    __slots__: tuple[str, ...] = ("workers", "cursor",)
    FIELDS = (
        (1, "workers", "WorkerStatus", "repeated"),
        (2, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        workers: list[WorkerStatus] | None = None,
        cursor: bytes = b"",
    ) -> None:
        self.workers = [] if workers is None else workers
        self.cursor: bytes = cursor


class WorkerStatus(Message):
    """The session of one worker."""

    __slots__: tuple[str, ...] = (
        "instance_id", "hostname", "pid", "queues", "task_names", "concurrency", "credit",
        "running", "memory_bytes", "connected_at_ms", "seen_at_ms", "quiet", "lost",
        "running_left_out",
    )
    FIELDS = (
        (1, "instance_id", "string", ""),
        (2, "hostname", "string", ""),
        (3, "pid", "uint32", ""),
        (4, "queues", "string", "repeated"),
        (5, "task_names", "string", "repeated"),
        (6, "concurrency", "uint32", ""),
        (7, "credit", "uint32", ""),
        (8, "running", "TaskInfo", "repeated"),
        (9, "memory_bytes", "uint64", ""),
        (10, "connected_at_ms", "int64", ""),
        (11, "seen_at_ms", "int64", ""),
        (12, "quiet", "bool", ""),
        (13, "lost", "bool", ""),
        (14, "running_left_out", "uint32", ""),
    )

    def __init__(
        self,
        *,
        instance_id: str = "",
        hostname: str = "",
        pid: int = 0,
        queues: list[str] | None = None,
        task_names: list[str] | None = None,
        concurrency: int = 0,
        credit: int = 0,
        running: list[TaskInfo] | None = None,
        memory_bytes: int = 0,
        connected_at_ms: int = 0,
        seen_at_ms: int = 0,
        quiet: bool = False,
        lost: bool = False,
        running_left_out: int = 0,
    ) -> None:
        self.instance_id: str = instance_id
        self.hostname: str = hostname
        self.pid: int = pid
        self.queues = [] if queues is None else queues
        self.task_names = [] if task_names is None else task_names
        self.concurrency: int = concurrency
        self.credit: int = credit
        self.running = [] if running is None else running
        self.memory_bytes: int = memory_bytes
        self.connected_at_ms: int = connected_at_ms
        self.seen_at_ms: int = seen_at_ms
        self.quiet: bool = quiet
        self.lost: bool = lost
        self.running_left_out: int = running_left_out


class OrderWorkers(Message):
    """Gives an order to workers."""

    __slots__: tuple[str, ...] = ("instance_ids", "order",)
    FIELDS = (
        (1, "instance_ids", "string", "repeated"),
        (2, "order", "enum", ""),
    )

    def __init__(
        self,
        *,
        instance_ids: list[str] | None = None,
        order: int = 0,
    ) -> None:
        self.instance_ids = [] if instance_ids is None else instance_ids
        self.order: int = order


class Backup(Message):
    """Copies the stored data into a new folder on the broker's machine, while the broker serves."""

    __slots__: tuple[str, ...] = ("folder",)
    FIELDS = (
        (1, "folder", "string", ""),
    )

    def __init__(
        self,
        *,
        folder: str = "",
    ) -> None:
        self.folder: str = folder


class BackupReply(Message):
    """The answer to a Backup, sent when the copy is complete and on the disk."""

    __slots__: tuple[str, ...] = ("tasks", "bytes",)
    FIELDS = (
        (1, "tasks", "uint64", ""),
        (2, "bytes", "uint64", ""),
    )

    def __init__(
        self,
        *,
        tasks: int = 0,
        bytes: int = 0,
    ) -> None:
        self.tasks: int = tasks
        self.bytes: int = bytes


class Drain(Message):
    """Begins or ends a drain of the broker."""

    __slots__: tuple[str, ...] = ("draining",)
    FIELDS = (
        (1, "draining", "bool", ""),
    )

    def __init__(
        self,
        *,
        draining: bool = False,
    ) -> None:
        self.draining: bool = draining


class LogFilter(Message):
    """Changes the filter of the broker's log until the broker restarts, and asks for it."""

    __slots__: tuple[str, ...] = ("filter",)
    FIELDS = (
        (1, "filter", "string", "optional"),
    )

    def __init__(
        self,
        *,
        filter: str | None = None,
    ) -> None:
        self.filter: str | None = filter


class LogFilterReply(Message):
    """The answer to a LogFilter."""

    __slots__: tuple[str, ...] = ("filter",)
    FIELDS = (
        (1, "filter", "string", ""),
    )

    def __init__(
        self,
        *,
        filter: str = "",
    ) -> None:
        self.filter: str = filter


class Limits(Message):
    """The bounds that the broker enforces on this connection."""

    __slots__: tuple[str, ...] = (
        "frame_bytes_max", "payload_bytes_max", "result_bytes_max", "batch_items_max",
        "requests_in_flight_max", "credit_max",
    )
    FIELDS = (
        (1, "frame_bytes_max", "uint64", ""),
        (2, "payload_bytes_max", "uint64", ""),
        (3, "result_bytes_max", "uint64", ""),
        (4, "batch_items_max", "uint32", ""),
        (5, "requests_in_flight_max", "uint32", ""),
        (6, "credit_max", "uint32", ""),
    )

    def __init__(
        self,
        *,
        frame_bytes_max: int = 0,
        payload_bytes_max: int = 0,
        result_bytes_max: int = 0,
        batch_items_max: int = 0,
        requests_in_flight_max: int = 0,
        credit_max: int = 0,
    ) -> None:
        self.frame_bytes_max: int = frame_bytes_max
        self.payload_bytes_max: int = payload_bytes_max
        self.result_bytes_max: int = result_bytes_max
        self.batch_items_max: int = batch_items_max
        self.requests_in_flight_max: int = requests_in_flight_max
        self.credit_max: int = credit_max


class Info(Message):
    """Asks for the figures and settings of the broker itself."""

    __slots__: tuple[str, ...] = ()


class BrokerInfo(Message):
    """The figures and settings of the broker."""

    __slots__: tuple[str, ...] = (
        "server_version", "protocol", "started_at_ms", "uptime_ms", "memory_bytes", "connections",
        "connections_max", "workers", "workers_lost", "queues", "mailboxes", "tasks", "data",
        "limits", "heartbeat_ms", "lease_ms", "result_ttl_ms", "draining",
    )
    FIELDS = (
        (1, "server_version", "string", ""),
        (2, "protocol", "uint32", ""),
        (3, "started_at_ms", "int64", ""),
        (4, "uptime_ms", "uint64", ""),
        (5, "memory_bytes", "uint64", "optional"),
        (6, "connections", "uint32", ""),
        (7, "connections_max", "uint32", ""),
        (8, "workers", "uint32", ""),
        (9, "workers_lost", "uint32", ""),
        (10, "queues", "uint32", ""),
        (11, "mailboxes", "uint32", ""),
        (12, "tasks", "TaskCounts", ""),
        (13, "data", "DataUsage", ""),
        (14, "limits", "Limits", ""),
        (15, "heartbeat_ms", "uint64", ""),
        (16, "lease_ms", "uint64", ""),
        (17, "result_ttl_ms", "uint64", ""),
        (18, "draining", "bool", ""),
    )

    def __init__(
        self,
        *,
        server_version: str = "",
        protocol: int = 0,
        started_at_ms: int = 0,
        uptime_ms: int = 0,
        memory_bytes: int | None = None,
        connections: int = 0,
        connections_max: int = 0,
        workers: int = 0,
        workers_lost: int = 0,
        queues: int = 0,
        mailboxes: int = 0,
        tasks: TaskCounts | None = None,
        data: DataUsage | None = None,
        limits: Limits | None = None,
        heartbeat_ms: int = 0,
        lease_ms: int = 0,
        result_ttl_ms: int = 0,
        draining: bool = False,
    ) -> None:
        self.server_version: str = server_version
        self.protocol: int = protocol
        self.started_at_ms: int = started_at_ms
        self.uptime_ms: int = uptime_ms
        self.memory_bytes: int | None = memory_bytes
        self.connections: int = connections
        self.connections_max: int = connections_max
        self.workers: int = workers
        self.workers_lost: int = workers_lost
        self.queues: int = queues
        self.mailboxes: int = mailboxes
        self.tasks: TaskCounts | None = tasks
        self.data: DataUsage | None = data
        self.limits: Limits | None = limits
        self.heartbeat_ms: int = heartbeat_ms
        self.lease_ms: int = lease_ms
        self.result_ttl_ms: int = result_ttl_ms
        self.draining: bool = draining


class TaskCounts(Message):
    """How many tasks the broker keeps."""

    __slots__: tuple[str, ...] = ("ready", "scheduled", "leased", "dead", "ended",)
    FIELDS = (
        (1, "ready", "uint64", ""),
        (2, "scheduled", "uint64", ""),
        (3, "leased", "uint64", ""),
        (4, "dead", "uint64", ""),
        (5, "ended", "uint64", ""),
    )

    def __init__(
        self,
        *,
        ready: int = 0,
        scheduled: int = 0,
        leased: int = 0,
        dead: int = 0,
        ended: int = 0,
    ) -> None:
        self.ready: int = ready
        self.scheduled: int = scheduled
        self.leased: int = leased
        self.dead: int = dead
        self.ended: int = ended


class DataUsage(Message):
    """How full the data folder and its disk are."""

    __slots__: tuple[str, ...] = (
        "live_bytes", "log_bytes", "file_bytes", "reusable_bytes", "disk_free_bytes", "disk_bytes",
        "disk_low_bytes", "disk_is_low", "usable_bytes",
    )
    FIELDS = (
        (1, "live_bytes", "uint64", ""),
        (2, "log_bytes", "uint64", ""),
        (3, "file_bytes", "uint64", ""),
        (4, "reusable_bytes", "uint64", ""),
        (5, "disk_free_bytes", "uint64", ""),
        (6, "disk_bytes", "uint64", ""),
        (7, "disk_low_bytes", "uint64", ""),
        (8, "disk_is_low", "bool", ""),
        (9, "usable_bytes", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        live_bytes: int = 0,
        log_bytes: int = 0,
        file_bytes: int = 0,
        reusable_bytes: int = 0,
        disk_free_bytes: int = 0,
        disk_bytes: int = 0,
        disk_low_bytes: int = 0,
        disk_is_low: bool = False,
        usable_bytes: int | None = None,
    ) -> None:
        self.live_bytes: int = live_bytes
        self.log_bytes: int = log_bytes
        self.file_bytes: int = file_bytes
        self.reusable_bytes: int = reusable_bytes
        self.disk_free_bytes: int = disk_free_bytes
        self.disk_bytes: int = disk_bytes
        self.disk_low_bytes: int = disk_low_bytes
        self.disk_is_low: bool = disk_is_low
        self.usable_bytes: int | None = usable_bytes


class Error(Message):
    """Why the broker refused a request, one item of a batch, or a connection."""

    __slots__: tuple[str, ...] = ("code", "message", "retryable", "retry_after_ms",)
    FIELDS = (
        (1, "code", "enum", ""),
        (2, "message", "string", ""),
        (3, "retryable", "bool", ""),
        (4, "retry_after_ms", "uint64", ""),
    )

    def __init__(
        self,
        *,
        code: int = 0,
        message: str = "",
        retryable: bool = False,
        retry_after_ms: int = 0,
    ) -> None:
        self.code: int = code
        self.message: str = message
        self.retryable: bool = retryable
        self.retry_after_ms: int = retry_after_ms


class ClientFrame(Message):
    """The frame of a client:"""

    __slots__: tuple[str, ...] = ("request_id", "timeout_ms", "body",)

    def __init__(
        self,
        *,
        request_id: int = 0,
        timeout_ms: int = 0,
        body: (
            Hello
            | Goodbye
            | Heartbeat
            | Submit
            | Cancel
            | Forget
            | Get
            | Wait
            | Watch
            | Unwatch
            | Unwait
            | Credit
            | Report
            | Serve
            | Take
            | PutOutcome
            | ChordPart
            | ChordExtend
            | ChordDone
            | ListQueues
            | ConfigureQueue
            | PauseQueues
            | PurgeQueue
            | DeleteQueue
            | ListTasks
            | ReplayDead
            | DiscardDead
            | ListWorkers
            | OrderWorkers
            | Backup
            | DeclareQueue
            | Info
            | Drain
            | LogFilter
            | Stats
            | DeclareMailbox
            | DeleteMailbox
            | PurgeMailbox
            | Consume
            | Unconsume
            | FetchMail
            | AckMail
            | PutBackMail
            | Publish
            | DeclareExchange
            | DeleteExchange
            | Bind
            | Unbind
            | ListMailboxes
            | ListBindings
            | None
        ) = None,
    ) -> None:
        self.request_id: int = request_id
        self.timeout_ms: int = timeout_ms
        self.body = body

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.request_id:
            out += (b'\x08', _number(self.request_id))
        if self.timeout_ms:
            out += (b'\x10', _number(self.timeout_ms))
        if self.body is not None:
            key = _CLIENT_FRAME_BODY_KEYS[type(self.body)]
            value = self.body.encode()
            out += (key, _number(len(value)), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> ClientFrame:
        return _read_client_frame(data, at, end)


def _read_client_frame(data: bytes, at: int, end: int) -> ClientFrame:
    m = _new(ClientFrame)
    m.request_id = 0
    m.timeout_ms = 0
    m.body = None
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 8:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.request_id = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 16:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.timeout_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        read = _CLIENT_FRAME_BODY_READERS.get(key)
        if read is not None:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.body = read(data, at, stop)
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        elif key not in _CLIENT_FRAME_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_CLIENT_FRAME_KNOWN = frozenset((8, 16,))


class ServerFrame(Message):
    """The frame of the broker:"""

    __slots__: tuple[str, ...] = ("request_id", "body",)

    def __init__(
        self,
        *,
        request_id: int = 0,
        body: (
            Welcome
            | Error
            | Done
            | HeartbeatReply
            | SubmitReply
            | CancelReply
            | ForgetReply
            | GetReply
            | WaitReply
            | WatchReply
            | ReportReply
            | PutOutcomeReply
            | ChordReply
            | QueueList
            | CountReply
            | TaskPage
            | WorkerList
            | BackupReply
            | DeclareQueueReply
            | BrokerInfo
            | LogFilterReply
            | StatsReply
            | MailboxReply
            | ConsumeReply
            | FetchMailReply
            | MailboxList
            | BindingList
            | Deliver
            | CancelSignal
            | Order
            | Transition
            | Closing
            | Mail
            | ConsumerEnded
            | None
        ) = None,
    ) -> None:
        self.request_id: int = request_id
        self.body = body

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.request_id:
            out += (b'\x08', _number(self.request_id))
        if self.body is not None:
            key = _SERVER_FRAME_BODY_KEYS[type(self.body)]
            value = self.body.encode()
            out += (key, _number(len(value)), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> ServerFrame:
        return _read_server_frame(data, at, end)


def _read_server_frame(data: bytes, at: int, end: int) -> ServerFrame:
    m = _new(ServerFrame)
    m.request_id = 0
    m.body = None
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 8:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.request_id = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        read = _SERVER_FRAME_BODY_READERS.get(key)
        if read is not None:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.body = read(data, at, stop)
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        elif key not in _SERVER_FRAME_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_SERVER_FRAME_KNOWN = frozenset((8,))


class Hello(Message):
    """The first frame of every connection."""

    __slots__: tuple[str, ...] = (
        "protocol_min", "protocol_max", "client_name", "client_version", "token", "instance_id",
        "session_id", "heartbeat_ms", "features", "worker",
    )
    FIELDS = (
        (1, "protocol_min", "uint32", ""),
        (2, "protocol_max", "uint32", ""),
        (3, "client_name", "string", ""),
        (4, "client_version", "string", ""),
        (5, "token", "string", ""),
        (6, "instance_id", "string", ""),
        (7, "session_id", "string", ""),
        (8, "heartbeat_ms", "uint64", ""),
        (9, "features", "string", "repeated"),
        (10, "worker", "WorkerInfo", ""),
    )

    def __init__(
        self,
        *,
        protocol_min: int = 0,
        protocol_max: int = 0,
        client_name: str = "",
        client_version: str = "",
        token: str = "",
        instance_id: str = "",
        session_id: str = "",
        heartbeat_ms: int = 0,
        features: list[str] | None = None,
        worker: WorkerInfo | None = None,
    ) -> None:
        self.protocol_min: int = protocol_min
        self.protocol_max: int = protocol_max
        self.client_name: str = client_name
        self.client_version: str = client_version
        self.token: str = token
        self.instance_id: str = instance_id
        self.session_id: str = session_id
        self.heartbeat_ms: int = heartbeat_ms
        self.features = [] if features is None else features
        self.worker: WorkerInfo | None = worker


class WorkerInfo(Message):
    """The tasks that a worker can run, and where it runs."""

    __slots__: tuple[str, ...] = (
        "queues", "task_names", "hostname", "pid", "concurrency", "any_name", "keeps_leases",
    )
    FIELDS = (
        (1, "queues", "QueueSubscription", "repeated"),
        (2, "task_names", "string", "repeated"),
        (3, "hostname", "string", ""),
        (4, "pid", "uint32", ""),
        (5, "concurrency", "uint32", ""),
        (6, "any_name", "bool", ""),
        (7, "keeps_leases", "bool", ""),
    )

    def __init__(
        self,
        *,
        queues: list[QueueSubscription] | None = None,
        task_names: list[str] | None = None,
        hostname: str = "",
        pid: int = 0,
        concurrency: int = 0,
        any_name: bool = False,
        keeps_leases: bool = False,
    ) -> None:
        self.queues = [] if queues is None else queues
        self.task_names = [] if task_names is None else task_names
        self.hostname: str = hostname
        self.pid: int = pid
        self.concurrency: int = concurrency
        self.any_name: bool = any_name
        self.keeps_leases: bool = keeps_leases


class QueueSubscription(Message):
    """One queue that a worker serves."""

    __slots__: tuple[str, ...] = ("queue", "weight",)
    FIELDS = (
        (1, "queue", "string", ""),
        (2, "weight", "uint32", ""),
    )

    def __init__(
        self,
        *,
        queue: str = "",
        weight: int = 0,
    ) -> None:
        self.queue: str = queue
        self.weight: int = weight


class Serve(Message):
    """Changes what the worker serves:"""

    __slots__: tuple[str, ...] = (
        "add_queues", "remove_queues", "add_task_names", "remove_task_names",
    )
    FIELDS = (
        (1, "add_queues", "QueueSubscription", "repeated"),
        (2, "remove_queues", "string", "repeated"),
        (3, "add_task_names", "string", "repeated"),
        (4, "remove_task_names", "string", "repeated"),
    )

    def __init__(
        self,
        *,
        add_queues: list[QueueSubscription] | None = None,
        remove_queues: list[str] | None = None,
        add_task_names: list[str] | None = None,
        remove_task_names: list[str] | None = None,
    ) -> None:
        self.add_queues = [] if add_queues is None else add_queues
        self.remove_queues = [] if remove_queues is None else remove_queues
        self.add_task_names = [] if add_task_names is None else add_task_names
        self.remove_task_names = [] if remove_task_names is None else remove_task_names


class Welcome(Message):
    """The answer to an accepted Hello."""

    __slots__: tuple[str, ...] = (
        "protocol", "server_name", "server_version", "session_id", "resumed", "heartbeat_ms",
        "lease_ms", "server_time_ms", "limits", "features", "leases",
    )
    FIELDS = (
        (1, "protocol", "uint32", ""),
        (2, "server_name", "string", ""),
        (3, "server_version", "string", ""),
        (4, "session_id", "string", ""),
        (5, "resumed", "bool", ""),
        (6, "heartbeat_ms", "uint64", ""),
        (7, "lease_ms", "uint64", ""),
        (8, "server_time_ms", "int64", ""),
        (9, "limits", "Limits", ""),
        (10, "features", "string", "repeated"),
        (11, "leases", "uint64", "repeated"),
    )

    def __init__(
        self,
        *,
        protocol: int = 0,
        server_name: str = "",
        server_version: str = "",
        session_id: str = "",
        resumed: bool = False,
        heartbeat_ms: int = 0,
        lease_ms: int = 0,
        server_time_ms: int = 0,
        limits: Limits | None = None,
        features: list[str] | None = None,
        leases: list[int] | None = None,
    ) -> None:
        self.protocol: int = protocol
        self.server_name: str = server_name
        self.server_version: str = server_version
        self.session_id: str = session_id
        self.resumed: bool = resumed
        self.heartbeat_ms: int = heartbeat_ms
        self.lease_ms: int = lease_ms
        self.server_time_ms: int = server_time_ms
        self.limits: Limits | None = limits
        self.features = [] if features is None else features
        self.leases = [] if leases is None else leases


class Goodbye(Message):
    """Ends the session:"""

    __slots__: tuple[str, ...] = ()


class Heartbeat(Message):
    """Renews the session and all its leases."""

    __slots__: tuple[str, ...] = ("running", "memory_bytes",)
    FIELDS = (
        (1, "running", "uint32", ""),
        (2, "memory_bytes", "uint64", ""),
    )

    def __init__(
        self,
        *,
        running: int = 0,
        memory_bytes: int = 0,
    ) -> None:
        self.running: int = running
        self.memory_bytes: int = memory_bytes


class HeartbeatReply(Message):
    """The answer to a Heartbeat."""

    __slots__: tuple[str, ...] = ("server_time_ms",)
    FIELDS = (
        (1, "server_time_ms", "int64", ""),
    )

    def __init__(
        self,
        *,
        server_time_ms: int = 0,
    ) -> None:
        self.server_time_ms: int = server_time_ms


class Closing(Message):
    """The last frame on a connection that the broker closes, with the reason."""

    __slots__: tuple[str, ...] = ("error",)
    FIELDS = (
        (1, "error", "Error", ""),
    )

    def __init__(
        self,
        *,
        error: Error | None = None,
    ) -> None:
        self.error: Error | None = error


class Done(Message):
    """The broker carried out the request."""

    __slots__: tuple[str, ...] = ()


class PutOutcome(Message):
    """Outcomes of tasks, 1 to batch_items_max."""

    __slots__: tuple[str, ...] = ("outcomes",)
    FIELDS = (
        (1, "outcomes", "TaskOutcome", "repeated"),
    )

    def __init__(
        self,
        *,
        outcomes: list[TaskOutcome] | None = None,
    ) -> None:
        self.outcomes = [] if outcomes is None else outcomes


class TaskOutcome(Message):
    """The outcome of one task, or its progress."""

    __slots__: tuple[str, ...] = (
        "id", "lease", "state", "body", "content_type", "result_ttl_ms", "error",
    )
    FIELDS = (
        (1, "id", "string", ""),
        (2, "lease", "uint64", ""),
        (3, "state", "string", ""),
        (4, "body", "bytes", ""),
        (5, "content_type", "string", ""),
        (6, "result_ttl_ms", "uint64", "optional"),
        (7, "error", "TaskError", ""),
    )

    def __init__(
        self,
        *,
        id: str = "",
        lease: int = 0,
        state: str = "",
        body: bytes = b"",
        content_type: str = "",
        result_ttl_ms: int | None = None,
        error: TaskError | None = None,
    ) -> None:
        self.id: str = id
        self.lease: int = lease
        self.state: str = state
        self.body: bytes = body
        self.content_type: str = content_type
        self.result_ttl_ms: int | None = result_ttl_ms
        self.error: TaskError | None = error


class PutOutcomeReply(Message):
    """One answer for each outcome, in the order of the request."""

    __slots__: tuple[str, ...] = ("outcomes",)
    FIELDS = (
        (1, "outcomes", "StoredOutcome", "repeated"),
    )

    def __init__(
        self,
        *,
        outcomes: list[StoredOutcome] | None = None,
    ) -> None:
        self.outcomes = [] if outcomes is None else outcomes


class StoredOutcome(Message):
    """What became of one outcome."""

    __slots__: tuple[str, ...] = ("state", "generation", "error",)
    FIELDS = (
        (1, "state", "enum", ""),
        (2, "generation", "uint32", ""),
        (3, "error", "Error", ""),
    )

    def __init__(
        self,
        *,
        state: int = 0,
        generation: int = 0,
        error: Error | None = None,
    ) -> None:
        self.state: int = state
        self.generation: int = generation
        self.error: Error | None = error


class ChordPart(Message):
    """One member of a chord returns its part."""

    __slots__: tuple[str, ...] = (
        "group", "member", "index", "size", "body", "content_type", "result_ttl_ms", "lease_ms",
    )
    FIELDS = (
        (1, "group", "string", ""),
        (2, "member", "string", ""),
        (3, "index", "uint32", "optional"),
        (4, "size", "uint32", "optional"),
        (5, "body", "bytes", ""),
        (6, "content_type", "string", ""),
        (7, "result_ttl_ms", "uint64", "optional"),
        (8, "lease_ms", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        group: str = "",
        member: str = "",
        index: int | None = None,
        size: int | None = None,
        body: bytes = b"",
        content_type: str = "",
        result_ttl_ms: int | None = None,
        lease_ms: int | None = None,
    ) -> None:
        self.group: str = group
        self.member: str = member
        self.index: int | None = index
        self.size: int | None = size
        self.body: bytes = body
        self.content_type: str = content_type
        self.result_ttl_ms: int | None = result_ttl_ms
        self.lease_ms: int | None = lease_ms


class ChordExtend(Message):
    """Sets the size of a chord, adds members, asks for its lease, renews the lease, or names
    parts."""

    __slots__: tuple[str, ...] = (
        "group", "size", "added", "lease", "claim", "parts_from", "result_ttl_ms", "lease_ms",
    )
    FIELDS = (
        (1, "group", "string", ""),
        (2, "size", "uint32", "optional"),
        (3, "added", "string", "repeated"),
        (4, "lease", "uint64", ""),
        (5, "claim", "bool", ""),
        (6, "parts_from", "uint32", ""),
        (7, "result_ttl_ms", "uint64", "optional"),
        (8, "lease_ms", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        group: str = "",
        size: int | None = None,
        added: list[str] | None = None,
        lease: int = 0,
        claim: bool = False,
        parts_from: int = 0,
        result_ttl_ms: int | None = None,
        lease_ms: int | None = None,
    ) -> None:
        self.group: str = group
        self.size: int | None = size
        self.added = [] if added is None else added
        self.lease: int = lease
        self.claim: bool = claim
        self.parts_from: int = parts_from
        self.result_ttl_ms: int | None = result_ttl_ms
        self.lease_ms: int | None = lease_ms


class ChordDone(Message):
    """The caller with the lease has sent the body of the chord:"""

    __slots__: tuple[str, ...] = ("group", "lease", "result_ttl_ms",)
    FIELDS = (
        (1, "group", "string", ""),
        (2, "lease", "uint64", ""),
        (3, "result_ttl_ms", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        group: str = "",
        lease: int = 0,
        result_ttl_ms: int | None = None,
    ) -> None:
        self.group: str = group
        self.lease: int = lease
        self.result_ttl_ms: int | None = result_ttl_ms


class ChordReply(Message):
    """The answer to ChordPart and ChordExtend."""

    __slots__: tuple[str, ...] = ("count", "size", "added", "lease", "done", "parts", "parts_left",)
    FIELDS = (
        (1, "count", "uint32", ""),
        (2, "size", "uint32", "optional"),
        (3, "added", "uint32", ""),
        (4, "lease", "uint64", ""),
        (5, "done", "bool", ""),
        (6, "parts", "string", "repeated"),
        (7, "parts_left", "uint32", ""),
    )

    def __init__(
        self,
        *,
        count: int = 0,
        size: int | None = None,
        added: int = 0,
        lease: int = 0,
        done: bool = False,
        parts: list[str] | None = None,
        parts_left: int = 0,
    ) -> None:
        self.count: int = count
        self.size: int | None = size
        self.added: int = added
        self.lease: int = lease
        self.done: bool = done
        self.parts = [] if parts is None else parts
        self.parts_left: int = parts_left


class DeclareMailbox(Message):
    """Creates a mailbox, or finds the one of this name."""

    __slots__: tuple[str, ...] = (
        "mailbox", "exclusive", "auto_delete", "idle_ms", "ttl_ms", "messages_max", "bytes_max",
        "passive",
    )
    FIELDS = (
        (1, "mailbox", "string", ""),
        (2, "exclusive", "bool", ""),
        (3, "auto_delete", "bool", ""),
        (4, "idle_ms", "uint64", "optional"),
        (5, "ttl_ms", "uint64", "optional"),
        (6, "messages_max", "uint32", ""),
        (7, "bytes_max", "uint64", ""),
        (8, "passive", "bool", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
        exclusive: bool = False,
        auto_delete: bool = False,
        idle_ms: int | None = None,
        ttl_ms: int | None = None,
        messages_max: int = 0,
        bytes_max: int = 0,
        passive: bool = False,
    ) -> None:
        self.mailbox: str = mailbox
        self.exclusive: bool = exclusive
        self.auto_delete: bool = auto_delete
        self.idle_ms: int | None = idle_ms
        self.ttl_ms: int | None = ttl_ms
        self.messages_max: int = messages_max
        self.bytes_max: int = bytes_max
        self.passive: bool = passive


class MailboxReply(Message):
    """The answer to DeclareMailbox."""

    __slots__: tuple[str, ...] = ("mailbox", "ready", "consumers",)
    FIELDS = (
        (1, "mailbox", "string", ""),
        (2, "ready", "uint64", ""),
        (3, "consumers", "uint32", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
        ready: int = 0,
        consumers: int = 0,
    ) -> None:
        self.mailbox: str = mailbox
        self.ready: int = ready
        self.consumers: int = consumers


class DeleteMailbox(Message):
    """Ends a mailbox, with its messages, consumers and bindings."""

    __slots__: tuple[str, ...] = ("mailbox", "if_unused", "if_empty",)
    FIELDS = (
        (1, "mailbox", "string", ""),
        (2, "if_unused", "bool", ""),
        (3, "if_empty", "bool", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
        if_unused: bool = False,
        if_empty: bool = False,
    ) -> None:
        self.mailbox: str = mailbox
        self.if_unused: bool = if_unused
        self.if_empty: bool = if_empty


class PurgeMailbox(Message):
    """Drops the messages that wait in a mailbox."""

    __slots__: tuple[str, ...] = ("mailbox",)
    FIELDS = (
        (1, "mailbox", "string", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
    ) -> None:
        self.mailbox: str = mailbox


class Consume(Message):
    """Begins the delivery of the messages of a mailbox to this connection."""

    __slots__: tuple[str, ...] = ("mailbox",)
    FIELDS = (
        (1, "mailbox", "string", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
    ) -> None:
        self.mailbox: str = mailbox


class ConsumeReply(Message):
    """The answer to Consume."""

    __slots__: tuple[str, ...] = ("consumer_id",)
    FIELDS = (
        (1, "consumer_id", "uint64", ""),
    )

    def __init__(
        self,
        *,
        consumer_id: int = 0,
    ) -> None:
        self.consumer_id: int = consumer_id


class Unconsume(Message):
    """Ends a consumer of this connection."""

    __slots__: tuple[str, ...] = ("consumer_id",)
    FIELDS = (
        (1, "consumer_id", "uint64", ""),
    )

    def __init__(
        self,
        *,
        consumer_id: int = 0,
    ) -> None:
        self.consumer_id: int = consumer_id


class FetchMail(Message):
    """Fetches the first message of a mailbox."""

    __slots__: tuple[str, ...] = ("mailbox",)
    FIELDS = (
        (1, "mailbox", "string", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
    ) -> None:
        self.mailbox: str = mailbox


class FetchMailReply(Message):
    """The answer to FetchMail."""

    __slots__: tuple[str, ...] = ("message", "ready", "dropped",)
    FIELDS = (
        (1, "message", "MailMessage", ""),
        (2, "ready", "uint64", ""),
        (3, "dropped", "uint64", ""),
    )

    def __init__(
        self,
        *,
        message: MailMessage | None = None,
        ready: int = 0,
        dropped: int = 0,
    ) -> None:
        self.message: MailMessage | None = message
        self.ready: int = ready
        self.dropped: int = dropped


class AckMail(Message):
    """Says that the client has taken these messages:"""

    __slots__: tuple[str, ...] = ("tags",)
    FIELDS = (
        (1, "tags", "uint64", "repeated"),
    )

    def __init__(
        self,
        *,
        tags: list[int] | None = None,
    ) -> None:
        self.tags = [] if tags is None else tags


class PutBackMail(Message):
    """Gives messages that the connection got back to their mailboxes."""

    __slots__: tuple[str, ...] = ("tags",)
    FIELDS = (
        (1, "tags", "uint64", "repeated"),
    )

    def __init__(
        self,
        *,
        tags: list[int] | None = None,
    ) -> None:
        self.tags = [] if tags is None else tags


class Publish(Message):
    """Sends a message to every mailbox that the exchange and the routing key lead to."""

    __slots__: tuple[str, ...] = (
        "exchange", "routing_key", "body", "content_type", "properties", "mandatory",
    )
    FIELDS = (
        (1, "exchange", "string", ""),
        (2, "routing_key", "string", ""),
        (3, "body", "bytes", ""),
        (4, "content_type", "string", ""),
        (5, "properties", "bytes", ""),
        (6, "mandatory", "bool", ""),
    )

    def __init__(
        self,
        *,
        exchange: str = "",
        routing_key: str = "",
        body: bytes = b"",
        content_type: str = "",
        properties: bytes = b"",
        mandatory: bool = False,
    ) -> None:
        self.exchange: str = exchange
        self.routing_key: str = routing_key
        self.body: bytes = body
        self.content_type: str = content_type
        self.properties: bytes = properties
        self.mandatory: bool = mandatory


class MailMessage(Message):
    """One message of a mailbox, as a reader gets it."""

    __slots__: tuple[str, ...] = (
        "tag", "exchange", "routing_key", "body", "content_type", "properties", "redelivered",
    )
    FIELDS = (
        (1, "tag", "uint64", ""),
        (2, "exchange", "string", ""),
        (3, "routing_key", "string", ""),
        (4, "body", "bytes", ""),
        (5, "content_type", "string", ""),
        (6, "properties", "bytes", ""),
        (7, "redelivered", "bool", ""),
    )

    def __init__(
        self,
        *,
        tag: int = 0,
        exchange: str = "",
        routing_key: str = "",
        body: bytes = b"",
        content_type: str = "",
        properties: bytes = b"",
        redelivered: bool = False,
    ) -> None:
        self.tag: int = tag
        self.exchange: str = exchange
        self.routing_key: str = routing_key
        self.body: bytes = body
        self.content_type: str = content_type
        self.properties: bytes = properties
        self.redelivered: bool = redelivered


class Mail(Message):
    """Messages of a mailbox, pushed to one of its consumers."""

    __slots__: tuple[str, ...] = ("consumer_id", "messages", "dropped",)
    FIELDS = (
        (1, "consumer_id", "uint64", ""),
        (2, "messages", "MailMessage", "repeated"),
        (3, "dropped", "uint64", ""),
    )

    def __init__(
        self,
        *,
        consumer_id: int = 0,
        messages: list[MailMessage] | None = None,
        dropped: int = 0,
    ) -> None:
        self.consumer_id: int = consumer_id
        self.messages = [] if messages is None else messages
        self.dropped: int = dropped


class ConsumerEnded(Message):
    """The mailbox of a consumer has ended, and the consumer with it."""

    __slots__: tuple[str, ...] = ("consumer_id", "mailbox",)
    FIELDS = (
        (1, "consumer_id", "uint64", ""),
        (2, "mailbox", "string", ""),
    )

    def __init__(
        self,
        *,
        consumer_id: int = 0,
        mailbox: str = "",
    ) -> None:
        self.consumer_id: int = consumer_id
        self.mailbox: str = mailbox


class DeclareExchange(Message):
    """Creates an exchange, or finds the one of this name."""

    __slots__: tuple[str, ...] = ("exchange", "type", "auto_delete", "passive",)
    FIELDS = (
        (1, "exchange", "string", ""),
        (2, "type", "enum", ""),
        (3, "auto_delete", "bool", ""),
        (4, "passive", "bool", ""),
    )

    def __init__(
        self,
        *,
        exchange: str = "",
        type: int = 0,
        auto_delete: bool = False,
        passive: bool = False,
    ) -> None:
        self.exchange: str = exchange
        self.type: int = type
        self.auto_delete: bool = auto_delete
        self.passive: bool = passive


class DeleteExchange(Message):
    """Ends an exchange, with its bindings."""

    __slots__: tuple[str, ...] = ("exchange", "if_unused",)
    FIELDS = (
        (1, "exchange", "string", ""),
        (2, "if_unused", "bool", ""),
    )

    def __init__(
        self,
        *,
        exchange: str = "",
        if_unused: bool = False,
    ) -> None:
        self.exchange: str = exchange
        self.if_unused: bool = if_unused


class Destination(Message):
    """Where a binding leads:"""

    __slots__: tuple[str, ...] = ("mailbox", "queue",)
    FIELDS = (
        (1, "mailbox", "string", ""),
        (2, "queue", "string", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
        queue: str = "",
    ) -> None:
        self.mailbox: str = mailbox
        self.queue: str = queue


class Bind(Message):
    """Adds a binding, unless it exists."""

    __slots__: tuple[str, ...] = ("exchange", "routing_key", "destination",)
    FIELDS = (
        (1, "exchange", "string", ""),
        (2, "routing_key", "string", ""),
        (3, "destination", "Destination", ""),
    )

    def __init__(
        self,
        *,
        exchange: str = "",
        routing_key: str = "",
        destination: Destination | None = None,
    ) -> None:
        self.exchange: str = exchange
        self.routing_key: str = routing_key
        self.destination: Destination | None = destination


class Unbind(Message):
    """Removes a binding."""

    __slots__: tuple[str, ...] = ("exchange", "routing_key", "destination",)
    FIELDS = (
        (1, "exchange", "string", ""),
        (2, "routing_key", "string", ""),
        (3, "destination", "Destination", ""),
    )

    def __init__(
        self,
        *,
        exchange: str = "",
        routing_key: str = "",
        destination: Destination | None = None,
    ) -> None:
        self.exchange: str = exchange
        self.routing_key: str = routing_key
        self.destination: Destination | None = destination


class ListMailboxes(Message):
    """Lists mailboxes by name."""

    __slots__: tuple[str, ...] = ("cursor",)
    FIELDS = (
        (1, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        cursor: bytes = b"",
    ) -> None:
        self.cursor: bytes = cursor


class MailboxList(Message):
    """The answer to ListMailboxes."""

    __slots__: tuple[str, ...] = ("mailboxes", "cursor",)
    FIELDS = (
        (1, "mailboxes", "MailboxInfo", "repeated"),
        (2, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        mailboxes: list[MailboxInfo] | None = None,
        cursor: bytes = b"",
    ) -> None:
        self.mailboxes = [] if mailboxes is None else mailboxes
        self.cursor: bytes = cursor


class MailboxInfo(Message):
    """One mailbox."""

    __slots__: tuple[str, ...] = (
        "mailbox", "exclusive", "auto_delete", "ready", "bytes", "unacknowledged", "consumers",
        "dropped_total",
    )
    FIELDS = (
        (1, "mailbox", "string", ""),
        (2, "exclusive", "bool", ""),
        (3, "auto_delete", "bool", ""),
        (4, "ready", "uint64", ""),
        (5, "bytes", "uint64", ""),
        (6, "unacknowledged", "uint64", ""),
        (7, "consumers", "uint32", ""),
        (8, "dropped_total", "uint64", ""),
    )

    def __init__(
        self,
        *,
        mailbox: str = "",
        exclusive: bool = False,
        auto_delete: bool = False,
        ready: int = 0,
        bytes: int = 0,
        unacknowledged: int = 0,
        consumers: int = 0,
        dropped_total: int = 0,
    ) -> None:
        self.mailbox: str = mailbox
        self.exclusive: bool = exclusive
        self.auto_delete: bool = auto_delete
        self.ready: int = ready
        self.bytes: int = bytes
        self.unacknowledged: int = unacknowledged
        self.consumers: int = consumers
        self.dropped_total: int = dropped_total


class ListBindings(Message):
    """Lists exchanges with their bindings."""

    __slots__: tuple[str, ...] = ("cursor",)
    FIELDS = (
        (1, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        cursor: bytes = b"",
    ) -> None:
        self.cursor: bytes = cursor


class BindingList(Message):
    """The answer to ListBindings."""

    __slots__: tuple[str, ...] = ("bindings", "cursor",)
    FIELDS = (
        (1, "bindings", "BindingInfo", "repeated"),
        (2, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        bindings: list[BindingInfo] | None = None,
        cursor: bytes = b"",
    ) -> None:
        self.bindings = [] if bindings is None else bindings
        self.cursor: bytes = cursor


class BindingInfo(Message):
    """One binding, or an exchange without bindings."""

    __slots__: tuple[str, ...] = ("exchange", "type", "routing_key", "destination",)
    FIELDS = (
        (1, "exchange", "string", ""),
        (2, "type", "enum", ""),
        (3, "routing_key", "string", ""),
        (4, "destination", "Destination", ""),
    )

    def __init__(
        self,
        *,
        exchange: str = "",
        type: int = 0,
        routing_key: str = "",
        destination: Destination | None = None,
    ) -> None:
        self.exchange: str = exchange
        self.type: int = type
        self.routing_key: str = routing_key
        self.destination: Destination | None = destination


class Stats(Message):
    """Asks for the counters of queues and of the broker itself."""

    __slots__: tuple[str, ...] = ("queues", "cursor",)
    FIELDS = (
        (1, "queues", "string", "repeated"),
        (2, "cursor", "bytes", ""),
    )

    def __init__(
        self,
        *,
        queues: list[str] | None = None,
        cursor: bytes = b"",
    ) -> None:
        self.queues = [] if queues is None else queues
        self.cursor: bytes = cursor


class StatsReply(Message):
    """One page of queues, in order of name, and the broker itself."""

    __slots__: tuple[str, ...] = ("at_ms", "broker", "queues", "cursor", "bounds_ms",)
    FIELDS = (
        (1, "at_ms", "int64", ""),
        (2, "broker", "BrokerStats", ""),
        (3, "queues", "QueueStats", "repeated"),
        (4, "cursor", "bytes", ""),
        (5, "bounds_ms", "uint64", "repeated"),
    )

    def __init__(
        self,
        *,
        at_ms: int = 0,
        broker: BrokerStats | None = None,
        queues: list[QueueStats] | None = None,
        cursor: bytes = b"",
        bounds_ms: list[int] | None = None,
    ) -> None:
        self.at_ms: int = at_ms
        self.broker: BrokerStats | None = broker
        self.queues = [] if queues is None else queues
        self.cursor: bytes = cursor
        self.bounds_ms = [] if bounds_ms is None else bounds_ms


class QueueStats(Message):
    """The figures of one queue."""

    __slots__: tuple[str, ...] = (
        "name", "paused", "scheduled", "ready", "leased", "started", "dead", "oldest_ready_at_ms",
        "bytes", "workers", "slots_busy", "slots_free", "waiting_paused", "waiting_no_worker",
        "counters",
    )
    FIELDS = (
        (1, "name", "string", ""),
        (2, "paused", "bool", ""),
        (3, "scheduled", "uint64", ""),
        (4, "ready", "uint64", ""),
        (5, "leased", "uint64", ""),
        (6, "started", "uint64", ""),
        (7, "dead", "uint64", ""),
        (8, "oldest_ready_at_ms", "int64", "optional"),
        (9, "bytes", "uint64", ""),
        (10, "workers", "uint32", ""),
        (11, "slots_busy", "uint64", ""),
        (12, "slots_free", "uint64", ""),
        (13, "waiting_paused", "uint64", ""),
        (14, "waiting_no_worker", "uint64", ""),
        (15, "counters", "QueueCounters", ""),
    )

    def __init__(
        self,
        *,
        name: str = "",
        paused: bool = False,
        scheduled: int = 0,
        ready: int = 0,
        leased: int = 0,
        started: int = 0,
        dead: int = 0,
        oldest_ready_at_ms: int | None = None,
        bytes: int = 0,
        workers: int = 0,
        slots_busy: int = 0,
        slots_free: int = 0,
        waiting_paused: int = 0,
        waiting_no_worker: int = 0,
        counters: QueueCounters | None = None,
    ) -> None:
        self.name: str = name
        self.paused: bool = paused
        self.scheduled: int = scheduled
        self.ready: int = ready
        self.leased: int = leased
        self.started: int = started
        self.dead: int = dead
        self.oldest_ready_at_ms: int | None = oldest_ready_at_ms
        self.bytes: int = bytes
        self.workers: int = workers
        self.slots_busy: int = slots_busy
        self.slots_free: int = slots_free
        self.waiting_paused: int = waiting_paused
        self.waiting_no_worker: int = waiting_no_worker
        self.counters: QueueCounters | None = counters


class QueueCounters(Message):
    """What has happened in a queue since the broker's start, or since the queue was made anew."""

    __slots__: tuple[str, ...] = (
        "submitted_total", "succeeded_total", "failed_total", "revoked_total", "retried_total",
        "deliveries_total", "requeued_worker_lost_total", "requeued_released_total",
        "requeued_taken_back_total", "wait", "run",
    )
    FIELDS = (
        (1, "submitted_total", "uint64", ""),
        (2, "succeeded_total", "uint64", ""),
        (3, "failed_total", "uint64", ""),
        (4, "revoked_total", "uint64", ""),
        (5, "retried_total", "uint64", ""),
        (6, "deliveries_total", "uint64", ""),
        (7, "requeued_worker_lost_total", "uint64", ""),
        (8, "requeued_released_total", "uint64", ""),
        (9, "requeued_taken_back_total", "uint64", ""),
        (10, "wait", "Histogram", ""),
        (11, "run", "Histogram", ""),
    )

    def __init__(
        self,
        *,
        submitted_total: int = 0,
        succeeded_total: int = 0,
        failed_total: int = 0,
        revoked_total: int = 0,
        retried_total: int = 0,
        deliveries_total: int = 0,
        requeued_worker_lost_total: int = 0,
        requeued_released_total: int = 0,
        requeued_taken_back_total: int = 0,
        wait: Histogram | None = None,
        run: Histogram | None = None,
    ) -> None:
        self.submitted_total: int = submitted_total
        self.succeeded_total: int = succeeded_total
        self.failed_total: int = failed_total
        self.revoked_total: int = revoked_total
        self.retried_total: int = retried_total
        self.deliveries_total: int = deliveries_total
        self.requeued_worker_lost_total: int = requeued_worker_lost_total
        self.requeued_released_total: int = requeued_released_total
        self.requeued_taken_back_total: int = requeued_taken_back_total
        self.wait: Histogram | None = wait
        self.run: Histogram | None = run


class Histogram(Message):
    """Spans in buckets."""

    __slots__: tuple[str, ...] = ("counts", "sum",)
    FIELDS = (
        (1, "counts", "uint64", "repeated"),
        (2, "sum", "uint64", ""),
    )

    def __init__(
        self,
        *,
        counts: list[int] | None = None,
        sum: int = 0,
    ) -> None:
        self.counts = [] if counts is None else counts
        self.sum: int = sum


class BrokerStats(Message):
    """The figures of the broker itself."""

    __slots__: tuple[str, ...] = (
        "server_version", "started_at_ms", "uptime_ms", "restore_ms", "connections",
        "connections_before_hello", "connections_max", "workers", "workers_lost", "mailboxes",
        "tasks", "draining", "removed_queues", "auth_failures", "refused", "commit",
        "commit_bounds_us", "data", "certificate_expires_at_ms", "reloaded_at_ms", "reload_failed",
        "process",
    )
    FIELDS = (
        (1, "server_version", "string", ""),
        (2, "started_at_ms", "int64", ""),
        (3, "uptime_ms", "uint64", ""),
        (4, "restore_ms", "uint64", ""),
        (5, "connections", "uint32", ""),
        (6, "connections_before_hello", "uint32", ""),
        (7, "connections_max", "uint32", ""),
        (8, "workers", "uint32", ""),
        (9, "workers_lost", "uint32", ""),
        (10, "mailboxes", "uint32", ""),
        (11, "tasks", "uint64", ""),
        (12, "draining", "bool", ""),
        (13, "removed_queues", "QueueCounters", ""),
        (14, "auth_failures", "AuthFailures", ""),
        (15, "refused", "RefusedCount", "repeated"),
        (16, "commit", "Histogram", ""),
        (17, "commit_bounds_us", "uint64", "repeated"),
        (18, "data", "DataUsage", ""),
        (19, "certificate_expires_at_ms", "int64", "optional"),
        (20, "reloaded_at_ms", "int64", ""),
        (21, "reload_failed", "bool", ""),
        (22, "process", "ProcessStats", ""),
    )

    def __init__(
        self,
        *,
        server_version: str = "",
        started_at_ms: int = 0,
        uptime_ms: int = 0,
        restore_ms: int = 0,
        connections: int = 0,
        connections_before_hello: int = 0,
        connections_max: int = 0,
        workers: int = 0,
        workers_lost: int = 0,
        mailboxes: int = 0,
        tasks: int = 0,
        draining: bool = False,
        removed_queues: QueueCounters | None = None,
        auth_failures: AuthFailures | None = None,
        refused: list[RefusedCount] | None = None,
        commit: Histogram | None = None,
        commit_bounds_us: list[int] | None = None,
        data: DataUsage | None = None,
        certificate_expires_at_ms: int | None = None,
        reloaded_at_ms: int = 0,
        reload_failed: bool = False,
        process: ProcessStats | None = None,
    ) -> None:
        self.server_version: str = server_version
        self.started_at_ms: int = started_at_ms
        self.uptime_ms: int = uptime_ms
        self.restore_ms: int = restore_ms
        self.connections: int = connections
        self.connections_before_hello: int = connections_before_hello
        self.connections_max: int = connections_max
        self.workers: int = workers
        self.workers_lost: int = workers_lost
        self.mailboxes: int = mailboxes
        self.tasks: int = tasks
        self.draining: bool = draining
        self.removed_queues: QueueCounters | None = removed_queues
        self.auth_failures: AuthFailures | None = auth_failures
        self.refused = [] if refused is None else refused
        self.commit: Histogram | None = commit
        self.commit_bounds_us = [] if commit_bounds_us is None else commit_bounds_us
        self.data: DataUsage | None = data
        self.certificate_expires_at_ms: int | None = certificate_expires_at_ms
        self.reloaded_at_ms: int = reloaded_at_ms
        self.reload_failed: bool = reload_failed
        self.process: ProcessStats | None = process


class AuthFailures(Message):
    """How many connections were not let in, by reason."""

    __slots__: tuple[str, ...] = (
        "token_missing_total", "token_wrong_total", "certificate_total", "handshake_total",
    )
    FIELDS = (
        (1, "token_missing_total", "uint64", ""),
        (2, "token_wrong_total", "uint64", ""),
        (3, "certificate_total", "uint64", ""),
        (4, "handshake_total", "uint64", ""),
    )

    def __init__(
        self,
        *,
        token_missing_total: int = 0,
        token_wrong_total: int = 0,
        certificate_total: int = 0,
        handshake_total: int = 0,
    ) -> None:
        self.token_missing_total: int = token_missing_total
        self.token_wrong_total: int = token_wrong_total
        self.certificate_total: int = certificate_total
        self.handshake_total: int = handshake_total


class RefusedCount(Message):
    """How often something was refused with one code."""

    __slots__: tuple[str, ...] = ("code", "total",)
    FIELDS = (
        (1, "code", "enum", ""),
        (2, "total", "uint64", ""),
    )

    def __init__(
        self,
        *,
        code: int = 0,
        total: int = 0,
    ) -> None:
        self.code: int = code
        self.total: int = total


class ProcessStats(Message):
    """The broker's process."""

    __slots__: tuple[str, ...] = ("memory_bytes", "cpu_us", "open_files", "open_files_max",)
    FIELDS = (
        (1, "memory_bytes", "uint64", "optional"),
        (2, "cpu_us", "uint64", "optional"),
        (3, "open_files", "uint64", "optional"),
        (4, "open_files_max", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        memory_bytes: int | None = None,
        cpu_us: int | None = None,
        open_files: int | None = None,
        open_files_max: int | None = None,
    ) -> None:
        self.memory_bytes: int | None = memory_bytes
        self.cpu_us: int | None = cpu_us
        self.open_files: int | None = open_files
        self.open_files_max: int | None = open_files_max


class Task(Message):
    """One task as its producer describes it."""

    __slots__: tuple[str, ...] = (
        "id", "name", "queue", "payload", "content_type", "headers", "shadow", "priority",
        "eta_at_ms", "countdown_ms", "expires_at_ms", "expires_in_ms", "result_ttl_ms", "retry",
        "soft_time_limit_ms", "time_limit_ms", "max_deliveries", "on_conflict", "root_id",
        "parent_id", "tags", "early_ack", "submit_key", "lead_ms", "forget_at_end",
        "supersedes_lease", "announce_end",
    )

    def __init__(
        self,
        *,
        id: str = "",
        name: str = "",
        queue: str = "",
        payload: bytes = b"",
        content_type: str = "",
        headers: dict[str, bytes] | None = None,
        shadow: str = "",
        priority: int | None = None,
        eta_at_ms: int | None = None,
        countdown_ms: int | None = None,
        expires_at_ms: int | None = None,
        expires_in_ms: int | None = None,
        result_ttl_ms: int | None = None,
        retry: RetryPolicy | None = None,
        soft_time_limit_ms: int | None = None,
        time_limit_ms: int | None = None,
        max_deliveries: int | None = None,
        on_conflict: int = 0,
        root_id: str = "",
        parent_id: str = "",
        tags: list[str] | None = None,
        early_ack: bool = False,
        submit_key: str = "",
        lead_ms: int | None = None,
        forget_at_end: bool = False,
        supersedes_lease: int = 0,
        announce_end: bool = False,
    ) -> None:
        self.id: str = id
        self.name: str = name
        self.queue: str = queue
        self.payload: bytes = payload
        self.content_type: str = content_type
        self.headers = {} if headers is None else headers
        self.shadow: str = shadow
        self.priority: int | None = priority
        self.eta_at_ms: int | None = eta_at_ms
        self.countdown_ms: int | None = countdown_ms
        self.expires_at_ms: int | None = expires_at_ms
        self.expires_in_ms: int | None = expires_in_ms
        self.result_ttl_ms: int | None = result_ttl_ms
        self.retry: RetryPolicy | None = retry
        self.soft_time_limit_ms: int | None = soft_time_limit_ms
        self.time_limit_ms: int | None = time_limit_ms
        self.max_deliveries: int | None = max_deliveries
        self.on_conflict: int = on_conflict
        self.root_id: str = root_id
        self.parent_id: str = parent_id
        self.tags = [] if tags is None else tags
        self.early_ack: bool = early_ack
        self.submit_key: str = submit_key
        self.lead_ms: int | None = lead_ms
        self.forget_at_end: bool = forget_at_end
        self.supersedes_lease: int = supersedes_lease
        self.announce_end: bool = announce_end

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.id:
            value = self.id.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.name:
            value = self.name.encode()
            size = len(value)
            out += (b'\x12', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.queue:
            value = self.queue.encode()
            size = len(value)
            out += (b'\x1a', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.payload:
            value = self.payload
            size = len(value)
            out += (b'"', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.content_type:
            value = self.content_type.encode()
            size = len(value)
            out += (b'*', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        for key, item in self.headers.items():
            value = key.encode()
            entry = item
            both = (b'\n', _number(len(value)), value, b'\x12', _number(len(entry)), entry)
            value = b''.join(both)
            size = len(value)
            out += (b'2', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.shadow:
            value = self.shadow.encode()
            size = len(value)
            out += (b':', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.priority is not None:
            out += (b'@', _number(self.priority))
        if self.eta_at_ms is not None:
            out += (b'H', _number(self.eta_at_ms))
        if self.countdown_ms is not None:
            out += (b'P', _number(self.countdown_ms))
        if self.expires_at_ms is not None:
            out += (b'X', _number(self.expires_at_ms))
        if self.expires_in_ms is not None:
            out += (b'`', _number(self.expires_in_ms))
        if self.result_ttl_ms is not None:
            out += (b'h', _number(self.result_ttl_ms))
        if self.retry is not None:
            value = self.retry.encode()
            size = len(value)
            out += (b'r', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.soft_time_limit_ms is not None:
            out += (b'x', _number(self.soft_time_limit_ms))
        if self.time_limit_ms is not None:
            out += (b'\x80\x01', _number(self.time_limit_ms))
        if self.max_deliveries is not None:
            out += (b'\x88\x01', _number(self.max_deliveries))
        if self.on_conflict:
            out += (b'\x90\x01', _number(self.on_conflict))
        if self.root_id:
            value = self.root_id.encode()
            size = len(value)
            out += (b'\x9a\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.parent_id:
            value = self.parent_id.encode()
            size = len(value)
            out += (b'\xa2\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        for a_string in self.tags:
            value = a_string.encode()
            size = len(value)
            out += (b'\xaa\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.early_ack:
            out += (b'\xb0\x01', _number(self.early_ack))
        if self.submit_key:
            value = self.submit_key.encode()
            size = len(value)
            out += (b'\xba\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.lead_ms is not None:
            out += (b'\xc0\x01', _number(self.lead_ms))
        if self.forget_at_end:
            out += (b'\xc8\x01', _number(self.forget_at_end))
        if self.supersedes_lease:
            out += (b'\xd0\x01', _number(self.supersedes_lease))
        if self.announce_end:
            out += (b'\xd8\x01', _number(self.announce_end))
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> Task:
        return _read_task(data, at, end)


def _read_task(data: bytes, at: int, end: int) -> Task:
    m = _new(Task)
    m.id = ""
    m.name = ""
    m.queue = ""
    m.payload = b""
    m.content_type = ""
    m.headers = {}
    m.shadow = ""
    m.priority = None
    m.eta_at_ms = None
    m.countdown_ms = None
    m.expires_at_ms = None
    m.expires_in_ms = None
    m.result_ttl_ms = None
    m.retry = None
    m.soft_time_limit_ms = None
    m.time_limit_ms = None
    m.max_deliveries = None
    m.on_conflict = 0
    m.root_id = ""
    m.parent_id = ""
    m.tags = []
    m.early_ack = False
    m.submit_key = ""
    m.lead_ms = None
    m.forget_at_end = False
    m.supersedes_lease = 0
    m.announce_end = False
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 18:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.name = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 26:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.queue = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 34:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.payload = data[at:stop]
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 42:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.content_type = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        while key == 50:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            name, item = _read_entry(data, at, stop)
            m.headers[name] = item
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key == 58:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.shadow = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 64:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.priority = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 72:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.eta_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 80:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.countdown_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 88:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.expires_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 96:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.expires_in_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 104:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.result_ttl_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 114:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.retry = RetryPolicy.read(data, at, stop)
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 120:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.soft_time_limit_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 128:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.time_limit_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 136:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.max_deliveries = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 144:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed32(value)
            m.on_conflict = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 154:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.root_id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 162:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.parent_id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        while key == 170:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.tags.append(data[at:stop].decode())
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key == 176:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.early_ack = value != 0
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 186:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.submit_key = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 192:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.lead_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 200:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.forget_at_end = value != 0
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 208:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.supersedes_lease = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 216:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.announce_end = value != 0
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key not in _TASK_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_TASK_KNOWN = frozenset((
    10, 18, 26, 34, 42, 50, 58, 64, 72, 80, 88, 96, 104, 114, 120, 128, 136, 144, 154, 162, 170,
    176, 186, 192, 200, 208, 216,
))


class RetryPolicy(Message):
    """When a failed task runs again."""

    __slots__: tuple[str, ...] = (
        "max_attempts", "backoff", "delay_ms", "factor", "delay_max_ms", "jitter",
    )
    FIELDS = (
        (1, "max_attempts", "uint32", "optional"),
        (2, "backoff", "enum", ""),
        (3, "delay_ms", "uint64", "optional"),
        (4, "factor", "double", "optional"),
        (5, "delay_max_ms", "uint64", "optional"),
        (6, "jitter", "enum", ""),
    )

    def __init__(
        self,
        *,
        max_attempts: int | None = None,
        backoff: int = 0,
        delay_ms: int | None = None,
        factor: float | None = None,
        delay_max_ms: int | None = None,
        jitter: int = 0,
    ) -> None:
        self.max_attempts: int | None = max_attempts
        self.backoff: int = backoff
        self.delay_ms: int | None = delay_ms
        self.factor: float | None = factor
        self.delay_max_ms: int | None = delay_max_ms
        self.jitter: int = jitter


class Submit(Message):
    """Submits tasks, 1 to batch_items_max."""

    __slots__: tuple[str, ...] = ("tasks",)

    def __init__(
        self,
        *,
        tasks: list[Task] | None = None,
    ) -> None:
        self.tasks = [] if tasks is None else tasks

    def encode(self) -> bytes:
        out: list[bytes] = []
        for a_task in self.tasks:
            value = a_task.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> Submit:
        return _read_submit(data, at, end)


def _read_submit(data: bytes, at: int, end: int) -> Submit:
    m = _new(Submit)
    m.tasks = []
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        while key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.tasks.append(_read_task(data, at, stop))
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key not in _SUBMIT_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_SUBMIT_KNOWN = frozenset((10,))


class SubmitReply(Message):
    """One outcome for each task, in the order of the request."""

    __slots__: tuple[str, ...] = ("outcomes",)

    def __init__(
        self,
        *,
        outcomes: list[SubmitOutcome] | None = None,
    ) -> None:
        self.outcomes = [] if outcomes is None else outcomes

    def encode(self) -> bytes:
        out: list[bytes] = []
        for a_submit_outcome in self.outcomes:
            value = a_submit_outcome.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> SubmitReply:
        return _read_submit_reply(data, at, end)


def _read_submit_reply(data: bytes, at: int, end: int) -> SubmitReply:
    m = _new(SubmitReply)
    m.outcomes = []
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        while key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.outcomes.append(_read_submit_outcome(data, at, stop))
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key not in _SUBMIT_REPLY_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_SUBMIT_REPLY_KNOWN = frozenset((10,))


class SubmitOutcome(Message):
    """The outcome of one task of a Submit."""

    __slots__: tuple[str, ...] = ("kind", "generation", "state", "error", "id",)

    def __init__(
        self,
        *,
        kind: int = 0,
        generation: int = 0,
        state: int = 0,
        error: Error | None = None,
        id: str = "",
    ) -> None:
        self.kind: int = kind
        self.generation: int = generation
        self.state: int = state
        self.error: Error | None = error
        self.id: str = id

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.kind:
            out += (b'\x08', _number(self.kind))
        if self.generation:
            out += (b'\x10', _number(self.generation))
        if self.state:
            out += (b'\x18', _number(self.state))
        if self.error is not None:
            value = self.error.encode()
            size = len(value)
            out += (b'"', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.id:
            value = self.id.encode()
            size = len(value)
            out += (b'*', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> SubmitOutcome:
        return _read_submit_outcome(data, at, end)


def _read_submit_outcome(data: bytes, at: int, end: int) -> SubmitOutcome:
    m = _new(SubmitOutcome)
    m.kind = 0
    m.generation = 0
    m.state = 0
    m.error = None
    m.id = ""
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 8:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed32(value)
            m.kind = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 16:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.generation = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 24:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed32(value)
            m.state = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 34:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.error = Error.read(data, at, stop)
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 42:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key not in _SUBMIT_OUTCOME_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_SUBMIT_OUTCOME_KNOWN = frozenset((8, 16, 24, 34, 42,))


class TaskError(Message):
    """Why a handler failed."""

    __slots__: tuple[str, ...] = (
        "kind", "message", "traceback", "at_ms", "attempt", "leased_at_ms", "started_at_ms",
        "worker",
    )
    FIELDS = (
        (1, "kind", "string", ""),
        (2, "message", "string", ""),
        (3, "traceback", "string", ""),
        (4, "at_ms", "int64", ""),
        (5, "attempt", "uint32", ""),
        (6, "leased_at_ms", "int64", "optional"),
        (7, "started_at_ms", "int64", "optional"),
        (8, "worker", "string", ""),
    )

    def __init__(
        self,
        *,
        kind: str = "",
        message: str = "",
        traceback: str = "",
        at_ms: int = 0,
        attempt: int = 0,
        leased_at_ms: int | None = None,
        started_at_ms: int | None = None,
        worker: str = "",
    ) -> None:
        self.kind: str = kind
        self.message: str = message
        self.traceback: str = traceback
        self.at_ms: int = at_ms
        self.attempt: int = attempt
        self.leased_at_ms: int | None = leased_at_ms
        self.started_at_ms: int | None = started_at_ms
        self.worker: str = worker


class Progress(Message):
    """The latest progress that a handler reported."""

    __slots__: tuple[str, ...] = ("state", "meta", "at_ms",)
    FIELDS = (
        (1, "state", "string", ""),
        (2, "meta", "bytes", ""),
        (3, "at_ms", "int64", ""),
    )

    def __init__(
        self,
        *,
        state: str = "",
        meta: bytes = b"",
        at_ms: int = 0,
    ) -> None:
        self.state: str = state
        self.meta: bytes = meta
        self.at_ms: int = at_ms


class TaskInfo(Message):
    """Everything that the broker knows of a task."""

    __slots__: tuple[str, ...] = (
        "id", "state", "generation", "version", "name", "queue", "shadow", "priority", "headers",
        "tags", "root_id", "parent_id", "waiting_for", "submitted_at_ms", "eta_at_ms",
        "expires_at_ms", "leased_at_ms", "started_at_ms", "finished_at_ms", "forget_at_ms",
        "worker", "attempts", "attempts_max", "deliveries", "progress", "errors", "result",
        "result_content_type", "revoked_reason", "cancel_requested", "actor", "payload",
        "content_type", "payload_left_out", "cancel_requested_at_ms", "deliveries_max",
    )

    def __init__(
        self,
        *,
        id: str = "",
        state: int = 0,
        generation: int = 0,
        version: int = 0,
        name: str = "",
        queue: str = "",
        shadow: str = "",
        priority: int = 0,
        headers: dict[str, bytes] | None = None,
        tags: list[str] | None = None,
        root_id: str = "",
        parent_id: str = "",
        waiting_for: int = 0,
        submitted_at_ms: int = 0,
        eta_at_ms: int | None = None,
        expires_at_ms: int | None = None,
        leased_at_ms: int | None = None,
        started_at_ms: int | None = None,
        finished_at_ms: int | None = None,
        forget_at_ms: int | None = None,
        worker: str = "",
        attempts: int = 0,
        attempts_max: int = 0,
        deliveries: int = 0,
        progress: Progress | None = None,
        errors: list[TaskError] | None = None,
        result: bytes = b"",
        result_content_type: str = "",
        revoked_reason: str = "",
        cancel_requested: bool = False,
        actor: str = "",
        payload: bytes = b"",
        content_type: str = "",
        payload_left_out: bool = False,
        cancel_requested_at_ms: int | None = None,
        deliveries_max: int = 0,
    ) -> None:
        self.id: str = id
        self.state: int = state
        self.generation: int = generation
        self.version: int = version
        self.name: str = name
        self.queue: str = queue
        self.shadow: str = shadow
        self.priority: int = priority
        self.headers = {} if headers is None else headers
        self.tags = [] if tags is None else tags
        self.root_id: str = root_id
        self.parent_id: str = parent_id
        self.waiting_for: int = waiting_for
        self.submitted_at_ms: int = submitted_at_ms
        self.eta_at_ms: int | None = eta_at_ms
        self.expires_at_ms: int | None = expires_at_ms
        self.leased_at_ms: int | None = leased_at_ms
        self.started_at_ms: int | None = started_at_ms
        self.finished_at_ms: int | None = finished_at_ms
        self.forget_at_ms: int | None = forget_at_ms
        self.worker: str = worker
        self.attempts: int = attempts
        self.attempts_max: int = attempts_max
        self.deliveries: int = deliveries
        self.progress: Progress | None = progress
        self.errors = [] if errors is None else errors
        self.result: bytes = result
        self.result_content_type: str = result_content_type
        self.revoked_reason: str = revoked_reason
        self.cancel_requested: bool = cancel_requested
        self.actor: str = actor
        self.payload: bytes = payload
        self.content_type: str = content_type
        self.payload_left_out: bool = payload_left_out
        self.cancel_requested_at_ms: int | None = cancel_requested_at_ms
        self.deliveries_max: int = deliveries_max

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.id:
            value = self.id.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.state:
            out += (b'\x10', _number(self.state))
        if self.generation:
            out += (b'\x18', _number(self.generation))
        if self.version:
            out += (b' ', _number(self.version))
        if self.name:
            value = self.name.encode()
            size = len(value)
            out += (b'*', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.queue:
            value = self.queue.encode()
            size = len(value)
            out += (b'2', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.shadow:
            value = self.shadow.encode()
            size = len(value)
            out += (b':', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.priority:
            out += (b'@', _number(self.priority))
        for key, item in self.headers.items():
            value = key.encode()
            entry = item
            both = (b'\n', _number(len(value)), value, b'\x12', _number(len(entry)), entry)
            value = b''.join(both)
            size = len(value)
            out += (b'J', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        for a_string in self.tags:
            value = a_string.encode()
            size = len(value)
            out += (b'R', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.root_id:
            value = self.root_id.encode()
            size = len(value)
            out += (b'Z', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.parent_id:
            value = self.parent_id.encode()
            size = len(value)
            out += (b'b', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.waiting_for:
            out += (b'h', _number(self.waiting_for))
        if self.submitted_at_ms:
            out += (b'\x80\x01', _number(self.submitted_at_ms))
        if self.eta_at_ms is not None:
            out += (b'\x88\x01', _number(self.eta_at_ms))
        if self.expires_at_ms is not None:
            out += (b'\x90\x01', _number(self.expires_at_ms))
        if self.leased_at_ms is not None:
            out += (b'\x98\x01', _number(self.leased_at_ms))
        if self.started_at_ms is not None:
            out += (b'\xa0\x01', _number(self.started_at_ms))
        if self.finished_at_ms is not None:
            out += (b'\xa8\x01', _number(self.finished_at_ms))
        if self.forget_at_ms is not None:
            out += (b'\xb0\x01', _number(self.forget_at_ms))
        if self.worker:
            value = self.worker.encode()
            size = len(value)
            out += (b'\xba\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.attempts:
            out += (b'\xc0\x01', _number(self.attempts))
        if self.attempts_max:
            out += (b'\xc8\x01', _number(self.attempts_max))
        if self.deliveries:
            out += (b'\xd0\x01', _number(self.deliveries))
        if self.progress is not None:
            value = self.progress.encode()
            size = len(value)
            out += (b'\xda\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        for a_task_error in self.errors:
            value = a_task_error.encode()
            size = len(value)
            out += (b'\xe2\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.result:
            value = self.result
            size = len(value)
            out += (b'\xea\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.result_content_type:
            value = self.result_content_type.encode()
            size = len(value)
            out += (b'\xf2\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.revoked_reason:
            value = self.revoked_reason.encode()
            size = len(value)
            out += (b'\xfa\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.cancel_requested:
            out += (b'\x80\x02', _number(self.cancel_requested))
        if self.actor:
            value = self.actor.encode()
            size = len(value)
            out += (b'\x8a\x02', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.payload:
            value = self.payload
            size = len(value)
            out += (b'\x92\x02', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.content_type:
            value = self.content_type.encode()
            size = len(value)
            out += (b'\x9a\x02', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.payload_left_out:
            out += (b'\xa0\x02', _number(self.payload_left_out))
        if self.cancel_requested_at_ms is not None:
            out += (b'\xa8\x02', _number(self.cancel_requested_at_ms))
        if self.deliveries_max:
            out += (b'\xb0\x02', _number(self.deliveries_max))
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> TaskInfo:
        return _read_task_info(data, at, end)


def _read_task_info(data: bytes, at: int, end: int) -> TaskInfo:
    m = _new(TaskInfo)
    m.id = ""
    m.state = 0
    m.generation = 0
    m.version = 0
    m.name = ""
    m.queue = ""
    m.shadow = ""
    m.priority = 0
    m.headers = {}
    m.tags = []
    m.root_id = ""
    m.parent_id = ""
    m.waiting_for = 0
    m.submitted_at_ms = 0
    m.eta_at_ms = None
    m.expires_at_ms = None
    m.leased_at_ms = None
    m.started_at_ms = None
    m.finished_at_ms = None
    m.forget_at_ms = None
    m.worker = ""
    m.attempts = 0
    m.attempts_max = 0
    m.deliveries = 0
    m.progress = None
    m.errors = []
    m.result = b""
    m.result_content_type = ""
    m.revoked_reason = ""
    m.cancel_requested = False
    m.actor = ""
    m.payload = b""
    m.content_type = ""
    m.payload_left_out = False
    m.cancel_requested_at_ms = None
    m.deliveries_max = 0
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 16:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed32(value)
            m.state = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 24:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.generation = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 32:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.version = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 42:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.name = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 50:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.queue = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 58:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.shadow = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 64:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.priority = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        while key == 74:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            name, item = _read_entry(data, at, stop)
            m.headers[name] = item
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        while key == 82:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.tags.append(data[at:stop].decode())
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key == 90:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.root_id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 98:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.parent_id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 104:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed32(value)
            m.waiting_for = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 128:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.submitted_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 136:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.eta_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 144:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.expires_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 152:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.leased_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 160:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.started_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 168:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.finished_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 176:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.forget_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 186:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.worker = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 192:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.attempts = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 200:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.attempts_max = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 208:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.deliveries = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 218:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.progress = Progress.read(data, at, stop)
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        while key == 226:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.errors.append(TaskError.read(data, at, stop))
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key == 234:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.result = data[at:stop]
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 242:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.result_content_type = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 250:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.revoked_reason = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 256:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.cancel_requested = value != 0
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 266:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.actor = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 274:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.payload = data[at:stop]
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 282:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.content_type = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 288:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.payload_left_out = value != 0
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 296:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.cancel_requested_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 304:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.deliveries_max = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key not in _TASK_INFO_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_TASK_INFO_KNOWN = frozenset((
    10, 16, 24, 32, 42, 50, 58, 64, 74, 82, 90, 98, 104, 128, 136, 144, 152, 160, 168, 176, 186,
    192, 200, 208, 218, 226, 234, 242, 250, 256, 266, 274, 282, 288, 296, 304,
))


class Get(Message):
    """Asks for the present state of each id, in order; UNKNOWN for an id that does not exist."""

    __slots__: tuple[str, ...] = ("ids", "with_results", "with_payloads",)
    FIELDS = (
        (1, "ids", "string", "repeated"),
        (2, "with_results", "bool", ""),
        (3, "with_payloads", "bool", ""),
    )

    def __init__(
        self,
        *,
        ids: list[str] | None = None,
        with_results: bool = False,
        with_payloads: bool = False,
    ) -> None:
        self.ids = [] if ids is None else ids
        self.with_results: bool = with_results
        self.with_payloads: bool = with_payloads


class GetReply(Message):
    """The answer to a Get."""

    __slots__: tuple[str, ...] = ("tasks", "left_out",)
    FIELDS = (
        (1, "tasks", "TaskInfo", "repeated"),
        (2, "left_out", "uint32", "repeated"),
    )

    def __init__(
        self,
        *,
        tasks: list[TaskInfo] | None = None,
        left_out: list[int] | None = None,
    ) -> None:
        self.tasks = [] if tasks is None else tasks
        self.left_out = [] if left_out is None else left_out


class Wait(Message):
    """Waits until tasks have reached a state."""

    __slots__: tuple[str, ...] = ("ids", "mode", "until", "with_results",)
    FIELDS = (
        (1, "ids", "string", "repeated"),
        (2, "mode", "enum", ""),
        (3, "until", "enum", ""),
        (4, "with_results", "bool", ""),
    )

    def __init__(
        self,
        *,
        ids: list[str] | None = None,
        mode: int = 0,
        until: int = 0,
        with_results: bool = False,
    ) -> None:
        self.ids = [] if ids is None else ids
        self.mode: int = mode
        self.until: int = until
        self.with_results: bool = with_results


class WaitReply(Message):
    """The answer to a Wait."""

    __slots__: tuple[str, ...] = ("satisfied", "tasks", "left_out",)
    FIELDS = (
        (1, "satisfied", "bool", ""),
        (2, "tasks", "TaskInfo", "repeated"),
        (3, "left_out", "uint32", "repeated"),
    )

    def __init__(
        self,
        *,
        satisfied: bool = False,
        tasks: list[TaskInfo] | None = None,
        left_out: list[int] | None = None,
    ) -> None:
        self.satisfied: bool = satisfied
        self.tasks = [] if tasks is None else tasks
        self.left_out = [] if left_out is None else left_out


class Unwait(Message):
    """Ends Waits of this connection before their time."""

    __slots__: tuple[str, ...] = ("request_ids",)
    FIELDS = (
        (1, "request_ids", "uint64", "repeated"),
    )

    def __init__(
        self,
        *,
        request_ids: list[int] | None = None,
    ) -> None:
        self.request_ids = [] if request_ids is None else request_ids


class Watch(Message):
    """Subscribes to the transitions of these ids:"""

    __slots__: tuple[str, ...] = ("ids", "with_results",)
    FIELDS = (
        (1, "ids", "string", "repeated"),
        (2, "with_results", "bool", ""),
    )

    def __init__(
        self,
        *,
        ids: list[str] | None = None,
        with_results: bool = False,
    ) -> None:
        self.ids = [] if ids is None else ids
        self.with_results: bool = with_results


class WatchReply(Message):
    """The answer to a Watch."""

    __slots__: tuple[str, ...] = ("watch_id", "tasks", "left_out",)
    FIELDS = (
        (1, "watch_id", "uint64", ""),
        (2, "tasks", "TaskInfo", "repeated"),
        (3, "left_out", "uint32", "repeated"),
    )

    def __init__(
        self,
        *,
        watch_id: int = 0,
        tasks: list[TaskInfo] | None = None,
        left_out: list[int] | None = None,
    ) -> None:
        self.watch_id: int = watch_id
        self.tasks = [] if tasks is None else tasks
        self.left_out = [] if left_out is None else left_out


class Unwatch(Message):
    """Ends a watch of this connection."""

    __slots__: tuple[str, ...] = ("watch_id",)
    FIELDS = (
        (1, "watch_id", "uint64", ""),
    )

    def __init__(
        self,
        *,
        watch_id: int = 0,
    ) -> None:
        self.watch_id: int = watch_id


class Transition(Message):
    """Pushed for a watch:"""

    __slots__: tuple[str, ...] = ("watch_id", "task",)
    FIELDS = (
        (1, "watch_id", "uint64", ""),
        (2, "task", "TaskInfo", ""),
    )

    def __init__(
        self,
        *,
        watch_id: int = 0,
        task: TaskInfo | None = None,
    ) -> None:
        self.watch_id: int = watch_id
        self.task: TaskInfo | None = task


class Forget(Message):
    """Drops ended tasks and their results before their time."""

    __slots__: tuple[str, ...] = ("ids",)
    FIELDS = (
        (1, "ids", "string", "repeated"),
    )

    def __init__(
        self,
        *,
        ids: list[str] | None = None,
    ) -> None:
        self.ids = [] if ids is None else ids


class ForgetReply(Message):
    """The answer to a Forget."""

    __slots__: tuple[str, ...] = ("outcomes",)
    FIELDS = (
        (1, "outcomes", "enum", "repeated"),
    )

    def __init__(
        self,
        *,
        outcomes: list[int] | None = None,
    ) -> None:
        self.outcomes = [] if outcomes is None else outcomes


class Cancel(Message):
    """Revokes waiting tasks, and asks the workers of running tasks to stop them."""

    __slots__: tuple[str, ...] = ("ids", "root_id", "tag", "mode", "grace_ms", "reason",)
    FIELDS = (
        (1, "ids", "string", "repeated"),
        (2, "root_id", "string", ""),
        (3, "tag", "string", ""),
        (4, "mode", "enum", ""),
        (5, "grace_ms", "uint64", "optional"),
        (6, "reason", "string", ""),
    )

    def __init__(
        self,
        *,
        ids: list[str] | None = None,
        root_id: str = "",
        tag: str = "",
        mode: int = 0,
        grace_ms: int | None = None,
        reason: str = "",
    ) -> None:
        self.ids = [] if ids is None else ids
        self.root_id: str = root_id
        self.tag: str = tag
        self.mode: int = mode
        self.grace_ms: int | None = grace_ms
        self.reason: str = reason


class CancelReply(Message):
    """The answer to a Cancel:"""

    __slots__: tuple[str, ...] = ("outcomes",)
    FIELDS = (
        (1, "outcomes", "CancelOutcome", "repeated"),
    )

    def __init__(
        self,
        *,
        outcomes: list[CancelOutcome] | None = None,
    ) -> None:
        self.outcomes = [] if outcomes is None else outcomes


class CancelOutcome(Message):
    """The outcome of a Cancel for one task."""

    __slots__: tuple[str, ...] = ("id", "kind",)
    FIELDS = (
        (1, "id", "string", ""),
        (2, "kind", "enum", ""),
    )

    def __init__(
        self,
        *,
        id: str = "",
        kind: int = 0,
    ) -> None:
        self.id: str = id
        self.kind: int = kind


class Credit(Message):
    """How many leases the session may hold at once."""

    __slots__: tuple[str, ...] = ("credit",)
    FIELDS = (
        (1, "credit", "uint32", ""),
    )

    def __init__(
        self,
        *,
        credit: int = 0,
    ) -> None:
        self.credit: int = credit


class Take(Message):
    """Asks for ready tasks of one queue now, whatever the credit, the queues and the names of
    the worker."""

    __slots__: tuple[str, ...] = ("queue", "count",)
    FIELDS = (
        (1, "queue", "string", ""),
        (2, "count", "uint32", ""),
    )

    def __init__(
        self,
        *,
        queue: str = "",
        count: int = 0,
    ) -> None:
        self.queue: str = queue
        self.count: int = count


class Deliver(Message):
    """Pushed to a worker:"""

    __slots__: tuple[str, ...] = ("deliveries",)

    def __init__(
        self,
        *,
        deliveries: list[Delivery] | None = None,
    ) -> None:
        self.deliveries = [] if deliveries is None else deliveries

    def encode(self) -> bytes:
        out: list[bytes] = []
        for a_delivery in self.deliveries:
            value = a_delivery.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> Deliver:
        return _read_deliver(data, at, end)


def _read_deliver(data: bytes, at: int, end: int) -> Deliver:
    m = _new(Deliver)
    m.deliveries = []
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        while key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.deliveries.append(_read_delivery(data, at, stop))
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key not in _DELIVER_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_DELIVER_KNOWN = frozenset((10,))


class Delivery(Message):
    """One task, leased to this session."""

    __slots__: tuple[str, ...] = (
        "id", "lease", "name", "queue", "payload", "content_type", "headers", "shadow", "priority",
        "attempt", "attempts_max", "deliveries", "generation", "submitted_at_ms", "eta_at_ms",
        "expires_at_ms", "soft_time_limit_ms", "time_limit_ms", "root_id", "parent_id", "tags",
        "report_start", "redelivered", "revoked_reason",
    )

    def __init__(
        self,
        *,
        id: str = "",
        lease: int = 0,
        name: str = "",
        queue: str = "",
        payload: bytes = b"",
        content_type: str = "",
        headers: dict[str, bytes] | None = None,
        shadow: str = "",
        priority: int = 0,
        attempt: int = 0,
        attempts_max: int = 0,
        deliveries: int = 0,
        generation: int = 0,
        submitted_at_ms: int = 0,
        eta_at_ms: int | None = None,
        expires_at_ms: int | None = None,
        soft_time_limit_ms: int | None = None,
        time_limit_ms: int | None = None,
        root_id: str = "",
        parent_id: str = "",
        tags: list[str] | None = None,
        report_start: bool = False,
        redelivered: bool = False,
        revoked_reason: str = "",
    ) -> None:
        self.id: str = id
        self.lease: int = lease
        self.name: str = name
        self.queue: str = queue
        self.payload: bytes = payload
        self.content_type: str = content_type
        self.headers = {} if headers is None else headers
        self.shadow: str = shadow
        self.priority: int = priority
        self.attempt: int = attempt
        self.attempts_max: int = attempts_max
        self.deliveries: int = deliveries
        self.generation: int = generation
        self.submitted_at_ms: int = submitted_at_ms
        self.eta_at_ms: int | None = eta_at_ms
        self.expires_at_ms: int | None = expires_at_ms
        self.soft_time_limit_ms: int | None = soft_time_limit_ms
        self.time_limit_ms: int | None = time_limit_ms
        self.root_id: str = root_id
        self.parent_id: str = parent_id
        self.tags = [] if tags is None else tags
        self.report_start: bool = report_start
        self.redelivered: bool = redelivered
        self.revoked_reason: str = revoked_reason

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.id:
            value = self.id.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.lease:
            out += (b'\x10', _number(self.lease))
        if self.name:
            value = self.name.encode()
            size = len(value)
            out += (b'\x1a', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.queue:
            value = self.queue.encode()
            size = len(value)
            out += (b'"', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.payload:
            value = self.payload
            size = len(value)
            out += (b'*', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.content_type:
            value = self.content_type.encode()
            size = len(value)
            out += (b'2', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        for key, item in self.headers.items():
            value = key.encode()
            entry = item
            both = (b'\n', _number(len(value)), value, b'\x12', _number(len(entry)), entry)
            value = b''.join(both)
            size = len(value)
            out += (b':', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.shadow:
            value = self.shadow.encode()
            size = len(value)
            out += (b'B', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.priority:
            out += (b'H', _number(self.priority))
        if self.attempt:
            out += (b'P', _number(self.attempt))
        if self.attempts_max:
            out += (b'X', _number(self.attempts_max))
        if self.deliveries:
            out += (b'`', _number(self.deliveries))
        if self.generation:
            out += (b'h', _number(self.generation))
        if self.submitted_at_ms:
            out += (b'p', _number(self.submitted_at_ms))
        if self.eta_at_ms is not None:
            out += (b'x', _number(self.eta_at_ms))
        if self.expires_at_ms is not None:
            out += (b'\x80\x01', _number(self.expires_at_ms))
        if self.soft_time_limit_ms is not None:
            out += (b'\x88\x01', _number(self.soft_time_limit_ms))
        if self.time_limit_ms is not None:
            out += (b'\x90\x01', _number(self.time_limit_ms))
        if self.root_id:
            value = self.root_id.encode()
            size = len(value)
            out += (b'\x9a\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.parent_id:
            value = self.parent_id.encode()
            size = len(value)
            out += (b'\xa2\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        for a_string in self.tags:
            value = a_string.encode()
            size = len(value)
            out += (b'\xaa\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.report_start:
            out += (b'\xb0\x01', _number(self.report_start))
        if self.redelivered:
            out += (b'\xb8\x01', _number(self.redelivered))
        if self.revoked_reason:
            value = self.revoked_reason.encode()
            size = len(value)
            out += (b'\xc2\x01', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> Delivery:
        return _read_delivery(data, at, end)


def _read_delivery(data: bytes, at: int, end: int) -> Delivery:
    m = _new(Delivery)
    m.id = ""
    m.lease = 0
    m.name = ""
    m.queue = ""
    m.payload = b""
    m.content_type = ""
    m.headers = {}
    m.shadow = ""
    m.priority = 0
    m.attempt = 0
    m.attempts_max = 0
    m.deliveries = 0
    m.generation = 0
    m.submitted_at_ms = 0
    m.eta_at_ms = None
    m.expires_at_ms = None
    m.soft_time_limit_ms = None
    m.time_limit_ms = None
    m.root_id = ""
    m.parent_id = ""
    m.tags = []
    m.report_start = False
    m.redelivered = False
    m.revoked_reason = ""
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 16:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.lease = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 26:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.name = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 34:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.queue = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 42:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.payload = data[at:stop]
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 50:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.content_type = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        while key == 58:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            name, item = _read_entry(data, at, stop)
            m.headers[name] = item
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key == 66:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.shadow = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 72:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.priority = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 80:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.attempt = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 88:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.attempts_max = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 96:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.deliveries = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 104:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value &= _MASK32
            m.generation = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 112:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.submitted_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 120:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.eta_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 128:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed64(value)
            m.expires_at_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 136:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.soft_time_limit_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 144:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.time_limit_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 154:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.root_id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 162:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.parent_id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        while key == 170:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.tags.append(data[at:stop].decode())
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key == 176:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.report_start = value != 0
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 184:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.redelivered = value != 0
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 194:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.revoked_reason = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key not in _DELIVERY_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_DELIVERY_KNOWN = frozenset((
    10, 16, 26, 34, 42, 50, 58, 66, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 154, 162, 170,
    176, 184, 194,
))


class Report(Message):
    """Reports of a worker, 1 to batch_items_max."""

    __slots__: tuple[str, ...] = ("reports",)

    def __init__(
        self,
        *,
        reports: list[TaskReport] | None = None,
    ) -> None:
        self.reports = [] if reports is None else reports

    def encode(self) -> bytes:
        out: list[bytes] = []
        for a_task_report in self.reports:
            value = a_task_report.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> Report:
        return _read_report(data, at, end)


def _read_report(data: bytes, at: int, end: int) -> Report:
    m = _new(Report)
    m.reports = []
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        while key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.reports.append(_read_task_report(data, at, stop))
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key not in _REPORT_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_REPORT_KNOWN = frozenset((10,))


class TaskReport(Message):
    """The report about one lease."""

    __slots__: tuple[str, ...] = ("id", "lease", "report",)

    def __init__(
        self,
        *,
        id: str = "",
        lease: int = 0,
        report: (
            Started
            | ProgressReport
            | Complete
            | Fail
            | RetryLater
            | Release
            | Reject
            | Settle
            | None
        ) = None,
    ) -> None:
        self.id: str = id
        self.lease: int = lease
        self.report = report

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.id:
            value = self.id.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.lease:
            out += (b'\x10', _number(self.lease))
        if self.report is not None:
            key = _TASK_REPORT_REPORT_KEYS[type(self.report)]
            value = self.report.encode()
            out += (key, _number(len(value)), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> TaskReport:
        return _read_task_report(data, at, end)


def _read_task_report(data: bytes, at: int, end: int) -> TaskReport:
    m = _new(TaskReport)
    m.id = ""
    m.lease = 0
    m.report = None
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.id = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 16:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.lease = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        read = _TASK_REPORT_REPORT_READERS.get(key)
        if read is not None:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.report = read(data, at, stop)
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        elif key not in _TASK_REPORT_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_TASK_REPORT_KNOWN = frozenset((10, 16,))


class Started(Message):
    """The handler has begun."""

    __slots__: tuple[str, ...] = ()


class Settle(Message):
    """The handler has begun, as with Started, and from now on the task never runs again,
    however its run ends:"""

    __slots__: tuple[str, ...] = ()


class ProgressReport(Message):
    """The progress of the handler."""

    __slots__: tuple[str, ...] = ("state", "meta",)
    FIELDS = (
        (1, "state", "string", ""),
        (2, "meta", "bytes", ""),
    )

    def __init__(
        self,
        *,
        state: str = "",
        meta: bytes = b"",
    ) -> None:
        self.state: str = state
        self.meta: bytes = meta


class Complete(Message):
    """The handler returned:"""

    __slots__: tuple[str, ...] = ("result", "content_type", "result_ttl_ms",)

    def __init__(
        self,
        *,
        result: bytes = b"",
        content_type: str = "",
        result_ttl_ms: int | None = None,
    ) -> None:
        self.result: bytes = result
        self.content_type: str = content_type
        self.result_ttl_ms: int | None = result_ttl_ms

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.result:
            value = self.result
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.content_type:
            value = self.content_type.encode()
            size = len(value)
            out += (b'\x12', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        if self.result_ttl_ms is not None:
            out += (b'\x18', _number(self.result_ttl_ms))
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> Complete:
        return _read_complete(data, at, end)


def _read_complete(data: bytes, at: int, end: int) -> Complete:
    m = _new(Complete)
    m.result = b""
    m.content_type = ""
    m.result_ttl_ms = None
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.result = data[at:stop]
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 18:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.content_type = data[at:stop].decode()
            at = stop
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 24:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
            m.result_ttl_ms = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key not in _COMPLETE_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_COMPLETE_KNOWN = frozenset((10, 18, 24,))


class Fail(Message):
    """The handler failed."""

    __slots__: tuple[str, ...] = ("error", "final", "result", "content_type", "result_ttl_ms",)
    FIELDS = (
        (1, "error", "TaskError", ""),
        (2, "final", "bool", ""),
        (3, "result", "bytes", ""),
        (4, "content_type", "string", ""),
        (5, "result_ttl_ms", "uint64", "optional"),
    )

    def __init__(
        self,
        *,
        error: TaskError | None = None,
        final: bool = False,
        result: bytes = b"",
        content_type: str = "",
        result_ttl_ms: int | None = None,
    ) -> None:
        self.error: TaskError | None = error
        self.final: bool = final
        self.result: bytes = result
        self.content_type: str = content_type
        self.result_ttl_ms: int | None = result_ttl_ms


class RetryLater(Message):
    """The handler asks for another attempt, after this span, or by the task's retry policy when
    it is not set."""

    __slots__: tuple[str, ...] = ("after_ms", "error",)
    FIELDS = (
        (1, "after_ms", "uint64", "optional"),
        (2, "error", "TaskError", ""),
    )

    def __init__(
        self,
        *,
        after_ms: int | None = None,
        error: TaskError | None = None,
    ) -> None:
        self.after_ms: int | None = after_ms
        self.error: TaskError | None = error


class Release(Message):
    """The worker hands the task back unfinished."""

    __slots__: tuple[str, ...] = ("not_begun", "lost",)
    FIELDS = (
        (1, "not_begun", "bool", ""),
        (2, "lost", "bool", ""),
    )

    def __init__(
        self,
        *,
        not_begun: bool = False,
        lost: bool = False,
    ) -> None:
        self.not_begun: bool = not_begun
        self.lost: bool = lost


class Reject(Message):
    """The task ends as FAILURE at once, however many attempts are left."""

    __slots__: tuple[str, ...] = ("error",)
    FIELDS = (
        (1, "error", "TaskError", ""),
    )

    def __init__(
        self,
        *,
        error: TaskError | None = None,
    ) -> None:
        self.error: TaskError | None = error


class ReportReply(Message):
    """One outcome for each report, in the order of the request."""

    __slots__: tuple[str, ...] = ("outcomes",)

    def __init__(
        self,
        *,
        outcomes: list[ReportOutcome] | None = None,
    ) -> None:
        self.outcomes = [] if outcomes is None else outcomes

    def encode(self) -> bytes:
        out: list[bytes] = []
        for a_report_outcome in self.outcomes:
            value = a_report_outcome.encode()
            size = len(value)
            out += (b'\n', _TABLE[size] if size < _TABLE_SIZE else _number(size), value)
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> ReportReply:
        return _read_report_reply(data, at, end)


def _read_report_reply(data: bytes, at: int, end: int) -> ReportReply:
    m = _new(ReportReply)
    m.outcomes = []
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        while key == 10:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _long(data, at, size)
            stop = at + size
            m.outcomes.append(_read_report_outcome(data, at, stop))
            at = stop
            if at >= end:
                key = 0
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if not key:
            break
        if key not in _REPORT_REPLY_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_REPORT_REPLY_KNOWN = frozenset((10,))


class ReportOutcome(Message):
    """The outcome of one report."""

    __slots__: tuple[str, ...] = ("code", "state",)

    def __init__(
        self,
        *,
        code: int = 0,
        state: int = 0,
    ) -> None:
        self.code: int = code
        self.state: int = state

    def encode(self) -> bytes:
        out: list[bytes] = []
        if self.code:
            out += (b'\x08', _number(self.code))
        if self.state:
            out += (b'\x10', _number(self.state))
        return b"".join(out)

    @classmethod
    def read(cls, data: bytes, at: int, end: int) -> ReportOutcome:
        return _read_report_outcome(data, at, end)


def _read_report_outcome(data: bytes, at: int, end: int) -> ReportOutcome:
    m = _new(ReportOutcome)
    m.code = 0
    m.state = 0
    if at >= end:
        if at > end:
            raise DecodeError('a field is cut short')
        return m
    key = data[at]
    at += 1
    if key > 127:
        key, at = _long(data, at, key)
    while True:
        if key == 8:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed32(value)
            m.code = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key == 16:
            value = data[at]
            at += 1
            if value > 127:
                value, at = _long(data, at, value)
                value = _signed32(value)
            m.state = value
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
        if key not in _REPORT_OUTCOME_KNOWN:
            at = _skip(data, at, key)
            if at >= end:
                break
            key = data[at]
            at += 1
            if key > 127:
                key, at = _long(data, at, key)
    if at != end:
        raise DecodeError("a field is cut short")
    return m


_REPORT_OUTCOME_KNOWN = frozenset((8, 16,))


class CancelSignal(Message):
    """Pushed to a worker:"""

    __slots__: tuple[str, ...] = ("leases", "kind", "reason",)
    FIELDS = (
        (1, "leases", "uint64", "repeated"),
        (2, "kind", "enum", ""),
        (3, "reason", "string", ""),
    )

    def __init__(
        self,
        *,
        leases: list[int] | None = None,
        kind: int = 0,
        reason: str = "",
    ) -> None:
        self.leases = [] if leases is None else leases
        self.kind: int = kind
        self.reason: str = reason


class Order(Message):
    """Pushed to a worker:"""

    __slots__: tuple[str, ...] = ("kind",)
    FIELDS = (
        (1, "kind", "enum", ""),
    )

    def __init__(
        self,
        *,
        kind: int = 0,
    ) -> None:
        self.kind: int = kind


def _read_entry(data: bytes, at: int, end: int) -> tuple[str, bytes]:
    name, item = "", b""
    while at < end:
        key, at = _long(data, at + 1, data[at]) if data[at] > 127 else (data[at], at + 1)
        if key not in (10, 18):
            at = _skip(data, at, key)
            continue
        size, at = _long(data, at + 1, data[at]) if data[at] > 127 else (data[at], at + 1)
        if key == 10:
            name = str(data[at:at + size], "utf-8")
        else:
            item = data[at:at + size]
        at += size
    if at != end:
        raise DecodeError("an entry of a map is cut short")
    return name, item

_CLIENT_FRAME_BODY_KEYS: dict[type[Message], bytes] = {
    Hello: b'\x82\x01',
    Goodbye: b'\x8a\x01',
    Heartbeat: b'\x92\x01',
    Submit: b'\x82\x02',
    Cancel: b'\x8a\x02',
    Forget: b'\x92\x02',
    Get: b'\x9a\x02',
    Wait: b'\xa2\x02',
    Watch: b'\xaa\x02',
    Unwatch: b'\xb2\x02',
    Unwait: b'\xba\x02',
    Credit: b'\x82\x03',
    Report: b'\x8a\x03',
    Serve: b'\x92\x03',
    Take: b'\x9a\x03',
    PutOutcome: b'\xe2\x03',
    ChordPart: b'\xea\x03',
    ChordExtend: b'\xf2\x03',
    ChordDone: b'\xfa\x03',
    ListQueues: b'\x82\x04',
    ConfigureQueue: b'\x8a\x04',
    PauseQueues: b'\x92\x04',
    PurgeQueue: b'\x9a\x04',
    DeleteQueue: b'\xa2\x04',
    ListTasks: b'\xaa\x04',
    ReplayDead: b'\xb2\x04',
    DiscardDead: b'\xba\x04',
    ListWorkers: b'\xc2\x04',
    OrderWorkers: b'\xca\x04',
    Backup: b'\xd2\x04',
    DeclareQueue: b'\xda\x04',
    Info: b'\xe2\x04',
    Drain: b'\xea\x04',
    LogFilter: b'\xf2\x04',
    Stats: b'\xfa\x04',
    DeclareMailbox: b'\x82\x05',
    DeleteMailbox: b'\x8a\x05',
    PurgeMailbox: b'\x92\x05',
    Consume: b'\x9a\x05',
    Unconsume: b'\xa2\x05',
    FetchMail: b'\xaa\x05',
    AckMail: b'\xb2\x05',
    PutBackMail: b'\xba\x05',
    Publish: b'\xc2\x05',
    DeclareExchange: b'\xca\x05',
    DeleteExchange: b'\xd2\x05',
    Bind: b'\xda\x05',
    Unbind: b'\xe2\x05',
    ListMailboxes: b'\xea\x05',
    ListBindings: b'\xf2\x05',
}
_CLIENT_FRAME_BODY_READERS: dict[int, Callable[[bytes, int, int], Any]] = {
    130: Hello.read,
    138: Goodbye.read,
    146: Heartbeat.read,
    258: Submit.read,
    266: Cancel.read,
    274: Forget.read,
    282: Get.read,
    290: Wait.read,
    298: Watch.read,
    306: Unwatch.read,
    314: Unwait.read,
    386: Credit.read,
    394: Report.read,
    402: Serve.read,
    410: Take.read,
    482: PutOutcome.read,
    490: ChordPart.read,
    498: ChordExtend.read,
    506: ChordDone.read,
    514: ListQueues.read,
    522: ConfigureQueue.read,
    530: PauseQueues.read,
    538: PurgeQueue.read,
    546: DeleteQueue.read,
    554: ListTasks.read,
    562: ReplayDead.read,
    570: DiscardDead.read,
    578: ListWorkers.read,
    586: OrderWorkers.read,
    594: Backup.read,
    602: DeclareQueue.read,
    610: Info.read,
    618: Drain.read,
    626: LogFilter.read,
    634: Stats.read,
    642: DeclareMailbox.read,
    650: DeleteMailbox.read,
    658: PurgeMailbox.read,
    666: Consume.read,
    674: Unconsume.read,
    682: FetchMail.read,
    690: AckMail.read,
    698: PutBackMail.read,
    706: Publish.read,
    714: DeclareExchange.read,
    722: DeleteExchange.read,
    730: Bind.read,
    738: Unbind.read,
    746: ListMailboxes.read,
    754: ListBindings.read,
}

_SERVER_FRAME_BODY_KEYS: dict[type[Message], bytes] = {
    Welcome: b'\x82\x01',
    Error: b'\x8a\x01',
    Done: b'\x92\x01',
    HeartbeatReply: b'\x9a\x01',
    SubmitReply: b'\x82\x02',
    CancelReply: b'\x8a\x02',
    ForgetReply: b'\x92\x02',
    GetReply: b'\x9a\x02',
    WaitReply: b'\xa2\x02',
    WatchReply: b'\xaa\x02',
    ReportReply: b'\x8a\x03',
    PutOutcomeReply: b'\xe2\x03',
    ChordReply: b'\xea\x03',
    QueueList: b'\x82\x04',
    CountReply: b'\x9a\x04',
    TaskPage: b'\xaa\x04',
    WorkerList: b'\xc2\x04',
    BackupReply: b'\xd2\x04',
    DeclareQueueReply: b'\xda\x04',
    BrokerInfo: b'\xe2\x04',
    LogFilterReply: b'\xf2\x04',
    StatsReply: b'\xfa\x04',
    MailboxReply: b'\x82\x05',
    ConsumeReply: b'\x9a\x05',
    FetchMailReply: b'\xaa\x05',
    MailboxList: b'\xea\x05',
    BindingList: b'\xf2\x05',
    Deliver: b'\x82\x08',
    CancelSignal: b'\x8a\x08',
    Order: b'\x92\x08',
    Transition: b'\x9a\x08',
    Closing: b'\xaa\x08',
    Mail: b'\xb2\x08',
    ConsumerEnded: b'\xba\x08',
}
_SERVER_FRAME_BODY_READERS: dict[int, Callable[[bytes, int, int], Any]] = {
    130: Welcome.read,
    138: Error.read,
    146: Done.read,
    154: HeartbeatReply.read,
    258: SubmitReply.read,
    266: CancelReply.read,
    274: ForgetReply.read,
    282: GetReply.read,
    290: WaitReply.read,
    298: WatchReply.read,
    394: ReportReply.read,
    482: PutOutcomeReply.read,
    490: ChordReply.read,
    514: QueueList.read,
    538: CountReply.read,
    554: TaskPage.read,
    578: WorkerList.read,
    594: BackupReply.read,
    602: DeclareQueueReply.read,
    610: BrokerInfo.read,
    626: LogFilterReply.read,
    634: StatsReply.read,
    642: MailboxReply.read,
    666: ConsumeReply.read,
    682: FetchMailReply.read,
    746: MailboxList.read,
    754: BindingList.read,
    1026: Deliver.read,
    1034: CancelSignal.read,
    1042: Order.read,
    1050: Transition.read,
    1066: Closing.read,
    1074: Mail.read,
    1082: ConsumerEnded.read,
}

_TASK_REPORT_REPORT_KEYS: dict[type[Message], bytes] = {
    Started: b'\x1a',
    ProgressReport: b'"',
    Complete: b'*',
    Fail: b'2',
    RetryLater: b':',
    Release: b'B',
    Reject: b'J',
    Settle: b'R',
}
_TASK_REPORT_REPORT_READERS: dict[int, Callable[[bytes, int, int], Any]] = {
    26: Started.read,
    34: ProgressReport.read,
    42: Complete.read,
    50: Fail.read,
    58: RetryLater.read,
    66: Release.read,
    74: Reject.read,
    82: Settle.read,
}
