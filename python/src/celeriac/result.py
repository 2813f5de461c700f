"""The result of a task, by the task's id: its state, its value, its changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from celeriac.cancel import CancelKind, CancelMode
from celeriac.errors import CeleriacError, TaskFailed, TaskNotEnded, TaskRevoked, TaskUnknown
from celeriac.info import State, TaskInfo
from celeriac.payload import CELERY_TYPE, celery_value, codec_for, from_json

if TYPE_CHECKING:
    from celeriac.app import Celeriac
    from celeriac.submission import Submitted
    from celeriac.waiting import Waited


class Report(NamedTuple):
    """The latest progress that a handler reported."""

    state: str
    meta: Any
    at: datetime


class Change(NamedTuple):
    """One change of a task, as `Result.watch` shows it."""

    state: State
    progress: Report | None
    info: TaskInfo


class Result:
    """A task of any program, by its id. Making the object sends nothing.

    Each method asks the broker. Those that begin with `a` do the same for asyncio.
    """

    __slots__ = ("_app", "id", "submitted")

    def __init__(self, task_id: str, app: Celeriac, submitted: Submitted | None = None) -> None:
        self.id = task_id
        self.submitted = submitted
        """What the submit did: a new task, the next generation, or a task that it joined. None
        when this object does not come from a submit."""
        self._app = app

    def __repr__(self) -> str:
        return f"<Result {self.id}>"

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Result) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self.id

    @property
    def state(self) -> State:
        """The state of the task. `State.UNKNOWN` means that the broker knows no such task; it never
        means that the task waits."""
        return self.info().state

    async def astate(self) -> State:
        """`state` for asyncio."""
        return (await self.ainfo()).state

    def info(self) -> TaskInfo:
        """Everything that the broker knows of the task."""
        return self._app.client.get(self.id)

    async def ainfo(self) -> TaskInfo:
        """`info` for asyncio."""
        return await self._app.async_client.get(self.id)

    def ready(self) -> bool:
        """Whether the task has ended: SUCCESS, FAILURE or REVOKED."""
        return self.state.is_ended

    async def aready(self) -> bool:
        """`ready` for asyncio."""
        return (await self.astate()).is_ended

    def successful(self) -> bool:
        """Whether the task ended with a result."""
        return self.state is State.SUCCESS

    async def asuccessful(self) -> bool:
        """`successful` for asyncio."""
        return await self.astate() is State.SUCCESS

    def failed(self) -> bool:
        """Whether the task ended as FAILURE."""
        return self.state is State.FAILURE

    async def afailed(self) -> bool:
        """`failed` for asyncio."""
        return await self.astate() is State.FAILURE

    def progress(self) -> Report | None:
        """The latest progress that the handler reported; None when there is none."""
        return report_of(self.info())

    async def aprogress(self) -> Report | None:
        """`progress` for asyncio."""
        return report_of(await self.ainfo())

    def get(self, timeout: float | None = None, *, propagate: bool = True) -> Any:
        """Waits until the task has ended, and returns what its function returned.

        `timeout` is in seconds; without it that of the app counts, and `math.inf` waits for ever.
        Raises `TaskFailed`, `TaskRevoked`, `TaskUnknown`, and `TaskNotEnded` when the time is over.
        With `propagate=False` a task that ended as FAILURE or REVOKED gives the exception as the
        value.
        """
        timeout = self._app.timeout if timeout is None else timeout
        waited = self._app.client.wait(self.id, timeout=timeout, with_results=True)
        return _value(waited, self.id, timeout, propagate)

    async def aget(self, timeout: float | None = None, *, propagate: bool = True) -> Any:
        """`get` for asyncio."""
        timeout = self._app.timeout if timeout is None else timeout
        waited = await self._app.async_client.wait(self.id, timeout=timeout, with_results=True)
        return _value(waited, self.id, timeout, propagate)

    def watch(self, timeout: float | None = None) -> Iterator[Change]:
        """The present state of the task, and then each change until the task has ended. An id that
        does not exist yet begins as UNKNOWN. The iteration goes on over lost connections."""
        for info in self._app.client.watch(self.id, timeout=timeout):
            yield Change(info.state, report_of(info), info)

    async def awatch(self, timeout: float | None = None) -> AsyncIterator[Change]:
        """`watch` for asyncio: `async for change in result.awatch()`."""
        async for info in self._app.async_client.watch(self.id, timeout=timeout):
            yield Change(info.state, report_of(info), info)

    def forget(self) -> None:
        """Drops the ended task and its result. Raises `NotFinished` before the task has ended."""
        _check_forgotten(self._app.client.forget(self.id))

    async def aforget(self) -> None:
        """`forget` for asyncio."""
        _check_forgotten(await self._app.async_client.forget(self.id))

    def revoke(
        self, *, terminate: bool = False, grace: float | None = None, reason: str = ""
    ) -> CancelKind:
        """Cancels the task. A task that waits never starts.

        A task that runs is asked to stop: `context.cancelled` is then true. With `terminate` the
        worker stops the handler, and after `grace` seconds (10 by default) the task is REVOKED
        whatever the worker does. The returned word says what the broker did.
        """
        mode = CancelMode.FORCE if terminate else CancelMode.COOPERATIVE
        outcomes = self._app.client.cancel(self.id, mode=mode, grace=grace, reason=reason)
        return outcomes[0].kind

    async def arevoke(
        self, *, terminate: bool = False, grace: float | None = None, reason: str = ""
    ) -> CancelKind:
        """`revoke` for asyncio."""
        mode = CancelMode.FORCE if terminate else CancelMode.COOPERATIVE
        client = self._app.async_client
        outcomes = await client.cancel(self.id, mode=mode, grace=grace, reason=reason)
        return outcomes[0].kind


def report_of(info: TaskInfo) -> Report | None:
    """The progress in what the broker told of a task, with its details decoded."""
    progress = info.progress
    if progress is None:
        return None
    meta = from_json(progress.meta) if progress.meta else None
    return Report(progress.state, meta, progress.at)


def value_of(info: TaskInfo) -> Any:
    """The value that the function of an ended task returned. Raises what `Result.get` raises."""
    if info.state is State.SUCCESS:
        if info.result_content_type == CELERY_TYPE:
            return celery_value(info.result, info.id)
        return codec_for(info.result_content_type).decode_result(info.result)
    if info.state is State.FAILURE:
        error = info.error
        if error is None:
            raise TaskFailed(info.id, "error", "the broker keeps no error of it")
        raise TaskFailed(info.id, error.kind, error.message, error.traceback, info.attempts)
    if info.state is State.REVOKED:
        raise TaskRevoked(info.id, info.revoked_reason or "cancelled")
    raise TaskUnknown(info.id)


def _value(waited: Waited, task_id: str, timeout: float, propagate: bool) -> Any:
    info = waited.tasks[0]
    if not waited.satisfied and not info.state.is_ended and info.is_known:
        raise TaskNotEnded(task_id, str(info.state), timeout)
    try:
        return value_of(info)
    except (TaskFailed, TaskRevoked) as error:
        if propagate:
            raise
        return error


def _check_forgotten(outcomes: list[CeleriacError | None]) -> None:
    if outcomes[0] is not None:
        raise outcomes[0]
