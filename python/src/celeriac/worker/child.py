"""The program of a child process: runs the tasks that its parent gives it, one after the other.

Three threads are in it. The main thread runs the handlers, so that a soft time limit can be raised
in them. The control thread reads what concerns a handler that runs, and ends the process when its
parent is gone. A timer sends progress that came too soon after the last.
"""

from __future__ import annotations

import contextlib
import logging
import marshal
import os
import signal
import socket
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from celeriac import _codec as wire
from celeriac.app import Celeriac, known_apps
from celeriac.context import SOFT_LIMIT, Context, Delivered
from celeriac.control import SoftTimeLimitExceeded
from celeriac.task import Task
from celeriac.worker.execution import Execution, failure, leave_fork, unforeseen
from celeriac.worker.loading import LoadError, load
from celeriac.worker.logs import set_up_logs
from celeriac.worker.reports import END, PROGRESS, PROGRESS_INTERVAL, encoded
from celeriac.worker.shared import Shared

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("celeriac.worker")

#: Results wait at most this long for each other, in seconds, while tasks are short.
_GATHER_SECONDS = 0.001

#: How long a child without a task may take to end after its parent is gone.
_EXIT_SECONDS = 2.0

#: The code of a process that could not import the tasks.
IMPORT_FAILED = 3

#: The signal by which the control thread interrupts the main thread.
_SOFT_LIMIT_SIGNAL = signal.SIGUSR1


class Child:
    """One child process."""

    def __init__(self, tasks: socket.socket, control: socket.socket, memory: int) -> None:
        self._tasks = tasks
        self._control = control
        self._shared = Shared(memory)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        """Guards what is gathered to be sent, and the writing itself."""
        self._items: list[tuple[int, int, int, bytes, float]] = []
        self._sent_at = 0.0
        self._context: Context | None = None
        """The context of the handler that runs."""
        self._asked: dict[int, int] = {}
        """What was asked of tasks that have not begun."""
        self._progress_at = 0.0
        self._late_progress: tuple[int, bytes] | None = None
        self._events: asyncio.AbstractEventLoop | None = None
        self._execution = Execution({})
        self._app: Celeriac

    def run(self) -> None:
        """Imports the tasks, and runs what the parent sends until the end of the pipe."""
        setup = marshal.loads(_receive(self._tasks) or _leave())
        sys.path[:] = setup["path"]
        set_up_logs(setup["level"])
        self._execution.result_bytes_max = setup["result_bytes_max"]
        threading.Thread(target=self._listen, name="celeriac-control", daemon=True).start()
        self._app, tasks = tasks_of(setup)
        self._execution.tasks = tasks
        self._execution.middleware = self._app.middleware
        self._send(("ready",))
        while (message := _receive(self._tasks)) is not None:
            self._run_message(marshal.loads(message))

    def _run_message(self, message: list[tuple[int, tuple[Any, ...]]]) -> None:
        shared = self._shared
        for place, (number, fields) in enumerate(message):
            before = shared.begun
            # The order of these two lines is a promise, see `shared`.
            shared.begun = number
            if number > shared.limit:
                shared.begun = before
                self._flush([following for following, _ in message[place:]])
                return
            begun_at = monotonic()
            if self._items and begun_at - self._sent_at > _GATHER_SECONDS:
                self._flush()
            data = self._run_task(Delivered(*fields))
            item = (number, fields[1], END, data, monotonic() - begun_at)
            with self._lock:
                self._items.append(item)
        self._flush()

    def _run_task(self, delivered: Delivered) -> bytes:
        context = Context(delivered, self._app, self._progress)
        self._context = context
        if self._asked:
            context.asked = self._asked.pop(delivered.lease, 0)
        report: Any
        try:
            report = self._execution.run(delivered, context, self._drive)
        except SoftTimeLimitExceeded as error:
            # The signal came while the handler was being left.
            report = failure(self._execution.tasks[delivered.name], context, error)
        except BaseException as error:
            report = unforeseen(error)
        finally:
            self._context = None
        if os.getpid() != self._pid:
            leave_fork(delivered.id)
        self._gather_late_progress()
        return encoded(delivered.id, delivered.lease, report).data

    def _drive(self, awaitable: Any) -> Any:
        """Runs an `async def` to its end, on an event loop that lives as long as the process."""
        import asyncio

        if self._events is None:
            self._events = asyncio.new_event_loop()
            asyncio.set_event_loop(self._events)
        try:
            value, error = self._events.run_until_complete(self._watched(awaitable))
        except BaseException:
            # Something else on the loop ended it. Nobody knows in what state it is.
            events, self._events = self._events, None
            with contextlib.suppress(RuntimeError):
                events.close()
            raise
        if error is not None:
            raise error
        return value

    async def _watched(self, awaitable: Any) -> tuple[Any, BaseException | None]:
        import asyncio

        from celeriac.worker.stoppable import Stoppable

        context = self._context
        assert context is not None
        run = Stoppable(self._own_outcome(awaitable, context.task_id))
        task = run.start(asyncio.get_running_loop())
        context.listen(run.ask_soon)
        try:
            outcome: tuple[Any, BaseException | None] = await task
            return outcome
        finally:
            context.listen(None)

    async def _own_outcome(self, awaitable: Any, task_id: str) -> tuple[Any, BaseException | None]:
        outcome = await _outcome(awaitable)
        if os.getpid() != self._pid:
            # From Python 3.14 on the event loop of a process that was forked goes no further.
            leave_fork(task_id)
        return outcome

    # What the parent gets.

    def _flush(self, unbegun: list[int] | None = None) -> None:
        """Sends the results that are gathered, and what was not begun at the parent's wish."""
        with self._lock:
            items, self._items = self._items, []
            self._sent_at = monotonic()
            if items or unbegun:
                _write(self._tasks, ("items", items, unbegun or []))

    def _send(self, message: Any) -> None:
        with self._lock:
            _write(self._tasks, message)

    def _progress(self, lease: int, state: str, meta: bytes) -> None:
        """Sends progress, at once or when its time has come."""
        context = self._context
        if context is None or context.lease != lease:
            return
        report = wire.ProgressReport(state=state, meta=meta)
        data = wire.TaskReport(id=context.task_id, lease=lease, report=report).encode()
        wait = self._progress_at + PROGRESS_INTERVAL - monotonic()
        if wait <= 0:
            self._progress_at = monotonic()
            self._late_progress = None
            self._send(("items", [(0, lease, PROGRESS, data, 0.0)], []))
            return
        has_timer = self._late_progress is not None
        self._late_progress = (lease, data)
        if not has_timer:
            timer = threading.Timer(wait, self._send_late_progress)
            timer.daemon = True
            timer.start()

    def _send_late_progress(self) -> None:
        with self._lock:
            late, self._late_progress = self._late_progress, None
            if late is not None:
                self._progress_at = monotonic()
                _write(self._tasks, ("items", [(0, late[0], PROGRESS, late[1], 0.0)], []))

    def _gather_late_progress(self) -> None:
        """The handler has ended: its newest progress goes before its end."""
        if self._late_progress is not None:
            with self._lock:
                late, self._late_progress = self._late_progress, None
                if late is not None:
                    self._items.append((0, late[0], PROGRESS, late[1], 0.0))

    # What the parent says while a handler runs.

    def _listen(self) -> None:
        """The control thread."""
        with contextlib.suppress(OSError):
            while (data := _receive(self._control)) is not None:
                message = marshal.loads(data)
                if message[0] == "flush":
                    self._flush()
                elif message[0] == "ask":
                    self._ask(message[1], message[2])
                elif message[0] == "result_bytes_max":
                    self._execution.result_bytes_max = message[1]
        # The parent is gone: nobody takes the result of a handler any more.
        if self._context is None:
            threading.Event().wait(_EXIT_SECONDS)
        os._exit(1)

    def _ask(self, lease: int, what: int) -> None:
        context = self._context
        if context is None or context.lease != lease:
            self._asked[lease] = what
            return
        context.ask(what)
        if what & SOFT_LIMIT and not context.is_listened:
            signal.pthread_kill(threading.main_thread().ident or 0, _SOFT_LIMIT_SIGNAL)

    def on_soft_limit(self, *_: object) -> None:
        """On the main thread, wherever it is: raises the soft limit in the handler that runs."""
        context = self._context
        if context is not None and not context.is_listened:
            context.check_soft_limit()


