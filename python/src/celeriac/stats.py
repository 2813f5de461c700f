"""The counters of the broker and of its queues, for monitors that ask every few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celeriac import _codec, _values
from celeriac.listing import DataUsage, usage_of


@dataclass(frozen=True, slots=True)
class Histogram:
    """Spans in buckets."""

    bounds: tuple[timedelta, ...]
    """The upper bounds of the buckets, rising."""
    counts: tuple[int, ...]
    """The number of spans in each bucket, not those of the buckets before it; the last number is of
    the spans above all bounds."""
    sum: timedelta
    """The spans together."""

    @property
    def count(self) -> int:
        """The number of all spans."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounters:
    """What has happened in a queue since the broker's start, or since the queue was made anew.
    These numbers never fall."""

    submitted: int
    """Tasks that were submitted or replayed."""
    succeeded: int
    failed: int
    revoked: int
    retried: int
    """Runs that failed and whose tasks waited for another attempt."""
    deliveries: int
    """Leases that workers got."""
    requeued_worker_lost: int
    """Tasks that went back to their queue without an outcome, like the next two."""
    requeued_released: int
    requeued_taken_back: int
    wait: Histogram
    """How long tasks were ready before a worker got them."""
    run: Histogram
    """How long handlers ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """The figures of one queue."""

    name: str
    paused: bool
    scheduled: int
    """Tasks that are SCHEDULED or RETRY."""
    ready: int
    """Tasks that are QUEUED."""
    leased: int
    """Tasks that a worker holds and has not begun."""
    started: int
    dead: int
    """Tasks that ended as FAILURE and are kept."""
    oldest_ready_at: datetime | None
    """Since when the oldest ready task is ready."""
    bytes: int
    """Payloads of tasks that have not ended."""
    workers: int
    """Connected workers that serve this queue."""
    slots_busy: int
    """Handlers that those workers run at once, like the next number."""
    slots_free: int
    waiting_paused: int
    """Ready tasks that wait because the queue is paused."""
    waiting_no_worker: int
    """Ready tasks that wait because no worker serves the queue."""
    counters: QueueCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStats:
    """The figures of the broker itself."""

    version: str
    started_at: datetime | None
    uptime: timedelta
    connections: int
    """Connections after Hello, those of workers included."""
    connections_before_hello: int
    connections_max: int
    workers: int
    workers_lost: int
    """Workers whose connection is lost. The broker keeps their leases for some time."""
    mailboxes: int
    tasks: int
    """Tasks that the broker knows, ended ones included."""
    draining: bool
    removed_queues: QueueCounters
    """The counters of queues that are gone: the sums over all queues and this never fall."""
    auth_failures: dict[str, int]
    """Connections that were not let in, by reason."""
    refused: dict[str, int]
    """Requests, and items of them, that were refused, by the name of their code."""
    commit: Histogram
    """How long the commits took that wrote something."""
    data: DataUsage | None
    """None where the system does not tell."""
    certificate_expires_at: datetime | None
    """None without TLS."""
    reloaded_at: datetime | None
    reload_failed: bool
    memory_bytes: int | None
    """Of the broker's process, like the next three; None where the system does not tell."""
    cpu: timedelta | None
    open_files: int | None
    open_files_max: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The counters of queues and of the broker itself."""

    at: datetime | None
    """When the broker took the figures, by its wall clock; of several pages, those of the first."""
    broker: BrokerStats | None
    """None for a client whose access has a scope."""
    queues: tuple[QueueStats, ...]
    """In order of name."""


def stats_of(pages: Sequence[_codec.StatsReply]) -> Stats:
    """What the pages of an answer tell."""
    bounds = tuple(_milliseconds(bound) for bound in pages[0].bounds_ms)
    broker = pages[0].broker
    return Stats(
        at=_values.time_of(pages[0].at_ms or None),
        broker=None if broker is None else _broker_of(broker, bounds),
        queues=tuple(_queue_of(each, bounds) for page in pages for each in page.queues),
    )


def _queue_of(wire: _codec.QueueStats, bounds: tuple[timedelta, ...]) -> QueueStats:
    return QueueStats(
        name=wire.name,
        paused=wire.paused,
        scheduled=wire.scheduled,
        ready=wire.ready,
        leased=wire.leased,
        started=wire.started,
        dead=wire.dead,
        oldest_ready_at=_values.time_of(wire.oldest_ready_at_ms),
        bytes=wire.bytes,
        workers=wire.workers,
        slots_busy=wire.slots_busy,
        slots_free=wire.slots_free,
        waiting_paused=wire.waiting_paused,
        waiting_no_worker=wire.waiting_no_worker,
        counters=_counters_of(wire.counters, bounds),
    )


def _counters_of(wire: _codec.QueueCounters | None, bounds: tuple[timedelta, ...]) -> QueueCounters:
    wire = wire or _codec.QueueCounters()
    return QueueCounters(
        submitted=wire.submitted_total,
        succeeded=wire.succeeded_total,
        failed=wire.failed_total,
        revoked=wire.revoked_total,
        retried=wire.retried_total,
        deliveries=wire.deliveries_total,
        requeued_worker_lost=wire.requeued_worker_lost_total,
        requeued_released=wire.requeued_released_total,
        requeued_taken_back=wire.requeued_taken_back_total,
        wait=_histogram_of(wire.wait, bounds, 1_000),
        run=_histogram_of(wire.run, bounds, 1_000),
    )


def _broker_of(wire: _codec.BrokerStats, bounds: tuple[timedelta, ...]) -> BrokerStats:
    auth = wire.auth_failures or _codec.AuthFailures()
    process = wire.process or _codec.ProcessStats()
    commit_bounds = tuple(_microseconds(bound) for bound in wire.commit_bounds_us)
    return BrokerStats(
        version=wire.server_version,
        started_at=_values.time_of(wire.started_at_ms or None),
        uptime=_milliseconds(wire.uptime_ms),
        connections=wire.connections,
        connections_before_hello=wire.connections_before_hello,
        connections_max=wire.connections_max,
        workers=wire.workers,
        workers_lost=wire.workers_lost,
        mailboxes=wire.mailboxes,
        tasks=wire.tasks,
        draining=wire.draining,
        removed_queues=_counters_of(wire.removed_queues, bounds),
        auth_failures={
            "token_missing": auth.token_missing_total,
            "token_wrong": auth.token_wrong_total,
            "certificate": auth.certificate_total,
            "handshake": auth.handshake_total,
        },
        refused={_code_name(each.code): each.total for each in wire.refused},
        commit=_histogram_of(wire.commit, commit_bounds, 1),
        data=None if wire.data is None else usage_of(wire.data),
        certificate_expires_at=_values.time_of(wire.certificate_expires_at_ms),
        reloaded_at=_values.time_of(wire.reloaded_at_ms or None),
        reload_failed=wire.reload_failed,
        memory_bytes=process.memory_bytes,
        cpu=None if process.cpu_us is None else _microseconds(process.cpu_us),
        open_files=process.open_files,
        open_files_max=process.open_files_max,
    )


def _histogram_of(
    wire: _codec.Histogram | None, bounds: tuple[timedelta, ...], microseconds: int
) -> Histogram:
    """A histogram whose sum is in a unit of so many microseconds. Without a number there is no span
    in any bucket."""
    counts = tuple(wire.counts) if wire is not None else ()
    total = _microseconds(wire.sum * microseconds) if wire is not None else timedelta(0)
    return Histogram(bounds, counts or (0,) * (len(bounds) + 1), total)


def _milliseconds(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=min(milliseconds, _values.SPAN_MS_MAX))


def _microseconds(microseconds: int) -> timedelta:
    return timedelta(microseconds=min(microseconds, _values.SPAN_MS_MAX * 1_000))


def _code_name(code: int) -> str:
    """The name of a code. A broker of a later release may send one that this package does not
    know."""
    try:
        return _codec.ErrorCode(code).name.lower()
    except ValueError:
        return str(code)
