"""The requests of operators: the broker itself, queues, listings, dead tasks, workers, backups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Protocol, TypeVar

from celeriac import _operating
from celeriac._flow import Flow
from celeriac._operating import Ids
from celeriac.info import State, TaskInfo
from celeriac.listing import (
    BackupDone,
    BrokerInfo,
    QueueInfo,
    QueueSettings,
    TaskFilter,
    TaskPage,
    WorkerOrder,
    WorkerStatus,
)
from celeriac.stats import Stats

_T = TypeVar("_T")


class _Ask(Protocol):
    """Runs a flow within a time."""

    def __call__(self, flow: Callable[[float], Flow[_T]], timeout: float | None) -> _T: ...


class _AsyncAsk(Protocol):
    """Runs a flow within a time, for asyncio."""

    def __call__(
        self, flow: Callable[[float], Flow[_T]], timeout: float | None
    ) -> Awaitable[_T]: ...


class Admin:
    """The requests of operators. `client.admin` has them.

    >>> client.admin.configure_queue("covers", QueueSettings(tasks_max=100, result_ttl=3600))
    >>> [queue] = client.admin.queues("covers")
    >>> queue.ready, queue.settings.tasks_max
    (0, 100)
    >>> client.admin.pause("covers")
    >>> client.admin.queues("covers")[0].paused
    True
    >>> client.admin.delete_queue("covers")
    0
    >>> dead = [info.error for info in client.admin.dead()]
    >>> client.admin.replay(selected=TaskFilter(queue="songs"))
    0
    >>> broker = client.admin.broker_info()
    >>> broker.data is not None and broker.data.disk_is_low
    False
    """

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask

    def broker_info(self, *, timeout: float | None = None) -> BrokerInfo:
        """The broker itself: its version, what it holds, how full its disk is, and its limits. A
        broker that is older than this request refuses it with `Unsupported`."""
        return self._ask(_operating.broker_info(), timeout)

    def stats(self, names: Ids = (), *, timeout: float | None = None) -> Stats:
        """The counters of the queues of these names, or of all queues, and those of the broker, for
        monitors: the broker looks at no task for them. A queue that does not exist is left out. A
        broker that is older than this request refuses it with `Unsupported`."""
        return self._ask(_operating.stats(names), timeout)

    def queues(self, names: Ids = (), *, timeout: float | None = None) -> list[QueueInfo]:
        """The queues of these names, or all queues, in order of name. A queue that does not exist
        is left out."""
        return self._ask(_operating.queues(names), timeout)

    def configure_queue(
        self, name: str, settings: QueueSettings, *, timeout: float | None = None
    ) -> None:
        """Creates the queue if needed, and replaces all of its settings. Tasks that exist keep the
        values that they had."""
        self._ask(_operating.configure_queue(name, settings), timeout)

    def pause(self, names: Ids, *, timeout: float | None = None) -> None:
        """Pauses queues: the broker delivers nothing from them. Tasks that run go on. A pause holds
        over restarts of the broker."""
        self._ask(_operating.pause(names, paused=True), timeout)

    def resume(self, names: Ids, *, timeout: float | None = None) -> None:
        """Ends the pause of queues."""
        self._ask(_operating.pause(names, paused=False), timeout)

    def purge(self, name: str, *, timeout: float | None = None) -> int:
        """Revokes every task of the queue that has not begun. Returns how many those were."""
        return self._ask(_operating.purge(name), timeout)

    def delete_queue(self, name: str, *, timeout: float | None = None) -> int:
        """Purges the queue and drops its settings. Raises `NotFinished` while a task of it runs.
        Returns how many tasks were revoked."""
        return self._ask(_operating.delete_queue(name), timeout)

    def task_page(
        self,
        selected: TaskFilter | None = None,
        *,
        limit: int = 100,
        cursor: bytes = b"",
        with_tracebacks: bool = False,
        newest_first: bool = False,
        just_ended: bool = False,
        timeout: float | None = None,
    ) -> TaskPage:
        """One page of the tasks that match the filter. Give the cursor of the page with the next
        call; an empty cursor ends the listing. A page may have fewer tasks than `limit`, even none,
        and not be the last: it ends where the broker has looked at very many tasks for it. With
        `newest_first` the tasks that were submitted last come first, and the broker looks at all
        its tasks for each page. With `just_ended` the tasks that ended last come first, and there
        are only those of the last 10,000 ends."""
        flow = _operating.task_page(
            selected,
            limit,
            cursor,
            with_tracebacks=with_tracebacks,
            newest_first=newest_first,
            just_ended=just_ended,
        )
        return self._ask(flow, timeout)

    def tasks(
        self,
        selected: TaskFilter | None = None,
        *,
        with_tracebacks: bool = False,
        timeout: float | None = None,
    ) -> Iterator[TaskInfo]:
        """All tasks that match the filter, in no order. The broker is asked for page after page;
        each has the time `timeout`."""
        cursor = b""
        while True:
            page = self.task_page(
                selected,
                limit=_operating.PAGE_MAX,
                cursor=cursor,
                with_tracebacks=with_tracebacks,
                timeout=timeout,
            )
            yield from page.tasks
            cursor = page.cursor
            if not cursor:
                return

    def dead(
        self, queue: str = "", *, with_tracebacks: bool = False, timeout: float | None = None
    ) -> Iterator[TaskInfo]:
        """The dead tasks of a queue, or of all queues: those that ended as FAILURE and are kept."""
        selected = TaskFilter(queue=queue, states=[State.FAILURE])
        return self.tasks(selected, with_tracebacks=with_tracebacks, timeout=timeout)

    def replay(
        self,
        ids: Ids | None = None,
        *,
        selected: TaskFilter | None = None,
        timeout: float | None = None,
    ) -> int:
        """Runs dead tasks again: those of the ids, or all that match the filter. Returns how many
        those were."""
        return self._ask(_operating.replay(ids, selected), timeout)

    def discard(
        self,
        ids: Ids | None = None,
        *,
        selected: TaskFilter | None = None,
        all_dead: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Drops dead tasks: those of the ids, all that match the filter, or all. Returns how many
        those were."""
        return self._ask(_operating.discard(ids, selected, all_dead=all_dead), timeout)

    def workers(
        self, *, with_tracebacks: bool = False, timeout: float | None = None
    ) -> list[WorkerStatus]:
        """The sessions of workers, those included whose connection is lost."""
        return self._ask(_operating.workers(with_tracebacks=with_tracebacks), timeout)

    def order_workers(
        self, order: WorkerOrder | str, instance_ids: Ids = (), *, timeout: float | None = None
    ) -> int:
        """Gives an order to the workers of these names, or to every worker. Returns to how
        many."""
        return self._ask(_operating.order_workers(order, instance_ids), timeout)

    def drain(self, *, timeout: float | None = None) -> None:
        """Begins a drain: the broker delivers no task, and takes submits and reports. It takes back
        what workers hold and have not begun. The drain is complete when `broker_info().leased` is
        0. A restart of the broker ends it."""
        self._ask(_operating.drain(draining=True), timeout)

    def end_drain(self, *, timeout: float | None = None) -> None:
        """Ends a drain: the broker delivers again."""
        self._ask(_operating.drain(draining=False), timeout)

    def log_filter(self, new: str | None = None, *, timeout: float | None = None) -> str:
        """The filter of the broker's log. A new one counts until the broker is started again."""
        return self._ask(_operating.log_filter(new), timeout)

    def backup(self, folder: str, *, timeout: float | None = None) -> BackupDone:
        """Copies the stored data into a new folder on the broker's machine, while the broker
        serves. Without `timeout` it may take a day."""
        seconds = _operating.BACKUP_SECONDS if timeout is None else timeout
        return self._ask(_operating.backup(folder), seconds)


