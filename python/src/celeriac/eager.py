"""Runs tasks at once, in this process and without a broker, for tests of code that submits.

`app.eager()` puts an `EagerClient` in the place of the app's client. There are no queues, delays,
cancels or lost workers here; `celeriac.testing` has a real broker for these.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from celeriac import _codec as wire
from celeriac._ids import make_id
from celeriac.aio import AsyncClient
from celeriac.cancel import CancelKind, Cancelled
from celeriac.client import Client
from celeriac.context import Context, Delivered
from celeriac.errors import CeleriacError, NotFound, TaskExists
from celeriac.info import Progress, State, TaskError, TaskInfo
from celeriac.options import OnConflict, TaskOptions
from celeriac.submission import Submission, SubmitKind, Submitted
from celeriac.waiting import Waited
from celeriac.worker.execution import Execution

if TYPE_CHECKING:
    from celeriac.app import Celeriac

#: How often a task runs that names no number, as with a broker.
_ATTEMPTS = 4

_NO_OPTIONS = TaskOptions()


class EagerClient(Client):
    """A client that runs what is submitted. A submit returns when its task has ended."""

    def __init__(self, app: Celeriac) -> None:
        self._app = app
        self._tasks: dict[str, TaskInfo] = {}
        self._async = EagerAsyncClient(self)

    def for_asyncio(self) -> AsyncClient:
        """The same for asyncio."""
        return self._async

    def connect(self, **_: Any) -> None:
        """There is nothing to connect to."""

    def close(self) -> None:
        """There is nothing to close."""

    def submit(
        self,
        name: str,
        payload: bytes = b"[[],{}]",
        *,
        options: TaskOptions | None = None,
        task_id: str | None = None,
        content_type: str = "",
        timeout: float | None = None,
    ) -> Submitted:
        options = options or _NO_OPTIONS
        task_id = task_id or options.task_id or make_id()
        # The message of the protocol has the options in the form that the broker would get.
        message = options.replace(task_id=task_id).to_task(name, payload, content_type)
        before = self._tasks.get(task_id)
        if before is not None:
            if message.on_conflict == OnConflict.REJECT.value:
                raise TaskExists(f"a task {task_id!r} exists")
            if not before.state.is_ended:
                return Submitted(task_id, SubmitKind.JOINED, before.generation, before.state)
        generation = before.generation + 1 if before else 1
        self._run(message, generation)
        kind = SubmitKind.NEW_GENERATION if before else SubmitKind.CREATED
        info = self._tasks[task_id]
        if message.result_ttl_ms == 0 and info.state is State.SUCCESS:
            del self._tasks[task_id]
        return Submitted(task_id, kind, generation, info.state)

    def submit_many(
        self, submissions: Iterable[Submission], *, timeout: float | None = None
    ) -> list[Submitted | CeleriacError]:
        outcomes: list[Submitted | CeleriacError] = []
        for name, payload, options, task_id, content_type in submissions:
            try:
                outcomes.append(
                    self.submit(
                        name, payload, options=options, task_id=task_id, content_type=content_type
                    )
                )
            except CeleriacError as error:
                outcomes.append(error)
        return outcomes

    def batch(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Tasks run at once, within a batch too."""
        return nullcontext()

    def flush(self, *, timeout: float | None = None) -> None:
        """Nothing waits to be sent."""

    def get(self, task_id: str, **_: Any) -> TaskInfo:
        return self._tasks.get(task_id) or TaskInfo(id=task_id, state=State.UNKNOWN)

    def info(self, task_ids: Iterable[str], **_: Any) -> list[TaskInfo]:
        return [self.get(task_id) for task_id in task_ids]

    def wait(self, task_ids: Iterable[str] | str, **_: Any) -> Waited:
        tasks = self.info(_listed(task_ids))
        return Waited(all(not task.is_known or task.state.is_ended for task in tasks), tasks)

    def watch(self, task_ids: Iterable[str] | str, **_: Any) -> Iterator[TaskInfo]:
        return iter(self.info(_listed(task_ids)))

    def cancel(self, task_ids: Iterable[str] | str, **_: Any) -> list[Cancelled]:
        ended, unknown = CancelKind.ALREADY_ENDED, CancelKind.NOT_FOUND
        ids = _listed(task_ids)
        return [Cancelled(each, ended if each in self._tasks else unknown) for each in ids]

    def forget(
        self, task_ids: Sequence[str] | str, *, timeout: float | None = None
    ) -> list[CeleriacError | None]:
        outcomes: list[CeleriacError | None] = []
        for task_id in _listed(task_ids):
            known = self._tasks.pop(task_id, None)
            outcomes.append(None if known else NotFound(f"there is no task {task_id!r}"))
        return outcomes

    def _run(self, message: wire.Task, generation: int) -> None:
        """Runs a task as often as it may, and keeps what came of it."""
        attempts_max = message.retry.max_attempts if message.retry else None
        attempts_max = attempts_max or _ATTEMPTS
        now = datetime.now(timezone.utc)
        info = TaskInfo(
            id=message.id,
            state=State.STARTED,
            generation=generation,
            name=message.name,
            queue=message.queue or "default",
            shadow=message.shadow,
            priority=4 if message.priority is None else message.priority,
            headers=dict(message.headers),
            tags=tuple(message.tags),
            root_id=message.root_id,
            parent_id=message.parent_id,
            submitted_at=now,
            started_at=now,
            worker="eager",
            attempts_max=attempts_max,
            deliveries=1,
            payload=message.payload,
            content_type=message.content_type,
        )
        for attempt in range(1, attempts_max + 1):
            self._tasks[message.id] = info = replace(info, attempts=attempt)
            report = self._attempt(message, info)
            info = _ended(self._tasks[message.id], report, attempt == attempts_max)
            self._tasks[message.id] = info
            if info.state.is_ended:
                return

    def _attempt(self, message: wire.Task, info: TaskInfo) -> Any:
        delivered = Delivered(
            id=info.id,
            name=info.name,
            queue=info.queue,
            payload=message.payload,
            content_type=message.content_type,
            headers=info.headers,
            shadow=info.shadow,
            priority=info.priority,
            attempt=info.attempts,
            attempts_max=info.attempts_max,
            generation=info.generation,
            submitted_at_ms=int(info.submitted_at.timestamp() * 1000) if info.submitted_at else 0,
            root_id=info.root_id,
            parent_id=info.parent_id,
            tags=info.tags,
        )

        def report_progress(_: int, state: str, meta: bytes) -> None:
            progress = Progress(state, meta, datetime.now(timezone.utc))
            self._tasks[info.id] = replace(self._tasks[info.id], progress=progress)

        context = Context(delivered, self._app, report_progress)
        app = self._app
        execution = Execution(app.tasks, middleware=app.middleware, is_eager=True)
        return execution.run(delivered, context, _drive)


