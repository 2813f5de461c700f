"""The app: its tasks, its connection to the broker, and the results of its tasks."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from celeriac import _values
from celeriac.client import Client
from celeriac.context import lineage
from celeriac.errors import CeleriacError, WrongType
from celeriac.middleware import Middleware
from celeriac.options import TaskOptions
from celeriac.payload import JSON, Codec
from celeriac.submission import Submission
from celeriac.task import Errors, P, R, Task, changed, checked_call

if TYPE_CHECKING:
    import asyncio

    from celeriac.aio import AsyncClient
    from celeriac.eager import EagerClient
    from celeriac.result import Result
    from celeriac.worker import Worker

F = TypeVar("F", bound=Callable[..., Any])

#: The tasks that `shared_task` made. They belong to every app.
_shared: dict[str, Task[..., Any]] = {}
_latest: Celeriac | None = None

#: The apps of this program. A child process of a worker finds its app among them.
_apps: weakref.WeakSet[Celeriac] = weakref.WeakSet()


class Celeriac:
    """An app: the tasks of a program, and the broker that it uses.

    >>> app = Celeriac("celeriac://127.0.0.1:23537", queue="songs")
    >>> @app.task(name="songs.shout")
    ... def shout(word: str) -> str:
    ...     return word.upper()
    >>> shout("hey")
    'HEY'

    Without `url` the environment counts: `CELERIAC_URL`, and `CELERIAC_TOKEN_FILE` or
    `CELERIAC_TOKEN`. `queue` and `codec` are those of tasks that name none. `timeout` is the time
    of each call in seconds. `middleware` has hooks around every run in a worker of this app. Making
    an app does not connect; the first call does.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        queue: str = "",
        codec: str | Codec = "json",
        timeout: float = 30.0,
        instance: str | None = None,
        middleware: Iterable[Middleware] = (),
    ) -> None:
        global _latest
        self.url = url
        self.queue = queue
        self.codec = codec
        self.timeout = timeout
        self.instance = instance
        self.middleware = list(middleware)
        for each in self.middleware:
            _values.instance("middleware", each, Middleware)
        """Called around every run of a task in a worker of this app. It may be added to until the
        worker begins."""
        self._tasks: dict[str, Task[..., Any]] = {}
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._eager: EagerClient | None = None
        self._async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = (
            weakref.WeakKeyDictionary()
        )
        _latest = self
        _apps.add(self)

    @property
    def tasks(self) -> dict[str, Task[..., Any]]:
        """The tasks by name, with those of `shared_task`."""
        return {**_shared, **self._tasks}

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        codec: str | Codec | None = None,
        retry_for: Errors = Exception,
        no_retry_for: Errors = (),
        ignore_result: bool = False,
        **options: Any,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, function: Any = None, /, **settings: Any) -> Any:
        """Makes a task of a function.

        - `name` is the name of the task; by default the module and the function's name.
        - `retry_for` are the exceptions after which the task runs again while it has attempts left;
          by default every `Exception`. `no_retry_for` are exceptions to that.
        - `codec` is `json`, `bytes`, `msgpack`, or an object of your own.
        - `ignore_result` drops the task at its success.
        - The other options are those of `celeriac.TaskOptions`.
        """

        def decorate(function: Callable[..., Any]) -> Task[..., Any]:
            made = _make(self, function, settings)
            if made.name in self._tasks and not _is_same(self._tasks[made.name], made):
                raise WrongType(
                    f"Two functions are the task {made.name!r}; give one of them another name."
                )
            self._tasks[made.name] = made
            return made

        return decorate if function is None else decorate(function)

    @property
    def client(self) -> Client:
        """The client of this app. All threads share it."""
        if self._eager is not None:
            return self._eager
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = Client(self.url, timeout=self.timeout, instance=self.instance)
        return self._client

    @property
    def async_client(self) -> AsyncClient:
        """The client for the event loop that runs here."""
        if self._eager is not None:
            return self._eager.for_asyncio()
        import asyncio

        loop = asyncio.get_running_loop()
        with self._lock:
            client = self._async_clients.get(loop)
            if client is None:
                from celeriac.aio import AsyncClient

                client = AsyncClient(self.url, timeout=self.timeout, instance=self.instance)
                self._async_clients[loop] = client
        return client

    def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        codec: Codec = JSON,
        **options: Any,
    ) -> Result:
        """Submits a task by its name, of whatever program its function is."""
        return self.submit(self._by_name(name, args, kwargs, codec, options), codec)

    async def asend_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        codec: Codec = JSON,
        **options: Any,
    ) -> Result:
        """`send_task` for asyncio."""
        return await self.asubmit(self._by_name(name, args, kwargs, codec, options), codec)

    def submit(self, submission: Submission, codec: Codec = JSON) -> Result:
        """Submits one task that `Task.submission` made."""
        from celeriac.result import Result

        name, payload, options, task_id, content_type = submission
        submitted = self.client.submit(
            name, payload, options=options, task_id=task_id, content_type=content_type
        )
        return Result(submitted.id, self, submitted)

    async def asubmit(self, submission: Submission, codec: Codec = JSON) -> Result:
        """`submit` for asyncio."""
        from celeriac.result import Result

        name, payload, options, task_id, content_type = submission
        submitted = await self.async_client.submit(
            name, payload, options=options, task_id=task_id, content_type=content_type
        )
        return Result(submitted.id, self, submitted)

    def submit_many(self, submissions: Iterable[Submission]) -> list[Result | CeleriacError]:
        """Submits many tasks at once. The list has for each task, in order, its result, or the
        error because of which the broker does not have it.

        >>> results = app.submit_many(shout.submission((word,)) for word in words)  # doctest: +SKIP
        """
        from celeriac.result import Result

        return [
            outcome if isinstance(outcome, CeleriacError) else Result(outcome.id, self, outcome)
            for outcome in self.client.submit_many(submissions)
        ]

    async def asubmit_many(self, submissions: Iterable[Submission]) -> list[Result | CeleriacError]:
        """`submit_many` for asyncio."""
        from celeriac.result import Result

        return [
            outcome if isinstance(outcome, CeleriacError) else Result(outcome.id, self, outcome)
            for outcome in await self.async_client.submit_many(submissions)
        ]

    def batch(self) -> AbstractContextManager[None]:
        """Within this block the submits of this thread do not wait for the broker: they are sent
        together. The end of the block waits for all answers, and raises `BatchFailed` when the
        broker did not take some of them."""
        return self.client.batch()

    def abatch(self) -> AbstractAsyncContextManager[None]:
        """`batch` for asyncio: `async with app.abatch()`, and `adelay` within it."""
        return self.async_client.batch()

    def result(self, task_id: str) -> Result:
        """The result of a task of any program, by its id. This call sends nothing."""
        from celeriac.result import Result

        return Result(task_id, self)

    @contextmanager
    def eager(self) -> Iterator[EagerClient]:
        """Within this block submits run their tasks at once, in this process and without a broker.

        Arguments and results are written and read as with a broker. A task that fails runs again
        without a pause, as often as it may.
        """
        from celeriac.eager import EagerClient

        before, self._eager = self._eager, EagerClient(self)
        try:
            yield self._eager
        finally:
            self._eager = before

    def worker(self, **settings: Any) -> Worker:
        """A worker for the tasks of this app: `app.worker(concurrency=4, pool="threads").run()`."""
        from celeriac.worker import Worker

        return Worker(self, **settings)

    def close(self) -> None:
        """Ends the connection. The next call opens another one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Ends the connection of the event loop that runs here."""
        import asyncio

        with self._lock:
            client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def _by_name(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        codec: Codec,
        options: dict[str, Any],
    ) -> Submission:
        task_id = options.pop("task_id", None)
        if options.pop("ignore_result", False):
            options["result_ttl"] = 0
        root_id, parent_id = lineage()
        if parent_id:
            options = {"root_id": root_id, "parent_id": parent_id, **options}
        chosen = changed(TaskOptions(queue=self.queue), options)
        payload = codec.encode_call(*checked_call(args, kwargs))
        return Submission(name, payload, chosen, task_id, codec.content_type)


