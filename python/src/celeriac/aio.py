"""`AsyncClient`: submits tasks and looks at them, for asyncio. It has the methods of `Client`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import TypeVar

from celeriac import _codec, _reading, _submitting
from celeriac._async_link import AsyncLink
from celeriac._calls import Call
from celeriac._flow import Flow, opened
from celeriac._hello import hello_of
from celeriac._pipeline import Pipeline
from celeriac._submitting import Batch
from celeriac._values import keys, seconds
from celeriac._watching import WatchedStates
from celeriac.admin import AsyncAdmin
from celeriac.cancel import Cancelled, CancelMode
from celeriac.errors import CeleriacError
from celeriac.info import State, TaskInfo, info_of
from celeriac.options import TaskOptions
from celeriac.submission import NO_OPTIONS, Submission, Submitted
from celeriac.url import BrokerUrl, broker_url
from celeriac.waiting import Waited, WaitMode

_T = TypeVar("_T")

_NONE: dict[int, Pipeline] = {}
_pipelines: ContextVar[dict[int, Pipeline]] = ContextVar("celeriac_pipelines")
"""The blocks of `batch()` in which the current task is, by the ids of their clients."""


class AsyncClient:
    """A client of one broker for asyncio, with the methods of `Client`.

    The client connects at its first call, and again whenever the connection breaks. Any number of
    tasks of one event loop share it; make one client for each loop. A process that was forked
    opens its own connection. Every call ends within its `timeout`, in seconds.

    >>> async def produce() -> None:
    ...     async with AsyncClient("celeriac://127.0.0.1:23537") as client:
    ...         await client.submit("songs.cluster")
    """

    def __init__(
        self,
        url: str | BrokerUrl | None = None,
        *,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        instance: str | None = None,
    ) -> None:
        self._url = broker_url(url)
        self._timeout = seconds("timeout", timeout, 30.0)
        self._link = AsyncLink(
            self._url,
            hello_of(self._url, instance),
            seconds("connect_timeout", connect_timeout, 10),
        )
        self.admin = AsyncAdmin(self._ask)
        """The requests of operators."""

    async def connect(self, *, timeout: float | None = None) -> None:
        """Connects now, in place of at the first call. Raises what keeps the client from it."""
        deadline = time.monotonic() + self._seconds(timeout)
        call = Call.opening(deadline)
        self._link.ready()
        self._link.post([call])
        await self._link.run([call])
        call.result(_codec.Welcome)

    async def close(self) -> None:
        """Ends the connection. Later calls raise `ClientClosed`."""
        await self._link.close()

    @property
    def url(self) -> BrokerUrl:
        """The address of the broker. Its text does not show the token."""
        return self._url

    def __repr__(self) -> str:
        return f"<AsyncClient of {self._url}>"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def submit(
        self,
        name: str,
        payload: bytes = b"[[],{}]",
        *,
        options: TaskOptions | None = None,
        task_id: str | None = None,
        content_type: str = "",
        timeout: float | None = None,
    ) -> Submitted:
        """Submits one task, and returns when the broker has stored it.

        `task_id` counts before that of `options`. A refusal is raised. Within `batch()` the call
        returns at once, and the outcome is filled in at the end of the batch.
        """
        exchange = self._link.ready()
        options = NO_OPTIONS if options is None else options
        data, submitted, is_minted = _submitting.encoded(
            exchange, name, payload, options, task_id, content_type
        )
        pipeline = self._pipeline()
        if pipeline is not None:
            await self._drive(pipeline.add(exchange, data, submitted, is_minted=is_minted))
            return submitted
        batch = Batch(time.monotonic() + self._seconds(timeout))
        batch.add(data, submitted, is_minted=is_minted)
        return await self._drive(_submitting.submit_one(batch, exchange))

    async def submit_many(
        self, submissions: Iterable[Submission], *, timeout: float | None = None
    ) -> list[Submitted | CeleriacError]:
        """Submits many tasks. The list has the outcome of each, in order: one that was refused has
        its error, and the others hold."""
        exchange = self._link.ready()
        return await self._drive(
            _submitting.submit_many(exchange, submissions, self._seconds(timeout))
        )

    @asynccontextmanager
    async def _batch(self, timeout: float) -> AsyncIterator[None]:
        pipeline = Pipeline(timeout)
        token = _pipelines.set({**_pipelines.get(_NONE), id(self): pipeline})
        try:
            yield
        except BaseException:
            # What was submitted before the error is submitted all the same. The error of the block
            # counts before those of the tasks.
            with suppress(CeleriacError):
                await self._drive(pipeline.flush(self._link.ready()))
            raise
        finally:
            _pipelines.reset(token)
        await self._drive(pipeline.flush(self._link.ready()))

    def batch(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[None]:
        """Within `async with client.batch():` a `submit` does not wait for answers: the client
        sends the tasks together. The end of the block waits for all answers, and raises
        `BatchFailed` when some tasks were refused."""
        return self._batch(self._seconds(timeout))

    async def flush(self) -> None:
        """Within `batch()`: sends what was submitted, and waits for the answers. Raises
        `BatchFailed` when some tasks were refused."""
        pipeline = self._pipeline()
        if pipeline is not None:
            await self._drive(pipeline.flush(self._link.ready()))

    def _pipeline(self) -> Pipeline | None:
        """The block of `batch()` in which the caller is."""
        return _pipelines.get(_NONE).get(id(self))

    async def get(
        self,
        task_id: str,
        *,
        with_result: bool = False,
        with_payload: bool = False,
        timeout: float | None = None,
    ) -> TaskInfo:
        """What the broker knows of one task; its state is UNKNOWN when there is none."""
        found = await self.info(
            [task_id],
            with_results=with_result,
            with_payloads=with_payload,
            timeout=timeout,
        )
        return found[0]

    async def info(
        self,
        task_ids: Iterable[str],
        *,
        with_results: bool = False,
        with_payloads: bool = False,
        timeout: float | None = None,
    ) -> list[TaskInfo]:
        """The same for many tasks, in the order of the ids."""
        return await self._drive(
            _reading.get(
                self._link.ready(),
                keys("task_ids", task_ids),
                self._seconds(timeout),
                with_results=with_results,
                with_payloads=with_payloads,
            )
        )

    async def wait(
        self,
        task_ids: Iterable[str] | str,
        *,
        timeout: float | None = None,
        mode: WaitMode = WaitMode.ALL,
        until: State = State.UNKNOWN,
        with_results: bool = False,
    ) -> Waited:
        """Waits until the tasks have ended, or have reached the state `until`.

        The end of the time is no error: `Waited.satisfied` is then false. `math.inf` waits for
        ever. A task that does not exist counts as ended.
        """
        return await self._drive(
            _reading.wait(
                self._link.ready(),
                keys("task_ids", task_ids),
                self._seconds(timeout),
                self._timeout,
                mode=mode,
                until=until,
                with_results=with_results,
            )
        )

    def watch(
        self,
        task_ids: Iterable[str] | str,
        *,
        with_results: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[TaskInfo]:
        """The present state of each task, and then each change as it happens.

        The iterator ends when all tasks have ended; one of a task that does not exist yet waits
        for it. It goes on over a lost connection. Without `timeout` it may take any time; else it
        raises `DeadlineExceeded` when the time is over.
        """
        states = WatchedStates(keys("task_ids", task_ids), with_results=with_results)
        return self._watch(states, None if timeout is None else self._seconds(timeout))

    async def _watch(self, states: WatchedStates, timeout: float | None) -> AsyncIterator[TaskInfo]:
        deadline = _reading.watch_deadline(timeout)
        begin_by = min(deadline, time.monotonic() + self._timeout)
        if not states.ids:
            return
        try:
            await self._drive(opened(self._link.ready(), begin_by))
            await self._link.run(self._link.begin_watch(states, begin_by))
            while (info := await self._link.next_state(states, deadline)) is not None:
                yield info_of(info)
        finally:
            self._link.end_watch(states)

    async def cancel(
        self,
        task_ids: Iterable[str] | str,
        *,
        mode: CancelMode = CancelMode.COOPERATIVE,
        grace: float | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> list[Cancelled]:
        """Cancels tasks. The list has an outcome for each id, in order."""
        return await self._cancel(keys("task_ids", task_ids), mode, grace, reason, timeout)

    async def cancel_tree(
        self,
        root_id: str,
        *,
        mode: CancelMode = CancelMode.COOPERATIVE,
        grace: float | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> list[Cancelled]:
        """Cancels the task `root_id` and every task whose `root_id` it is."""
        selected = _codec.Cancel(root_id=keys("root_id", root_id)[0])
        return await self._cancel(selected, mode, grace, reason, timeout)

    async def cancel_tagged(
        self,
        tag: str,
        *,
        mode: CancelMode = CancelMode.COOPERATIVE,
        grace: float | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> list[Cancelled]:
        """Cancels every task that has this tag."""
        selected = _codec.Cancel(tag=keys("tag", tag)[0])
        return await self._cancel(selected, mode, grace, reason, timeout)

    async def _cancel(
        self,
        selected: list[str] | _codec.Cancel,
        mode: CancelMode,
        grace: float | None,
        reason: str,
        timeout: float | None,
    ) -> list[Cancelled]:
        return await self._drive(
            _reading.cancel(
                self._link.ready(),
                selected,
                self._seconds(timeout),
                mode=mode,
                grace=grace,
                reason=reason,
            )
        )

    async def forget(
        self, task_ids: Sequence[str] | str, *, timeout: float | None = None
    ) -> list[CeleriacError | None]:
        """Drops ended tasks and their results. The list has None for each task that is gone, or
        the reason why it is not."""
        ids = keys("task_ids", task_ids)
        return await self._drive(_reading.forget(self._link.ready(), ids, self._seconds(timeout)))

    def _seconds(self, timeout: float | None) -> float:
        return seconds("timeout", timeout, self._timeout)

    async def _drive(self, flow: Flow[_T]) -> _T:
        return await self._link.drive(flow)

    async def _ask(self, flow: Callable[[float], Flow[_T]], timeout: float | None) -> _T:
        self._link.ready()
        return await self._link.drive(flow(time.monotonic() + self._seconds(timeout)))