def main() -> None:
    """Runs a child with the descriptors of the command line."""
    tasks, control, memory = map(int, sys.argv[2:5])
    run_child(tasks, control, memory)


def run_child(tasks: int, control: int, memory: int) -> None:
    """Runs a child with these descriptors, until its parent closes the pipe."""
    child = Child(socket.socket(fileno=tasks), socket.socket(fileno=control), memory)
    os.close(memory)
    # A signal to the whole group is for the parent, which decides what becomes of its children. A
    # handler that does nothing, unlike SIG_IGN, is not passed on to programs of a task.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: None)
    signal.signal(_SOFT_LIMIT_SIGNAL, child.on_soft_limit)
    try:
        child.run()
    except LoadError as error:
        print(error, file=sys.stderr)
        raise SystemExit(IMPORT_FAILED) from None
    except OSError:
        # The parent is gone.
        raise SystemExit(1) from None


def tasks_of(setup: dict[str, Any]) -> tuple[Celeriac, dict[str, Task[..., Any]]]:
    """Imports the modules, and finds the app that has the tasks."""
    modules = setup["modules"]
    if any(":" in module for module in modules):
        app = load(modules)
    else:
        load_all(modules)
        apps = known_apps()
        names = set(setup["names"])
        app = max(apps, key=lambda app: len(names & app.tasks.keys())) if apps else load(modules)
    app.url = setup["url"]
    tasks: dict[str, Task[..., Any]] = {}
    for each in known_apps():
        tasks.update(each.tasks)
    tasks.update(app.tasks)
    return app, tasks


def load_all(modules: list[str]) -> None:
    """Imports modules that may have one app together."""
    from celeriac.worker.loading import import_module

    for module in modules:
        import_module(module)


async def _outcome(awaitable: Any) -> tuple[Any, BaseException | None]:
    """The value or the error. asyncio throws SystemExit and KeyboardInterrupt out of its loop, so
    they do not reach it."""
    try:
        return await awaitable, None
    except BaseException as error:
        return None, error


def _write(sock: socket.socket, message: Any) -> None:
    data = marshal.dumps(message)
    sock.sendall(len(data).to_bytes(4, "big") + data)


def _receive(sock: socket.socket) -> bytes | None:
    """The next message; None at the end of the stream."""
    head = _exactly(sock, 4)
    return None if head is None else _exactly(sock, int.from_bytes(head, "big"))


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    data = sock.recv(size, socket.MSG_WAITALL)
    if len(data) == size:
        return data
    parts = bytearray(data)
    while len(parts) < size:
        data = sock.recv(size - len(parts))
        if not data:
            return None
        parts += data
    return bytes(parts)


def _leave() -> bytes:
    raise SystemExit(1)
