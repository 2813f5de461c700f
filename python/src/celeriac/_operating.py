"""The flows of operators' requests. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from celeriac import _codec
from celeriac._flow import Flow, ask
from celeriac._values import key, keys, member, whole
from celeriac.errors import InvalidArgument
from celeriac.info import info_of
from celeriac.listing import (
    BackupDone,
    BrokerInfo,
    QueueInfo,
    QueueSettings,
    TaskFilter,
    TaskPage,
    WorkerOrder,
    WorkerStatus,
    broker_of,
    queue_of,
    worker_of,
)
from celeriac.stats import Stats, stats_of

Ids = Iterable[str] | str
PAGE_MAX = 1000
BACKUP_SECONDS = 24 * 3600.0
"""How long a backup may take by default: a slow disk needs hours for a terabyte."""


def broker_info() -> Callable[[float], Flow[BrokerInfo]]:
    """The broker itself."""

    def flow(deadline: float) -> Flow[BrokerInfo]:
        return broker_of((yield from ask(_codec.Info(), _codec.BrokerInfo, deadline)))

    return flow


def stats(names: Ids) -> Callable[[float], Flow[Stats]]:
    """The counters of these queues, or of all, and those of the broker."""
    wanted = keys("names", names)

    def flow(deadline: float) -> Flow[Stats]:
        pages: list[_codec.StatsReply] = []
        cursor = b""
        while True:
            body = _codec.Stats(queues=wanted, cursor=cursor)
            pages.append((yield from ask(body, _codec.StatsReply, deadline)))
            cursor = pages[-1].cursor
            if not cursor:
                return stats_of(pages)

    return flow


def queues(names: Ids) -> Callable[[float], Flow[list[QueueInfo]]]:
    """All pages of the listing of these queues, or of all."""
    wanted = keys("names", names)

    def flow(deadline: float) -> Flow[list[QueueInfo]]:
        found: list[QueueInfo] = []
        cursor = b""
        while True:
            body = _codec.ListQueues(queues=wanted, cursor=cursor)
            page = yield from ask(body, _codec.QueueList, deadline)
            found += [queue_of(each) for each in page.queues]
            cursor = page.cursor
            if not cursor:
                return found

    return flow


def configure_queue(name: str, settings: QueueSettings) -> Callable[[float], Flow[None]]:
    body = _codec.ConfigureQueue(queue=key("name", name), settings=settings.to_wire())
    return _order(body)


def pause(names: Ids, *, paused: bool) -> Callable[[float], Flow[None]]:
    return _order(_codec.PauseQueues(queues=keys("names", names), paused=paused))


def purge(name: str) -> Callable[[float], Flow[int]]:
    return _count(_codec.PurgeQueue(queue=key("name", name)))


def delete_queue(name: str) -> Callable[[float], Flow[int]]:
    return _count(_codec.DeleteQueue(queue=key("name", name)))


def task_page(
    selected: TaskFilter | None,
    limit: int,
    cursor: bytes,
    *,
    with_tracebacks: bool,
    newest_first: bool,
    just_ended: bool,
) -> Callable[[float], Flow[TaskPage]]:
    """One page of a listing of tasks."""
    body = _codec.ListTasks(
        filter=(selected or TaskFilter()).to_wire(),
        limit=whole("limit", limit, 1, PAGE_MAX) or PAGE_MAX,
        cursor=cursor,
        with_tracebacks=with_tracebacks,
        newest_first=newest_first,
        just_ended=just_ended,
    )

    def flow(deadline: float) -> Flow[TaskPage]:
        page = yield from ask(body, _codec.TaskPage, deadline)
        tasks = [info_of(each) for each in page.tasks]
        return TaskPage(
            tasks, page.cursor, page.newest_first, page.just_ended, page.looked, page.total
        )

    return flow


def replay(ids: Ids | None, selected: TaskFilter | None) -> Callable[[float], Flow[int]]:
    """Runs dead tasks again."""
    if (ids is None) == (selected is None):
        raise InvalidArgument("replay needs ids or a filter, and not both")
    if ids is not None:
        return _count(_codec.ReplayDead(ids=keys("ids", ids)))
    return _count(_codec.ReplayDead(filter=_wire(selected)))


def discard(
    ids: Ids | None, selected: TaskFilter | None, *, all_dead: bool
) -> Callable[[float], Flow[int]]:
    """Drops dead tasks."""
    if (ids is not None) + (selected is not None) + all_dead != 1:
        raise InvalidArgument("discard needs ids, a filter or all_dead, and one of them only")
    if ids is not None:
        return _count(_codec.DiscardDead(ids=keys("ids", ids)))
    if all_dead:
        return _count(_codec.DiscardDead(all=True))
    return _count(_codec.DiscardDead(filter=_wire(selected)))


def _wire(selected: TaskFilter | None) -> _codec.TaskFilter | None:
    return selected.to_wire() if selected is not None else None


def workers(*, with_tracebacks: bool) -> Callable[[float], Flow[list[WorkerStatus]]]:
    """All pages of the listing of workers."""

    def flow(deadline: float) -> Flow[list[WorkerStatus]]:
        found: list[WorkerStatus] = []
        cursor = b""
        while True:
            body = _codec.ListWorkers(cursor=cursor, with_tracebacks=with_tracebacks)
            page = yield from ask(body, _codec.WorkerList, deadline)
            found += [worker_of(each) for each in page.workers]
            cursor = page.cursor
            if not cursor:
                return found

    return flow


def order_workers(order: WorkerOrder | str, instance_ids: Ids) -> Callable[[float], Flow[int]]:
    kind = member("order", order, WorkerOrder)
    return _count(_codec.OrderWorkers(instance_ids=keys("instance_ids", instance_ids), order=kind))


def drain(*, draining: bool) -> Callable[[float], Flow[None]]:
    return _order(_codec.Drain(draining=draining))


def log_filter(new: str | None) -> Callable[[float], Flow[str]]:
    """The filter of the broker's log, or a new one."""
    if new is not None and not isinstance(new, str):
        raise InvalidArgument("filter must be a str, such as 'info,celeriac_broker=debug'")

    def flow(deadline: float) -> Flow[str]:
        reply = yield from ask(_codec.LogFilter(filter=new), _codec.LogFilterReply, deadline)
        return reply.filter

    return flow


def backup(folder: str) -> Callable[[float], Flow[BackupDone]]:
    """Copies the stored data on the broker's machine."""
    if not isinstance(folder, str) or not folder:
        raise InvalidArgument("folder must be an absolute path on the broker's machine")

    def flow(deadline: float) -> Flow[BackupDone]:
        reply = yield from ask(_codec.Backup(folder=folder), _codec.BackupReply, deadline)
        return BackupDone(reply.tasks, reply.bytes)

    return flow


def _order(body: _codec.Message) -> Callable[[float], Flow[None]]:
    def flow(deadline: float) -> Flow[None]:
        yield from ask(body, _codec.Done, deadline)

    return flow


def _count(body: _codec.Message) -> Callable[[float], Flow[int]]:
    def flow(deadline: float) -> Flow[int]:
        reply = yield from ask(body, _codec.CountReply, deadline)
        return reply.count

    return flow
