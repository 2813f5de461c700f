"""Runs one handler: reads the arguments, calls the function, and makes the report of its end.

This module decides what a run's end means. The pools decide where a handler runs.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from celeriac import _codec as wire
from celeriac._around import awaited, get_around
from celeriac.context import Context, Delivered, enter, leave
from celeriac.control import Ignore, Reject, Retry, TaskCancelled
from celeriac.errors import CeleriacError, ResultTooLarge
from celeriac.middleware import Middleware
from celeriac.middleware import call as call_hook
from celeriac.payload import NotEncodable, codec_for
from celeriac.task import Task

log = logging.getLogger("celeriac.worker")

#: The report of a run's end: one of the members of `TaskReport.report`.
End = wire.Complete | wire.Fail | wire.RetryLater | wire.Release | wire.Reject

#: The most bytes of a message or a traceback that the broker keeps.
TEXT_BYTES_MAX = 16 * 1024

#: The longest kind of an error.
KIND_BYTES_MAX = 255

#: The longest span that the broker takes, a hundred years.
SPAN_MS_MAX = 100 * 365 * 24 * 3_600_000

Tasks = Mapping[str, Task[..., Any]]


class Execution:
    """Runs the handlers of some tasks. An eager run shares the connections of its caller, so
    nothing is done around it."""

    def __init__(
        self,
        tasks: Tasks,
        result_bytes_max: int = 1 << 20,
        *,
        middleware: Sequence[Middleware] = (),
        is_eager: bool = False,
    ) -> None:
        self.tasks = tasks
        self.middleware = middleware
        self._is_eager = is_eager
        self.result_bytes_max = result_bytes_max

    def run(self, delivered: Delivered, context: Context, drive: Callable[[Any], Any]) -> End:
        """Runs a handler to its end. `drive` awaits what an `async def` returns."""
        task = self.tasks.get(delivered.name)
        if task is None:
            return unknown_task(delivered.name)
        token = enter(context)
        around = None if self._is_eager else get_around()
        try:
            if self.middleware:
                call_hook(self.middleware, "before", context)
            args, kwargs = arguments(task, delivered, context)
            if task.is_async:
                call = task.function(*args, **kwargs)
                value = drive(call if around is None else awaited(around, call))
            elif around is None:
                value = task.function(*args, **kwargs)
            else:
                with around.function():
                    value = task.function(*args, **kwargs)
            return self._success(task, value, context)
        except BaseException as error:
            return self._failure(task, context, error)
        finally:
            leave(token)

    async def run_async(self, delivered: Delivered, context: Context) -> End:
        """Runs an `async def` to its end. Each run is an asyncio task, with a context of its own,
        so that the current `Context` of one run does not show in another."""
        task = self.tasks[delivered.name]
        enter(context)
        try:
            if self.middleware:
                call_hook(self.middleware, "before", context)
            args, kwargs = arguments(task, delivered, context)
            call = task.function(*args, **kwargs)
            around = get_around()
            value = await (call if around is None else awaited(around, call))
            return self._success(task, value, context)
        except BaseException as error:
            return self._failure(task, context, error)

    def _success(self, task: Task[..., Any], value: Any, context: Context) -> End:
        """The report of a handler that returned, unless nobody could read its value."""
        error: CeleriacError
        try:
            result = task.codec.encode_result(value)
        except Exception as raised:
            kind, message = "invalid_result", f"the result cannot be written: {raised}"
            error = raised if isinstance(raised, CeleriacError) else NotEncodable("$", str(raised))
        else:
            if len(result) <= self.result_bytes_max:
                self._succeeded(task, context)
                return wire.Complete(result=result, content_type=task.codec.content_type)
            kind = "result_too_large"
            message = f"the result has {len(result)} bytes, and {self.result_bytes_max} are allowed"
            error = ResultTooLarge(message)
        log.warning("%s [%s]: %s", task.name, context.task_id, message)
        if self.middleware:
            self._call_after("after_failure", context, error)
        return final_failure(kind, message)

    def _succeeded(self, task: Task[..., Any], context: Context) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s [%s] succeeded in %.3f s", task.name, context.task_id, context.elapsed)
        if self.middleware:
            self._call_after("after_success", context)

    def _failure(self, task: Task[..., Any], context: Context, error: BaseException) -> End:
        """The report of a handler that raised."""
        report = failure(task, context, error)
        if self.middleware:
            if isinstance(report, wire.Complete):
                self._call_after("after_success", context)
            elif context.is_dropped:
                self._call_after("after_drop", context)
            elif _may_run_again(report, context):
                self._call_after("after_retry", context, error)
            else:
                self._call_after("after_failure", context, error)
        return report

    def _call_after(self, hook: str, context: Context, *error: BaseException) -> None:
        """Calls the hooks of a run's end."""
        elapsed = context.elapsed
        call_hook(self.middleware, hook, context, *error, elapsed)
        call_hook(self.middleware, "after", context, elapsed)


