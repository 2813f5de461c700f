"""One message of Celery is one task: this module makes one of the other."""

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime, timezone
from time import time
from typing import Any

from celeriac import _codec as wire
from celeriac.celery import bodies
from celeriac.celery.envelope import (
    HEADER,
    HEADER_BYTES_MAX,
    IN_FRONT,
    RUN,
    SUBMIT_KEY,
    Raw,
    packed,
    unpacked,
)
from celeriac.celery.options import Options
from celeriac.celery.revoking import tag_of

PLAIN = "celeriac.message"
"""The name of a task that carries a message without a task's name."""

_TAGS_MAX = 32
_NO_CHORD = b'"chord": null}]'


def new_submit_key() -> str:
    """A text of chance."""
    return os.urandom(12).hex()


def mark_of(headers: dict[str, Any]) -> list[Any] | None:
    """The mark of the body of a chord, for a message with these headers."""
    is_again = headers.get("retries") or headers.get("replaced_task_nesting")
    return bodies.mark_of(headers, current_request() if is_again else None)


def submit_key_of(raw: Raw) -> str:
    """The key that all tries to publish this message have in common."""
    key = raw.properties.get(SUBMIT_KEY)
    return key if isinstance(key, str) and key else new_submit_key()


def task_of(raw: Raw, exchange: str, routing_key: str, queue: str, options: Options) -> wire.Task:
    """The task that carries this message to one queue."""
    headers, properties = raw.headers, raw.properties
    task_id, name = _names(raw)
    is_plain = not task_id
    task = wire.Task(
        id=task_id or f"message-{uuid.uuid4()}",
        name=name or PLAIN,
        queue=queue,
        payload=raw.body,
        content_type=raw.content_type,
        shadow=_text(headers.get("shadow")),
        priority=options.priority(_priority(properties.get("priority"))),
        expires_in_ms=expiration_ms(properties.get("expiration")),
        root_id=_text(headers.get("root_id")),
        parent_id=_text(headers.get("parent_id")),
        tags=_tags(headers),
        submit_key=submit_key_of(raw),
        forget_at_end=is_plain,
        announce_end=not is_plain and _may_count_for_a_chord(raw),
        max_deliveries=options.max_deliveries,
    )
    # Retries are Celery's own. The attempts bound the runs whose worker was lost.
    task.retry = wire.RetryPolicy(max_attempts=task.max_deliveries)
    task.on_conflict = options.on_conflict
    if not is_plain and (headers.get("retries") or headers.get("replaced_task_nesting")):
        task.on_conflict = wire.OnConflict.SUPERSEDE
        task.supersedes_lease = lease_of_run(task.id)
    if headers.get("ignore_result"):
        task.result_ttl_ms = bodies.keep_ms_of(properties)
    eta = _eta_ms(headers.get("eta"))
    if eta is not None:
        task.eta_at_ms = eta
        task.lead_ms = int(1000 * options.eta_lead)
    _put_envelope(task, packed(raw, exchange, routing_key))
    return task


def raw_of(delivery: wire.Delivery, options: Options) -> Raw:
    """The message that this task carries, or the message of Celery that a task of another client
    amounts to."""
    raw = _carried(delivery)
    # The process that runs the task reports its result under this run.
    raw.properties[RUN] = [delivery.id, delivery.lease]
    raw.properties["priority"] = options.priority(delivery.priority)
    raw.properties.setdefault("delivery_tag", delivery.lease)
    return raw


def _carried(delivery: wire.Delivery) -> Raw:
    payload, content_type = delivery.payload, delivery.content_type
    data, length = delivery.headers.get(HEADER), delivery.headers.get(IN_FRONT)
    try:
        if data is not None:
            return unpacked(bytes(data), payload, content_type)
        if length is not None:
            size = int(length)
            return unpacked(payload[:size], payload[size:], content_type)
    except (ValueError, TypeError):
        # Celery discards a message that is none of its own, and says so.
        return Raw(payload, content_type, "", {}, {})
    headers: dict[str, Any] = {
        "lang": "py",
        "task": delivery.name,
        "id": delivery.id,
        "root_id": delivery.root_id or delivery.id,
        "parent_id": delivery.parent_id or None,
        "retries": 0,
    }
    if delivery.eta_at_ms:
        eta = datetime.fromtimestamp(delivery.eta_at_ms / 1000, timezone.utc)
        headers["eta"] = eta.isoformat()
    content_type = delivery.content_type or "application/json"
    return Raw(_celery_body(delivery.payload), content_type, "utf-8", headers, {})


