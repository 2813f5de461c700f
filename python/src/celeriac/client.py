"""`Client`: submits tasks and looks at them, with blocking calls. `AsyncClient` in `aio` has the
same methods for asyncio."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import TypeVar

from celeriac import _codec, _reading, _submitting
from celeriac._calls import Call
from celeriac._flow import Flow, drive, opened
from celeriac._hello import hello_of
from celeriac._link import Link
from celeriac._pipeline import Pipeline
from celeriac._submitting import Batch
from celeriac._values import keys, seconds
from celeriac._watching import WatchedStates
from celeriac.admin import Admin
from celeriac.cancel import Cancelled, CancelMode
from celeriac.errors import CeleriacError
from celeriac.info import State, TaskInfo, info_of
from celeriac.options import TaskOptions
from celeriac.submission import NO_OPTIONS, Submission, Submitted
from celeriac.url import BrokerUrl, broker_url
from celeriac.waiting import Waited, WaitMode

_T = TypeVar("_T")


class Client:
    """A client of one broker.

    The client connects at its first call, and again whenever the connection breaks. It is safe
    for threads and after `fork`: threads share one connection, and a child process opens its own.
    It starts no thread. Every call ends within its `timeout`, in seconds.

    `url` is `celeriac://:token@host:port`. Without it `CELERIAC_URL` counts; without a token in
    the URL, the file that `CELERIAC_TOKEN_FILE` names, or else `CELERIAC_TOKEN`.

    >>> from celeriac import Client, Submission, TaskOptions
    >>> Client("celeriac://:s3cret@broker.example")
    <Client of celeriac://***@broker.example:23537>
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
        self._link = Link(
            self._url,
            hello_of(self._url, instance),
            seconds("connect_timeout", connect_timeout, 10),
        )
        self._batches = _Batches()
        self.admin = Admin(_Ask(self._link, self._timeout))
        """The requests of operators."""

    def connect(self, *, timeout: float | None = None) -> None:
        """Connects now, in place of at the first call. Raises what keeps the client from it."""
        deadline = time.monotonic() + self._seconds(timeout)
        call = Call.opening(deadline)
        self._link.post([call])
        self._link.run([call])
        call.result(_codec.Welcome)

    def close(self) -> None:
        """Ends the connection. Later calls raise `ClientClosed`."""
        self._link.close()

    @property
    def url(self) -> BrokerUrl:
        """The address of the broker. Its text does not show the token."""
        return self._url

    def __repr__(self) -> str:
        return f"<Client of {self._url}>"

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

        >>> client.submit("songs.cluster", b'[["Dynamite"],{}]', task_id="user-1").kind
        <SubmitKind.CREATED: 1>
        >>> client.submit("songs.cluster", b'[["Dynamite"],{}]', task_id="user-1").kind
        <SubmitKind.JOINED: 2>
        """
        exchange = self._link.exchange
        options = NO_OPTIONS if options is None else options
        data, submitted, is_minted = _submitting.encoded(
            exchange, name, payload, options, task_id, content_type
        )
        pipeline = self._batches.current
        if pipeline is not None:
            self._drive(pipeline.add(exchange, data, submitted, is_minted=is_minted))
            return submitted
        batch = Batch(time.monotonic() + self._seconds(timeout))
        batch.add(data, submitted, is_minted=is_minted)
        return self._drive(_submitting.submit_one(batch, exchange))

    def submit_many(
        self, submissions: Iterable[Submission], *, timeout: float | None = None
    ) -> list[Submitted | CeleriacError]:
        """Submits many tasks. The list has the outcome of each, in order: one that was refused has
        its error, and the others hold.

        >>> songs = TaskOptions(queue="songs")
        >>> outcomes = client.submit_many(
        ...     Submission("songs.cluster", b'[[%d],{}]' % number, songs) for number in range(500)
        ... )
        >>> [outcome for outcome in outcomes if isinstance(outcome, CeleriacError)]
        []
        """
        exchange = self._link.exchange
        return self._drive(_submitting.submit_many(exchange, submissions, self._seconds(timeout)))

    @contextmanager
    def _batch(self, timeout: float) -> Iterator[None]:
        before = self._batches.current
        pipeline = Pipeline(timeout)
        self._batches.current = pipeline
        try:
            yield
        except BaseException:
            # What was submitted before the error is submitted all the same. The error of the block
            # counts before those of the tasks.
            self._batches.current = before
            with suppress(CeleriacError):
                self._drive(pipeline.flush(self._link.exchange))
            raise
        self._batches.current = before
        self._drive(pipeline.flush(self._link.exchange))

    def batch(self, *, timeout: float | None = None) -> AbstractContextManager[None]:
        """Within this block `submit` of this thread does not wait for answers: the client sends
        the tasks together. The end of the block waits for all answers, and raises `BatchFailed`
        when some tasks were refused.

        >>> with client.batch():
        ...     submitted = [client.submit("songs.cluster") for _ in range(1000)]
        >>> submitted[-1].state
        <State.QUEUED: 'QUEUED'>
        """
        return self._batch(self._seconds(timeout))

    def flush(self) -> None:
        """Within `batch()`: sends what was submitted, and waits for the answers. Raises
        `BatchFailed` when some tasks were refused."""
        pipeline = self._batches.current
        if pipeline is not None:
            self._drive(pipeline.flush(self._link.exchange))

    def get(
        self,
        task_id: str,
        *,
        with_result: bool = False,
        with_payload: bool = False,
        timeout: float | None = None,
    ) -> TaskInfo:
        """What the broker knows of one task; its state is UNKNOWN when there is none.

        >>> submitted = client.submit("songs.cluster", task_id="user-2")
        >>> client.get("user-2").state
        <State.QUEUED: 'QUEUED'>
        >>> client.get("nobody-submitted-this").state
        <State.UNKNOWN: 'UNKNOWN'>
        """
        found = self.info(
            [task_id],
            with_results=with_result,
            with_payloads=with_payload,
            timeout=timeout,
        )
        return found[0]

    def info(
        self,
        task_ids: Iterable[str],
        *,
        with_results: bool = False,
        with_payloads: bool = False,
        timeout: float | None = None,
    ) -> list[TaskInfo]:
        """The same for many tasks, in the order of the ids."""
        return self._drive(
            _reading.get(
                self._link.exchange,
                keys("task_ids", task_ids),
                self._seconds(timeout),
                with_results=with_results,
                with_payloads=with_payloads,
            )
        )

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

        >>> submitted = client.submit("songs.cluster", task_id="user-5")
        >>> client.wait(["user-5"], timeout=0.1).satisfied
        False
        """
        return self._drive(
            _reading.wait(
                self._link.exchange,
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
    ) -> Iterator[TaskInfo]:
        """The present state of each task, and then each change as it happens.

        The iterator ends when all tasks have ended; one of a task that does not exist yet waits
        for it. It goes on over a lost connection. Without `timeout` it may take any time; else it
        raises `DeadlineExceeded` when the time is over.

        >>> submitted = client.submit("songs.cluster", task_id="user-6")
        >>> for info in client.watch("user-6", timeout=10):
        ...     print(info.state)
        ...     if info.state == "QUEUED":
        ...         cancelled = client.cancel("user-6", reason="the user left")
        QUEUED
        REVOKED
        """
        states = WatchedStates(keys("task_ids", task_ids), with_results=with_results)
        return self._watch(states, None if timeout is None else self._seconds(timeout))

    def _watch(self, states: WatchedStates, timeout: float | None) -> Iterator[TaskInfo]:
        deadline = _reading.watch_deadline(timeout)
        begin_by = min(deadline, time.monotonic() + self._timeout)
        if not states.ids:
            return
        try:
            self._drive(opened(self._link.exchange, begin_by))
            self._link.run(self._link.begin_watch(states, begin_by))
            while (info := self._link.next_state(states, deadline)) is not None:
                yield info_of(info)
        finally:
            self._link.end_watch(states)

    def cancel(
        self,
        task_ids: Iterable[str] | str,
        *,
        mode: CancelMode = CancelMode.COOPERATIVE,
        grace: float | None = None,
        reason: str = "",
        timeout: float | None = None,
    ) -> list[Cancelled]:
        """Cancels tasks. The list has an outcome for each id, in order.

        >>> submitted = client.submit("songs.cluster", task_id="user-4")
        >>> [cancelled.kind.name for cancelled in client.cancel(["user-4", "nobody"])]
        ['REVOKED', 'NOT_FOUND']
        """
        return self._cancel(keys("task_ids", task_ids), mode, grace, reason, timeout)

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
        selected = _codec.Cancel(root_id=keys("root_id", root_id)[0])
        return self._cancel(selected, mode, grace, reason, timeout)

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
        selected = _codec.Cancel(tag=keys("tag", tag)[0])
        return self._cancel(selected, mode, grace, reason, timeout)

    def _cancel(
        self,
        selected: list[str] | _codec.Cancel,
        mode: CancelMode,
        grace: float | None,
        reason: str,
        timeout: float | None,
    ) -> list[Cancelled]:
        return self._drive(
            _reading.cancel(
                self._link.exchange,
                selected,
                self._seconds(timeout),
                mode=mode,
                grace=grace,
                reason=reason,
            )
        )

    def forget(
        self, task_ids: Sequence[str] | str, *, timeout: float | None = None
    ) -> list[CeleriacError | None]:
        """Drops ended tasks and their results. The list has None for each task that is gone, or
        the reason why it is not.

        >>> submitted = client.submit("songs.cluster", task_id="user-3")
        >>> cancelled = client.cancel("user-3")
        >>> client.forget(["user-3"])
        [None]
        """
        ids = keys("task_ids", task_ids)
        return self._drive(_reading.forget(self._link.exchange, ids, self._seconds(timeout)))

    def _seconds(self, timeout: float | None) -> float:
        return seconds("timeout", timeout, self._timeout)

    def _drive(self, flow: Flow[_T]) -> _T:
        return drive(self._link, flow)


class _Ask:
    """Runs the flows of operators' requests. It does not know the client: in a circle of objects
    the garbage collector would end the sockets before the link."""

    def __init__(self, link: Link, timeout: float) -> None:
        self._link = link
        self._timeout = timeout

    def __call__(self, flow: Callable[[float], Flow[_T]], timeout: float | None) -> _T:
        within = seconds("timeout", timeout, self._timeout)
        return drive(self._link, flow(time.monotonic() + within))


class _Batches(threading.local):
    """The block of `batch()` in which this thread is."""

    current: Pipeline | None = None
