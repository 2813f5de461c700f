"""The body of a chord is sent once, also when the worker that sends it dies before it has closed
the chord.

The messages of a body carry a mark that follows from the chord. The mark is their submit key, so
that a message that is sent again is joined. It stays with the task when the task retries, which
gives the task another submit key: who sends the body after another worker has died looks for the
mark first.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from celeriac import _codec as wire
from celeriac.celery.envelope import HEADER

MARK = "celeriac_chord"
"""The property with the mark."""


class Mark(NamedTuple):
    """What the messages of one body have in common."""

    key: str
    keep_ms: int
    """So long the broker remembers their tasks at least: a worker may come back to the chord."""


class _Sending(threading.local):
    """What this thread sends."""

    mark: Mark | None = None
    sent: frozenset[str] = frozenset()
    """The ids of the tasks that were sent before."""


_sending = _Sending()


def mark_for(group: str, first_part: wire.TaskInfo, keep_ms: int) -> Mark:
    """The mark of the body of a chord. A chord that begins anew under its id has other parts."""
    text = f"{group} {first_part.generation} {first_part.finished_at_ms}"
    return Mark(hashlib.sha256(text.encode()).hexdigest()[:24], keep_ms)


def ids_in(signature: Any) -> list[str]:
    """The ids of the tasks that are sent when a signature is called, as far as it names them."""
    tasks = getattr(signature, "tasks", None)
    if not tasks:
        task_id = signature.options.get("task_id")
        return [str(task_id)] if task_id else []
    # The first task of a chain sends the others.
    is_chain = signature.get("subtask_type") == "chain"
    return [task_id for task in (tasks[:1] if is_chain else tasks) for task_id in ids_in(task)]


def carries(info: wire.TaskInfo, mark: Mark) -> bool:
    """Whether a task was sent under this mark."""
    data = info.headers.get(HEADER)
    if data is None or mark.key.encode() not in data:
        return False
    found = json.loads(data).get("p", {}).get(MARK)
    return isinstance(found, list) and found[:1] == [mark.key]


def has_failed_since(info: wire.TaskInfo, first_part: wire.TaskInfo) -> bool:
    """Whether a worker has stored the failure of a body that was never sent, for this chord and for
    none before it under the same id."""
    return (
        info.name == "celeriac.outcome"
        and info.state == wire.TaskState.FAILURE
        and (info.finished_at_ms or 0) >= (first_part.finished_at_ms or 0)
    )


@contextmanager
def sending(mark: Mark, sent: frozenset[str]) -> Iterator[None]:
    """Within this block the thread sends the body of a chord."""
    _sending.mark, _sending.sent = mark, sent
    try:
        yield
    finally:
        _sending.mark, _sending.sent = None, frozenset()


def was_sent(task_id: object) -> bool:
    """Whether this thread sends a body that has this task already."""
    return task_id in _sending.sent


def submit_key() -> str | None:
    """The submit key of what this thread sends as the body of a chord."""
    return _sending.mark.key if _sending.mark is not None else None


def mark_of(headers: dict[str, Any], request: Any) -> list[Any] | None:
    """The mark of a message that this thread publishes while it runs the task of this request. A
    task that retries keeps its own."""
    if _sending.mark is not None:
        return list(_sending.mark)
    properties = getattr(request, "properties", None)
    if not isinstance(properties, dict) or getattr(request, "id", None) != headers.get("id"):
        return None
    return properties.get(MARK)


def keep_ms_of(properties: Any) -> int:
    """How long the broker remembers at least the task of a message with these properties."""
    found = properties.get(MARK) if isinstance(properties, dict) else None
    return found[1] if isinstance(found, list) and len(found) == 2 else 0