class EagerAsyncClient(AsyncClient):
    """The same for asyncio. A task runs on a thread, so that its handler may be of either kind."""

    def __init__(self, client: EagerClient) -> None:
        self._eager = client

    async def submit(self, *args: Any, **options: Any) -> Submitted:
        return await asyncio.to_thread(self._eager.submit, *args, **options)

    async def submit_many(
        self, submissions: Iterable[Submission], **_: Any
    ) -> list[Submitted | CeleriacError]:
        return await asyncio.to_thread(self._eager.submit_many, submissions)

    @asynccontextmanager
    async def batch(self, **_: Any) -> AsyncIterator[None]:
        """Tasks run at once, within a batch too."""
        yield

    async def get(self, task_id: str, **_: Any) -> TaskInfo:
        return self._eager.get(task_id)

    async def info(self, task_ids: Iterable[str], **_: Any) -> list[TaskInfo]:
        return self._eager.info(task_ids)

    async def wait(self, task_ids: Iterable[str] | str, **_: Any) -> Waited:
        return self._eager.wait(task_ids)

    async def watch(self, task_ids: Iterable[str] | str, **_: Any) -> AsyncIterator[TaskInfo]:
        for info in self._eager.watch(task_ids):
            yield info

    async def cancel(self, task_ids: Iterable[str] | str, **_: Any) -> list[Cancelled]:
        return self._eager.cancel(task_ids)

    async def forget(self, task_ids: Sequence[str] | str, **_: Any) -> list[CeleriacError | None]:
        return self._eager.forget(task_ids)

    async def close(self) -> None:
        """There is nothing to close."""


def _ended(info: TaskInfo, report: Any, is_last: bool) -> TaskInfo:
    """The task after one attempt."""
    now = datetime.now(timezone.utc)
    if isinstance(report, wire.Complete):
        return replace(
            info,
            state=State.SUCCESS,
            result=report.result,
            result_content_type=report.content_type,
            finished_at=now,
        )
    told = report.error or wire.TaskError()
    error = TaskError(told.kind, told.message, told.traceback, now, info.attempts)
    info = replace(info, errors=(*info.errors, error)[-5:])
    is_final = isinstance(report, wire.Reject) or getattr(report, "final", False)
    if is_final or is_last:
        return replace(info, state=State.FAILURE, finished_at=now)
    return replace(info, state=State.RETRY)


def _listed(task_ids: Iterable[str] | str) -> list[str]:
    return [task_ids] if isinstance(task_ids, str) else list(task_ids)


def _drive(awaitable: Any) -> Any:
    """Runs an `async def` on a loop of its own: the present thread may have one that runs."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(_value_of(awaitable)), None))
        except BaseException as error:
            outcome.append((None, error))

    import contextvars

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


async def _value_of(awaitable: Any) -> Any:
    return await awaitable