def current_app() -> Celeriac:
    """The app that was made last; one of the environment when there is none."""
    return _latest or Celeriac()


def known_apps() -> list[Celeriac]:
    """The apps that this program has made."""
    return list(_apps)


def shared_task(function: Callable[..., Any] | None = None, /, **settings: Any) -> Any:
    """Makes a task of a function in a library that has no app. The task belongs to every app, and
    is submitted through the one that was made last. The settings are those of `Celeriac.task`."""

    def decorate(function: Callable[..., Any]) -> Task[..., Any]:
        made = _make(None, function, settings)
        if made.name in _shared and not _is_same(_shared[made.name], made):
            raise WrongType(
                f"Two functions are the shared task {made.name!r}; give one of them another name."
            )
        _shared[made.name] = made
        return made

    return decorate if function is None else decorate(function)


def _make(
    app: Celeriac | None, function: Callable[..., Any], settings: dict[str, Any]
) -> Task[..., Any]:
    if not callable(function):
        raise WrongType(f"{function!r} is no function, so it cannot be a task.")
    given = dict(settings)
    name = given.pop("name", None) or f"{module_of(function)}.{function.__qualname__}"
    _values.key("name", name)
    own = {
        key: given.pop(key)
        for key in ("retry_for", "no_retry_for", "ignore_result")
        if key in given
    }
    codec = given.pop("codec", None) or (app.codec if app is not None else "json")
    if app is not None and app.queue:
        given.setdefault("queue", app.queue)
    if "task_id" in given:
        raise WrongType("task_id belongs to one submit, not to the task.")
    return Task(
        function, name=name, app=app, options=TaskOptions().replace(**given), codec=codec, **own
    )


def module_of(function: Callable[..., Any]) -> str:
    """The module of a function, under the name by which a worker imports it."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    path = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(path))[0] if path else "__main__"


def _is_same(before: Task[..., Any], now: Task[..., Any]) -> bool:
    """Whether a module was imported twice, and this is the same function again."""
    return (before.function.__module__, before.function.__qualname__) == (
        now.function.__module__,
        now.function.__qualname__,
    )