class AsyncAdmin:
    """The requests of operators for asyncio. `client.admin` has them."""

    def __init__(self, ask: _AsyncAsk) -> None:
        self._ask = ask

    async def broker_info(self, *, timeout: float | None = None) -> BrokerInfo:
        """The broker itself: its version, what it holds, how full its disk is, and its limits. A
        broker that is older than this request refuses it with `Unsupported`."""
        return await self._ask(_operating.broker_info(), timeout)

    async def stats(self, names: Ids = (), *, timeout: float | None = None) -> Stats:
        """The counters of queues and of the broker, as `Admin.stats`."""
        return await self._ask(_operating.stats(names), timeout)

    async def queues(self, names: Ids = (), *, timeout: float | None = None) -> list[QueueInfo]:
        """The queues of these names, or all queues, in order of name. A queue that does not exist
        is left out."""
        return await self._ask(_operating.queues(names), timeout)

    async def configure_queue(
        self, name: str, settings: QueueSettings, *, timeout: float | None = None
    ) -> None:
        """Creates the queue if needed, and replaces all of its settings. Tasks that exist keep the
        values that they had."""
        await self._ask(_operating.configure_queue(name, settings), timeout)

    async def pause(self, names: Ids, *, timeout: float | None = None) -> None:
        """Pauses queues: the broker delivers nothing from them. Tasks that run go on. A pause holds
        over restarts of the broker."""
        await self._ask(_operating.pause(names, paused=True), timeout)

    async def resume(self, names: Ids, *, timeout: float | None = None) -> None:
        """Ends the pause of queues."""
        await self._ask(_operating.pause(names, paused=False), timeout)

    async def purge(self, name: str, *, timeout: float | None = None) -> int:
        """Revokes every task of the queue that has not begun. Returns how many those were."""
        return await self._ask(_operating.purge(name), timeout)

    async def delete_queue(self, name: str, *, timeout: float | None = None) -> int:
        """Purges the queue and drops its settings. Raises `NotFinished` while a task of it runs.
        Returns how many tasks were revoked."""
        return await self._ask(_operating.delete_queue(name), timeout)

    async def task_page(
        self,
        selected: TaskFilter | None = None,
        *,
        limit: int = 100,
        cursor: bytes = b"",
        with_tracebacks: bool = False,
        newest_first: bool = False,
        just_ended: bool = False,
        timeout: float | None = None,
    ) -> TaskPage:
        """One page of the tasks that match the filter. Give the cursor of the page with the next
        call; an empty cursor ends the listing. A page may have fewer tasks than `limit`, even none,
        and not be the last: it ends where the broker has looked at very many tasks for it. With
        `newest_first` the tasks that were submitted last come first, and the broker looks at all
        its tasks for each page. With `just_ended` the tasks that ended last come first, and there
        are only those of the last 10,000 ends."""
        flow = _operating.task_page(
            selected,
            limit,
            cursor,
            with_tracebacks=with_tracebacks,
            newest_first=newest_first,
            just_ended=just_ended,
        )
        return await self._ask(flow, timeout)

    async def tasks(
        self,
        selected: TaskFilter | None = None,
        *,
        with_tracebacks: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[TaskInfo]:
        """All tasks that match the filter, in no order. The broker is asked for page after page;
        each has the time `timeout`."""
        cursor = b""
        while True:
            page = await self.task_page(
                selected,
                limit=_operating.PAGE_MAX,
                cursor=cursor,
                with_tracebacks=with_tracebacks,
                timeout=timeout,
            )
            for task in page.tasks:
                yield task
            cursor = page.cursor
            if not cursor:
                return

    def dead(
        self, queue: str = "", *, with_tracebacks: bool = False, timeout: float | None = None
    ) -> AsyncIterator[TaskInfo]:
        """The dead tasks of a queue, or of all queues: those that ended as FAILURE and are kept."""
        selected = TaskFilter(queue=queue, states=[State.FAILURE])
        return self.tasks(selected, with_tracebacks=with_tracebacks, timeout=timeout)

    async def replay(
        self,
        ids: Ids | None = None,
        *,
        selected: TaskFilter | None = None,
        timeout: float | None = None,
    ) -> int:
        """Runs dead tasks again: those of the ids, or all that match the filter. Returns how many
        those were."""
        return await self._ask(_operating.replay(ids, selected), timeout)

    async def discard(
        self,
        ids: Ids | None = None,
        *,
        selected: TaskFilter | None = None,
        all_dead: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Drops dead tasks: those of the ids, all that match the filter, or all. Returns how many
        those were."""
        return await self._ask(_operating.discard(ids, selected, all_dead=all_dead), timeout)

    async def workers(
        self, *, with_tracebacks: bool = False, timeout: float | None = None
    ) -> list[WorkerStatus]:
        """The sessions of workers, those included whose connection is lost."""
        return await self._ask(_operating.workers(with_tracebacks=with_tracebacks), timeout)

    async def order_workers(
        self, order: WorkerOrder | str, instance_ids: Ids = (), *, timeout: float | None = None
    ) -> int:
        """Gives an order to the workers of these names, or to every worker. Returns to how
        many."""
        return await self._ask(_operating.order_workers(order, instance_ids), timeout)

    async def drain(self, *, timeout: float | None = None) -> None:
        """Begins a drain: the broker delivers no task, and takes submits and reports. It takes back
        what workers hold and have not begun. The drain is complete when `broker_info().leased` is
        0. A restart of the broker ends it."""
        await self._ask(_operating.drain(draining=True), timeout)

    async def end_drain(self, *, timeout: float | None = None) -> None:
        """Ends a drain: the broker delivers again."""
        await self._ask(_operating.drain(draining=False), timeout)

    async def log_filter(self, new: str | None = None, *, timeout: float | None = None) -> str:
        """The filter of the broker's log. A new one counts until the broker is started again."""
        return await self._ask(_operating.log_filter(new), timeout)

    async def backup(self, folder: str, *, timeout: float | None = None) -> BackupDone:
        """Copies the stored data into a new folder on the broker's machine, while the broker
        serves. Without `timeout` it may take a day."""
        seconds = _operating.BACKUP_SECONDS if timeout is None else timeout
        return await self._ask(_operating.backup(folder), seconds)
