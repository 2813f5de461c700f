"""Shows a task of the broker as a result of `django.tasks`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.tasks import Task, TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.utils.module_loading import import_string

from celeriac import info as native
from celeriac.info import State, TaskInfo
from celeriac.payload import codec_for

#: A task of Django carries this header, with what Celeriac has no field for. A task without the
#: header is another program's, and its name is not imported.
HEADER = "django-task"

_STATUS = {
    State.STARTED: TaskResultStatus.RUNNING,
    State.SUCCESS: TaskResultStatus.SUCCESSFUL,
    State.FAILURE: TaskResultStatus.FAILED,
    State.REVOKED: TaskResultStatus.FAILED,
}
"""The status of each state. All other states wait, which is READY."""


def find_task(info: TaskInfo, alias: str) -> Task | None:
    """The task of Django whose run this is; None when it is not one of this program."""
    header = info.headers.get(HEADER)
    if header is None:
        return None
    try:
        found = import_string(info.name)
    except ImportError:
        return None
    if not isinstance(found, Task):
        return None
    return with_header(found, header, queue=info.queue, alias=alias)


def with_header(task: Task, header: bytes, *, queue: str, alias: str) -> Task:
    """The task as it was enqueued, with the options that `using` had changed."""
    kept = json.loads(header)
    run_after = kept["run_after"]
    return replace(
        task,
        backend=alias,
        priority=kept["priority"],
        queue_name=queue,
        run_after=None if run_after is None else datetime.fromisoformat(run_after),
    )


def waiting_result(
    task: Task, args: Sequence[Any], kwargs: Mapping[str, Any], alias: str
) -> TaskResult:
    """The result of a task that is being enqueued."""
    return TaskResult(
        task=task,
        id="",
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def result_of(
    info: TaskInfo, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any], alias: str
) -> TaskResult:
    """The result of a task that the broker knows."""
    result = TaskResult(
        task=task,
        id=info.id,
        status=_STATUS.get(info.state, TaskResultStatus.READY),
        enqueued_at=info.submitted_at,
        started_at=info.started_at,
        finished_at=info.finished_at,
        last_attempted_at=info.started_at,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=errors_of(info),
        worker_ids=workers_of(info.worker, info.attempts),
    )
    if info.state is State.SUCCESS:
        value = codec_for(info.result_content_type).decode_result(info.result)
        object.__setattr__(result, "_return_value", value)
    return result


def workers_of(worker: str, attempts: int) -> list[str]:
    """One name for each attempt: Django takes their number for the number of attempts. The broker
    keeps the latest worker only, so the names of earlier ones are empty."""
    return [""] * (attempts - 1) + [worker] if attempts else []


def errors_of(info: TaskInfo) -> list[TaskError]:
    """The errors of the attempts, the oldest first, and why the task was revoked."""
    errors = [error_of(error) for error in info.errors]
    if info.state is State.REVOKED:
        reason = info.revoked_reason or "cancelled"
        errors.append(TaskError(exception_class_path=_REVOKED, traceback=f"{_REVOKED}: {reason}\n"))
    return errors


def error_of(error: native.TaskError) -> TaskError:
    """One error. The broker keeps the name of the class, and the traceback has its module."""
    pattern = rf"^((?:\w+\.)*{re.escape(error.kind)})(?::|$)"
    found = re.findall(pattern, error.traceback, re.MULTILINE)
    if not found:
        # The broker or the worker ended the attempt, without an exception of the task.
        text = f"{_FAILED}: {error.kind}: {error.message}\n"
        return TaskError(exception_class_path=_FAILED, traceback=text)
    path = found[-1] if "." in found[-1] else f"builtins.{found[-1]}"
    return TaskError(exception_class_path=path, traceback=error.traceback)


_FAILED = "celeriac.errors.TaskFailed"
_REVOKED = "celeriac.errors.TaskRevoked"
