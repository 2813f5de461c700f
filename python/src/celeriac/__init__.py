"""Celeriac: a durable task queue. This package has its client and its worker.

>>> from celeriac import Celeriac
>>> app = Celeriac("celeriac://127.0.0.1:23537")

Every name is imported when it is first used, so that a program that only submits tasks does not
load the worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac import _with_kombu as _with_kombu

if TYPE_CHECKING:
    from celeriac import errors
    from celeriac.aio import AsyncClient
    from celeriac.app import Celeriac, current_app, shared_task
    from celeriac.cancel import CancelKind, Cancelled, CancelMode
    from celeriac.client import Client
    from celeriac.context import Context, current_context
    from celeriac.control import Ignore, Reject, Retry, SoftTimeLimitExceeded, TaskCancelled
    from celeriac.errors import (
        BatchFailed,
        BrokerError,
        CeleriacError,
        ConnectError,
        TaskFailed,
        TaskNotEnded,
        TaskRevoked,
        TaskUnknown,
    )
    from celeriac.info import Progress, State, TaskError, TaskInfo, WaitingFor
    from celeriac.middleware import Middleware
    from celeriac.options import Backoff, Jitter, OnConflict, RetryPolicy, TaskOptions
    from celeriac.payload import Codec, NotDecodable, NotEncodable
    from celeriac.result import Change, Result
    from celeriac.submission import Submission, SubmitKind, Submitted
    from celeriac.task import Task
    from celeriac.waiting import Waited, WaitMode
    from celeriac.worker import Worker

#: Where each name is defined. The list above is the same for type checkers.
_MODULES = {
    "AsyncClient": "aio",
    "Backoff": "options",
    "BatchFailed": "errors",
    "BrokerError": "errors",
    "CancelKind": "cancel",
    "CancelMode": "cancel",
    "Cancelled": "cancel",
    "Celeriac": "app",
    "CeleriacError": "errors",
    "Change": "result",
    "Client": "client",
    "Codec": "payload",
    "ConnectError": "errors",
    "Context": "context",
    "Ignore": "control",
    "Jitter": "options",
    "Middleware": "middleware",
    "NotDecodable": "payload",
    "NotEncodable": "payload",
    "OnConflict": "options",
    "Progress": "info",
    "Reject": "control",
    "Result": "result",
    "Retry": "control",
    "RetryPolicy": "options",
    "SoftTimeLimitExceeded": "control",
    "State": "info",
    "Submission": "submission",
    "SubmitKind": "submission",
    "Submitted": "submission",
    "Task": "task",
    "TaskCancelled": "control",
    "TaskError": "info",
    "TaskFailed": "errors",
    "TaskInfo": "info",
    "TaskNotEnded": "errors",
    "TaskOptions": "options",
    "TaskRevoked": "errors",
    "TaskUnknown": "errors",
    "WaitMode": "waiting",
    "Waited": "waiting",
    "WaitingFor": "info",
    "Worker": "worker",
    "current_app": "app",
    "current_context": "context",
    "errors": "errors",
    "shared_task": "app",
}

__all__ = [
    "AsyncClient",
    "Backoff",
    "BatchFailed",
    "BrokerError",
    "CancelKind",
    "CancelMode",
    "Cancelled",
    "Celeriac",
    "CeleriacError",
    "Change",
    "Client",
    "Codec",
    "ConnectError",
    "Context",
    "Ignore",
    "Jitter",
    "Middleware",
    "NotDecodable",
    "NotEncodable",
    "OnConflict",
    "Progress",
    "Reject",
    "Result",
    "Retry",
    "RetryPolicy",
    "SoftTimeLimitExceeded",
    "State",
    "Submission",
    "SubmitKind",
    "Submitted",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskInfo",
    "TaskNotEnded",
    "TaskOptions",
    "TaskRevoked",
    "TaskUnknown",
    "WaitMode",
    "Waited",
    "WaitingFor",
    "Worker",
    "current_app",
    "current_context",
    "errors",
    "shared_task",
]


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'celeriac' has no attribute {name!r}")
    import importlib

    imported = importlib.import_module(f"celeriac.{module}")
    value = imported if name == module else getattr(imported, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
