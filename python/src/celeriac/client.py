"""`Client`: submits tasks and looks at them, with blocking calls. `AsyncClient` in `aio` has the
same methods for asyncio."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from celeriac.admin import Admin
from celeriac.info import State, TaskInfo
from celeriac.options import TaskOptions
from celeriac.submission import Submission, Submitted
from celeriac.cancel import CancelMode, Cancelled
from celeriac.waiting import Waited, WaitMode
from celeriac.errors import CeleriacError


class Client:
    """A client of one broker.

    The client connects at its first call, and again whenever the connection breaks. It is safe
    for threads and after `fork`: threads share one connection, and a child process opens its own.
    It starts no thread. Every call ends within its `timeout`, in seconds.

    `url` is `celeriac://:token@host:port`. Without it `CELERIAC_URL` counts; without a token in
    the URL, the file that `CELERIAC_TOKEN_FILE` names, or else `CELERIAC_TOKEN`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        instance: str | None = None,
    ) -> None:
        raise NotImplementedError

    admin: Admin
    """The requests of operators."""

    def connect(self, *, timeout: float | None = None) -> None:
        """Connects now, in place of at the first call. Raises what keeps the client from it."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the connection. Later calls raise `ClientClosed`."""
        raise NotImplementedError

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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
        """Submits one task, and returns when the broker has stored it.

        `task_id` counts before that of `options`. A refusal is raised. Within `batch()` the call
        returns at once, and the outcome is filled in at the end of the batch.
        """
        raise NotImplementedError

    def submit_many(
        self, submissions: Iterable[Submission], *, timeout: float | None = None
    ) -> list[Submitted | CeleriacError]:
        """Submits many tasks. The list has the outcome of each, in order: one that was refused has
        its error, and the others hold."""
        raise NotImplementedError

    def batch(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Within this block `submit` of this thread does not wait for answers: the client sends
        the tasks together. The end of the block waits for all answers, and raises `BatchFailed`
        when some tasks were refused."""
        raise NotImplementedError

    def flush(self, *, timeout: float | None = None) -> None:
        """Within `batch()`: sends what was submitted, and waits for the answers."""
        raise NotImplementedError

    def get(
        self,
        task_id: str,
        *,
        with_result: bool = False,
        with_payload: bool = False,
        timeout: float | None = None,
    ) -> TaskInfo:
        """What the broker knows of one task; its state is UNKNOWN when there is none."""
        raise NotImplementedError

    def info(
        self,
        task_ids: Iterable[str],
        *,
        with_results: bool = False,
        with_payloads: bool = False,
        timeout: float | None = None,
    ) -> list[TaskInfo]:
        """The same for many tasks, in the order of the ids."""
        raise NotImplementedError

    def wait(
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
        raise NotImplementedError

    def watch(
        self,
        task_ids: Iterable[str] | str,
        *,
        with_results: bool = False,
        timeout: float | None = None,
    ) -> Iterator[TaskInfo]:
        """The present state of each task, and then each change as it happens.

        The iterator ends when all tasks have ended; one of a task that does not exist yet waits
        for it. It goes on over a lost connection. Without `timeout` it may take any time; else it
        raises `DeadlineExceeded` when the time is over.
        """
        raise NotImplementedError

    def cancel(
        self,
        task_ids: Iterable[str] | str,
        *,
        mode: CancelMode = CancelMode.COOPERATIVE,
        grace: float | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> list[Cancelled]:
        """Cancels tasks. The list has an outcome for each id, in order."""
        raise NotImplementedError

    def cancel_tree(
        self,
        root_id: str,
        *,
        mode: CancelMode = CancelMode.COOPERATIVE,
        grace: float | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> list[Cancelled]:
        """Cancels the task `root_id` and every task whose `root_id` it is."""
        raise NotImplementedError

    def cancel_tagged(
        self,
        tag: str,
        *,
        mode: CancelMode = CancelMode.COOPERATIVE,
        grace: float | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> list[Cancelled]:
        """Cancels every task that has this tag."""
        raise NotImplementedError

    def forget(
        self, task_ids: Sequence[str] | str, *, timeout: float | None = None
    ) -> list[CeleriacError | None]:
        """Drops ended tasks and their results. The list has None for each task that is gone, or
        the reason why it is not."""
        raise NotImplementedError