def _celery_body(payload: bytes) -> bytes:
    """The arguments as Celery's second protocol has them: with a third item for callbacks."""
    try:
        arguments = json.loads(payload)
    except ValueError:
        return payload
    if isinstance(arguments, list) and len(arguments) == 2:
        return json.dumps([*arguments, {}]).encode()
    return payload


def lease_of_run(task_id: str) -> int:
    """The lease under which this process runs the task; 0 when it does not."""
    run = run_of_request(current_request(), task_id)
    return run[1] if run is not None else 0


def current_request() -> Any:
    """The request of the task that this thread runs, if it runs one."""
    from celery._state import get_current_task

    task = get_current_task()
    return getattr(task, "request", None)


def run_of_request(request: Any, task_id: str) -> tuple[str, int] | None:
    """The stored id and the lease of the run that Celery describes by this request."""
    if request is None:
        return None
    request_id, properties = getattr(request, "id", None), getattr(request, "properties", None)
    run = properties.get(RUN) if isinstance(properties, dict) else None
    if request_id != task_id or not isinstance(run, (list, tuple)) or len(run) != 2:
        return None
    return str(run[0]), int(run[1])


def _names(raw: Raw) -> tuple[str, str]:
    """The id and the name of the task, both empty for a message that is no task of Celery."""
    task_id, name = _text(raw.headers.get("id")), _text(raw.headers.get("task"))
    if not name and raw.content_type == "application/json" and b'"task"' in raw.body:
        # The first protocol of Celery has both in the body.
        try:
            fields = json.loads(raw.body)
        except ValueError:
            return "", ""
        if isinstance(fields, dict):
            task_id, name = _text(fields.get("id")), _text(fields.get("task"))
    return (task_id, name) if task_id and name else ("", "")


def _may_count_for_a_chord(raw: Raw) -> bool:
    """Whether the task is a member of a group, and nothing says that the group is no chord. The
    body names the chord last. A body that is compressed, or of another serializer, says nothing."""
    return bool(raw.headers.get("group")) and not raw.body.endswith(_NO_CHORD)


def _put_envelope(task: wire.Task, data: bytes) -> None:
    if len(data) <= HEADER_BYTES_MAX:
        task.headers = {HEADER: data}
    else:
        task.headers = {IN_FRONT: str(len(data)).encode()}
        task.payload = data + task.payload


def _text(value: Any) -> str:
    return str(value) if value else ""


def _priority(value: Any) -> int:
    # A message without a priority has the lowest one in AMQP.
    return min(max(int(value or 0), 0), 9)


def expiration_ms(value: Any) -> int | None:
    """The time that AMQP's property `expiration` gives a message to reach a reader."""
    return None if value in (None, "") else max(int(float(value)), 1)


def _eta_ms(value: Any) -> int | None:
    """The time of an eta that lies ahead. Celery writes times without a zone in UTC."""
    if not value:
        return None
    if isinstance(value, str):
        text = value[:-1] + "+00:00" if value.endswith("Z") else value
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            return None
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    moment: float = value.timestamp()
    return int(moment * 1000) if moment > time() else None


def _tags(headers: dict[str, Any]) -> list[str]:
    """The stamps of a task, so that a cancel by tag reaches all tasks of one stamp."""
    stamps = headers.get("stamps")
    if not isinstance(stamps, dict):
        return []
    tags: dict[str, None] = {}
    for name, values in stamps.items():
        for value in values if isinstance(values, (list, tuple, set)) else [values]:
            tag = tag_of(name, value)
            if len(tag.encode()) <= 255:
                tags[tag] = None
    return list(tags)[:_TAGS_MAX]
