"""Runs a task of `django.tasks` in a worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from traceback import format_exception
from typing import Any

from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.tasks.signals import task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json

from celeriac.context import current_context
from celeriac.control import Reject
from celeriac.django.project import project_app
from celeriac.django.results import HEADER, waiting_result, with_header, workers_of

#: The tasks of this process by name. Each has a task of the app with the same name.
_tasks: dict[str, Task] = {}


def register(task: Task) -> None:
    """Makes a task of the app, so that a worker of this process can run it."""
    name = task.module_path
    known = _tasks.get(name)
    if known is not None and known.func is task.func:
        return
    _tasks[name] = task
    if known is None:
        runner = _coroutine_of(name) if iscoroutinefunction(task.func) else _function_of(name)
        # A child process imports the module of the user's function.
        runner.__module__, runner.__qualname__ = task.func.__module__, task.func.__qualname__
        project_app().task(name=name, queue=task.queue_name)(runner)


def _function_of(name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        task, result = _begun(name, args, kwargs)
        sender = type(task.get_backend())
        task_started.send(sender, task_result=result)
        try:
            value = normalize_json(task.call(*_places(task, result), **result.kwargs))
        except BaseException as error:
            if _note_error(result, error):
                task_finished.send(sender, task_result=result)
            raise
        _note_value(result, value)
        task_finished.send(sender, task_result=result)
        return value

    return run


def _coroutine_of(name: str) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        task, result = _begun(name, args, kwargs)
        sender = type(task.get_backend())
        await task_started.asend(sender, task_result=result)
        try:
            value = normalize_json(await task.acall(*_places(task, result), **result.kwargs))
        except BaseException as error:
            if _note_error(result, error):
                await task_finished.asend(sender, task_result=result)
            raise
        _note_value(result, value)
        await task_finished.asend(sender, task_result=result)
        return value

    return run


def _begun(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Task, TaskResult]:
    """The task as it was enqueued, and its result while it runs."""
    context = current_context()
    assert context is not None, "a worker calls this function, and sets the context"
    task = _tasks[name]
    header = context.headers.get(HEADER)
    if header is not None:
        task = with_header(task, header, queue=context.queue, alias=task.backend)
    result = waiting_result(task, args, kwargs, task.backend)
    now = timezone.now()
    worker = f"{socket.gethostname()}-{os.getpid()}"
    _set(
        result,
        id=context.task_id,
        status=TaskResultStatus.RUNNING,
        enqueued_at=context.submitted_at,
        started_at=now,
        last_attempted_at=now,
        worker_ids=workers_of(worker, context.attempt),
    )
    return task, result


def _places(task: Task, result: TaskResult) -> list[Any]:
    """The arguments by place, behind Django's context where the task takes it."""
    return [TaskContext(task_result=result), *result.args] if task.takes_context else result.args


def _note_error(result: TaskResult, error: BaseException) -> bool:
    """Notes the error of the attempt. Returns whether the task has ended with it."""
    kind = type(error)
    result.errors.append(
        TaskError(
            exception_class_path=f"{kind.__module__}.{kind.__qualname__}",
            traceback="".join(format_exception(error)),
        )
    )
    context = current_context()
    is_end = context is None or context.is_last_attempt or isinstance(error, Reject)
    if is_end:
        _set(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
    return is_end


def _note_value(result: TaskResult, value: Any) -> None:
    _set(
        result,
        status=TaskResultStatus.SUCCESSFUL,
        finished_at=timezone.now(),
        _return_value=value,
    )


def _set(result: TaskResult, **fields: Any) -> None:
    # Django's results are frozen for users; its own backends set fields in this way too.
    for name, value in fields.items():
        object.__setattr__(result, name, value)
