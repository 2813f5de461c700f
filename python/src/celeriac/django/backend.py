"""The backend for `django.tasks`, which Django has from 6.0 on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import apps
from django.core import checks
from django.utils import timezone

from celeriac.django.project import project_app
from celeriac.django.results import HEADER, find_task, result_of, waiting_result
from celeriac.django.running import register
from celeriac.errors import CeleriacError
from celeriac.info import State, TaskInfo
from celeriac.options import TaskOptions
from celeriac.payload import JSON
from celeriac.submission import Submission

try:
    from django.tasks import Task, TaskResult
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.exceptions import InvalidTaskBackend, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued
except ImportError:
    raise ImportError(
        "celeriac.django.TaskBackend needs django.tasks, which Django has from 6.0 on."
    ) from None

#: The options that Django's tasks have under names of their own.
_OWN = ("task_id", "queue", "priority", "eta", "countdown", "headers")


class TaskBackend(BaseTaskBackend):
    """Sends the tasks of `django.tasks` to the broker of the setting `CELERIAC`.

    `OPTIONS` are options of `celeriac.TaskOptions` for all tasks of the backend, such as
    `{"max_attempts": 3, "time_limit": 600}`. A task has one attempt by default.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._options = _checked(alias, self.options)

    def validate_task(self, task: Task) -> None:
        """Django calls this when a task is made and when it is enqueued."""
        super().validate_task(task)
        register(task)

    # Django has no type hints, so pyright takes the methods of its base class to return None.
    def enqueue(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult:
        """Returns when the broker has stored the task."""
        self.validate_task(task)
        result, submission = self._prepared(task, args, kwargs)
        stored = project_app().submit(submission)
        _enqueued(result, stored.id)
        task_enqueued.send(type(self), task_result=result)
        return result

    async def aenqueue(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult:
        """`enqueue` for asyncio, without a thread."""
        self.validate_task(task)
        result, submission = self._prepared(task, args, kwargs)
        stored = await project_app().asubmit(submission)
        _enqueued(result, stored.id)
        await task_enqueued.asend(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult:
        """What the broker knows of the task now."""
        client = project_app().client
        info = client.get(result_id, with_result=True, with_payload=True)
        if info.payload_left_out:
            beside = client.get(result_id, with_payload=True)
            return self._result(info, beside)
        return self._result(info, info)

    async def aget_result(self, result_id: str) -> TaskResult:
        """`get_result` for asyncio, without a thread."""
        client = project_app().async_client
        info = await client.get(result_id, with_result=True, with_payload=True)
        if info.payload_left_out:
            beside = await client.get(result_id, with_payload=True)
            return self._result(info, beside)
        return self._result(info, info)

    def check(self, **_: Any) -> list[checks.CheckMessage]:
        """The worker and the connections around tasks need the app."""
        if apps.is_installed("celeriac.django"):
            return []
        message = f"TASKS[{self.alias!r}] needs celeriac.django in INSTALLED_APPS."
        return [checks.Error(message, id="celeriac.E002")]

    def _prepared(
        self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[TaskResult, Submission]:
        # The result makes plain lists, dicts and texts of the arguments, as each backend does.
        result = waiting_result(task, args, kwargs, self.alias)
        eta = task.run_after
        if eta is not None and timezone.is_naive(eta):
            eta = timezone.make_aware(eta)
        kept = {
            "priority": task.priority,
            "run_after": eta.isoformat() if eta is not None else None,
        }
        options = self._options.replace(
            queue=task.queue_name,
            priority=rank_of(task.priority),
            eta=eta,
            headers={HEADER: json.dumps(kept)},
        )
        payload = JSON.encode_call(result.args, result.kwargs)
        return result, Submission(task.module_path, payload, options)

    def _result(self, info: TaskInfo, with_payload: TaskInfo) -> TaskResult:
        task = find_task(info, self.alias) if info.state is not State.UNKNOWN else None
        if task is None:
            raise TaskResultDoesNotExist(info.id)
        args, kwargs = JSON.decode_call(with_payload.payload)
        return result_of(info, task, args, kwargs, self.alias)


def rank_of(priority: int) -> int:
    """The priority 0 to 9 of Celeriac for one of -100 to 100 of Django: the 201 values in their
    order are split into ten groups. Django's default 0 is Celeriac's default 4."""
    return (priority + 100) * 10 // 201


def _enqueued(result: TaskResult, task_id: str) -> None:
    # Django's results are frozen for users; its own backends set fields in this way too.
    object.__setattr__(result, "id", task_id)
    object.__setattr__(result, "enqueued_at", timezone.now())


def _checked(alias: str, options: Mapping[str, Any]) -> TaskOptions:
    taken = [name for name in _OWN if name in options]
    if taken:
        raise InvalidTaskBackend(
            f"TASKS[{alias!r}]['OPTIONS'] has {', '.join(taken)}, which each task chooses itself."
        )
    try:
        return TaskOptions(**{"max_attempts": 1, **options})
    except (CeleriacError, TypeError) as error:
        raise InvalidTaskBackend(f"TASKS[{alias!r}]['OPTIONS']: {error}") from error
