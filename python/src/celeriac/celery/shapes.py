"""What the broker knows of a task, in the shape that Celery's results have."""

from __future__ import annotations

import json
from typing import Any

from celeriac import _codec as wire
from celeriac.payload import CELERY_TYPE

META = CELERY_TYPE
"""The content type of a result that Celery's backend has encoded."""

_TEXT_MAX = 16 * 1024
_STORED_TEXT_MAX = 128 * 1024

_State = wire.TaskState
_OWN_EXCEPTIONS = {
    "worker_lost": ("WorkerLostError", "billiard.exceptions"),
    "WorkerLostError": ("WorkerLostError", "billiard.exceptions"),
    "TimeLimitExceeded": ("TimeLimitExceeded", "billiard.exceptions"),
    "revoked": ("TaskRevokedError", "celery.exceptions"),
    "NotRegistered": ("NotRegistered", "celery.exceptions"),
}


def is_ended(info: wire.TaskInfo) -> bool:
    """Whether the task is over."""
    return info.state in (_State.SUCCESS, _State.FAILURE, _State.REVOKED)


def is_bare(info: wire.TaskInfo) -> bool:
    """Whether the task succeeded without any result."""
    return info.state == _State.SUCCESS and not info.result and not info.result_content_type


def meta_of(info: wire.TaskInfo) -> bytes | dict[str, Any] | None:
    """The stored meta as it was encoded, or the fields of a meta that nobody has stored; None for a
    task of which Celery knows nothing yet. A task that runs is one of those: with
    `task_track_started` the worker has stored a meta that says so, and without it programs wait for
    the first state that is not PENDING."""
    if is_ended(info):
        if info.result and info.result_content_type == META:
            return bytes(info.result)
        return _ended(info)
    if info.progress is not None and info.progress.meta:
        return bytes(info.progress.meta)
    return None


def error_of(meta: dict[str, Any]) -> wire.TaskError:
    """The error in a meta of Celery, in the shape that the broker lists."""
    result = meta.get("result")
    if isinstance(result, BaseException):
        # The serializer carries exceptions as they are.
        kind, message = type(result).__name__, str(result)
    else:
        fields = result if isinstance(result, dict) else {}
        kind = str(fields.get("exc_type") or meta.get("status", ""))
        told = fields.get("exc_message") or ""
        message = str(told[0] if isinstance(told, (list, tuple)) and told else told or "")
    return task_error(kind, message, str(meta.get("traceback") or ""))


def cut_texts(meta: dict[str, Any]) -> None:
    """Shortens the texts of an error that the broker would not take. Celery forgets a task in a
    pool of threads whose failure cannot be stored."""
    traceback, result = meta.get("traceback"), meta.get("result")
    if isinstance(traceback, str) and len(traceback) > _STORED_TEXT_MAX:
        meta["traceback"] = traceback[-_STORED_TEXT_MAX:]
    if not isinstance(result, dict):
        return
    told = result.get("exc_message")
    if isinstance(told, str):
        told = told[:_STORED_TEXT_MAX]
    elif isinstance(told, (list, tuple)):
        room = _STORED_TEXT_MAX // max(len(told), 1)
        told = [each[:room] if isinstance(each, str) else each for each in told]
    meta["result"] = {**result, "exc_message": told}


def task_error(kind: str, message: str, traceback: str = "") -> wire.TaskError:
    """An error for the broker, which keeps so much of a text and no more."""
    if len(traceback) > _TEXT_MAX:
        # The end of a traceback says what happened.
        traceback = traceback[-_TEXT_MAX:]
    return wire.TaskError(
        kind=_sound(kind[:255]), message=_sound(message[:_TEXT_MAX]), traceback=_sound(traceback)
    )


def _sound(text: str) -> str:
    """The text without what UTF-8 cannot hold."""
    return text.encode(errors="replace").decode()


def _ended(info: wire.TaskInfo) -> dict[str, Any]:
    if info.state == _State.SUCCESS:
        return _fields(info, "SUCCESS", _value(info))
    if info.state == _State.REVOKED:
        return _fields(info, "REVOKED", _exception("revoked", info.revoked_reason or "revoked"))
    error = info.errors[-1] if info.errors else wire.TaskError(message="the task failed")
    fields = _fields(info, "FAILURE", _exception(error.kind, error.message))
    fields["traceback"] = error.traceback or None
    return fields


def _fields(info: wire.TaskInfo, status: str, result: Any) -> dict[str, Any]:
    return {
        "task_id": info.id,
        "status": status,
        "result": result,
        "traceback": None,
        "children": [],
    }


def _exception(kind: str, message: str) -> dict[str, Any]:
    name, module = _OWN_EXCEPTIONS.get(kind, (kind or "Exception", "builtins"))
    return {"exc_type": name, "exc_message": [message], "exc_module": module}


def _value(info: wire.TaskInfo) -> Any:
    """The result of a worker that is not Celery's."""
    try:
        return json.loads(info.result) if info.result else None
    except ValueError:
        return None