def _may_run_again(report: End, context: Context) -> bool:
    if isinstance(report, wire.Fail):
        return not report.final and not context.is_last_attempt
    return isinstance(report, wire.RetryLater)


def arguments(
    task: Task[..., Any], delivered: Delivered, context: Context
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments for the function, with the context where the function takes it."""
    kind = delivered.content_type
    codec = task.codec if kind == task.codec.content_type else codec_for(kind)
    args, kwargs = codec.decode_call(delivered.payload)
    task.check_arguments(args, kwargs)
    return task.with_context(args, kwargs, context) if task.arity.context else (args, kwargs)


def failure(task: Task[..., Any], context: Context, error: BaseException) -> End:
    """The report of a handler that raised."""
    if isinstance(error, Ignore):
        return wire.Complete(result_ttl_ms=0)
    told = task_error(error)
    if isinstance(error, Exception) and _is_of_arguments(error):
        told.kind, told.traceback = "invalid_arguments", ""
        log.warning("%s [%s] got wrong arguments: %s", task.name, context.task_id, told.message)
        return wire.Fail(error=told, final=True)
    if isinstance(error, Reject):
        log.warning("%s [%s] rejected its task: %s", task.name, context.task_id, told.message)
        return wire.Reject(error=told)
    if isinstance(error, Retry):
        log.info("%s [%s] asks for another attempt: %s", task.name, context.task_id, told.message)
        after_ms = None
        if error.countdown is not None:
            after_ms = min(round(error.countdown * 1000), SPAN_MS_MAX)
        return wire.RetryLater(after_ms=after_ms, error=told)
    if context.cancelled and _is_stop(error):
        log.info("%s [%s] stopped, as it was asked to", task.name, context.task_id)
        return wire.Fail(error=told, final=True)
    final = not task.is_retryable(error)
    is_last = final or context.is_last_attempt
    # The traceback of an attempt that is repeated would only make the log long.
    log.log(
        logging.ERROR if is_last else logging.WARNING,
        "%s [%s] failed in attempt %d of %d: %s: %s",
        task.name,
        context.task_id,
        context.attempt,
        context.attempts_max,
        told.kind,
        told.message,
        exc_info=error if is_last or log.isEnabledFor(logging.DEBUG) else None,
    )
    return wire.Fail(error=told, final=final)


def final_failure(kind: str, message: str) -> wire.Fail:
    """A failure that another attempt would not change."""
    return wire.Fail(error=wire.TaskError(kind=kind, message=message), final=True)


def unforeseen(error: BaseException) -> wire.Fail:
    """The report of a run that ended outside its handler, in a way that nobody foresaw."""
    told = task_error(error)
    log.error(
        "A run ended outside its handler: %s: %s\n%s", told.kind, told.message, told.traceback
    )
    return wire.Fail(error=told)


def leave_fork(task_id: str) -> None:
    """Ends a process that a handler forked and that came back from the handler. It has copies of
    the worker's connections, and must not use them."""
    with suppress(Exception):
        log.error("A process that the task %s forked came back from the handler. It ends.", task_id)
    os._exit(1)


def unknown_task(name: str) -> wire.Fail:
    """The report of a delivery whose name this worker does not know."""
    return final_failure("unknown_task", f"this worker has no task {name!r}")


def task_error(error: BaseException) -> wire.TaskError:
    """An exception as the broker keeps it. Code of the user makes the texts, so it may fail too,
    in every way."""
    try:
        message = str(error)
    except BaseException:
        message = "(the error cannot be shown: its __str__ failed)"
    try:
        # The first frame is the one above, in this module.
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        text = ""
    return wire.TaskError(
        kind=_cut(type(error).__name__, KIND_BYTES_MAX),
        message=_cut(message, TEXT_BYTES_MAX),
        traceback=_end_of(text, TEXT_BYTES_MAX),
    )


def _is_stop(error: BaseException) -> bool:
    """Whether this is how a handler ends that was asked to stop. The import of asyncio, which has
    one of the two, takes longer than that of this package."""
    return isinstance(error, TaskCancelled) or type(error).__name__ == "CancelledError"


def _is_of_arguments(error: BaseException) -> bool:
    """Whether `arguments` raised the error, and not the handler. A codec of the user may raise
    anything."""
    trace = error.__traceback__
    trace = trace.tb_next if trace else None
    return trace is not None and trace.tb_frame.f_code is arguments.__code__


def _cut(text: str, bytes_max: int) -> str:
    return _decoded(text.encode(errors="replace")[:bytes_max])


def _end_of(text: str, bytes_max: int) -> str:
    """The end of a traceback is what a person reads first."""
    data = text.encode(errors="replace")
    return _decoded(data if len(data) <= bytes_max else b"...\n" + data[4 - bytes_max :])


def _decoded(data: bytes) -> str:
    return data.decode(errors="ignore")
