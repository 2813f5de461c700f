"""Revokes: what Celery's broadcast means to the broker, and what the broker's mean to Celery."""

from __future__ import annotations

import json
import sys
from typing import Any

from celeriac import _codec as wire
from celeriac.cancel import CancelKind
from celeriac.celery.envelope import Raw
from celeriac.celery.session import sessions

ENDED = "celeriac_ended"
"""The property of a broadcast that names the tasks that the broker has revoked already."""


def cancels_of(raw: Raw, exchange: str) -> list[wire.Cancel]:
    """The cancels that go before a broadcast of a revoke, so that tasks are revoked although no
    worker is there. A task that runs is left to its worker."""
    if not exchange.endswith(".pidbox") or b"revoke" not in raw.body:
        return []
    try:
        command = json.loads(raw.body)
    except ValueError:
        return []
    if not isinstance(command, dict) or command.get("destination"):
        return []
    arguments = command.get("arguments")
    if not isinstance(arguments, dict):
        return []
    if command.get("method") == "revoke":
        ids = [str(each) for each in _listed(arguments.get("task_id")) if each]
        return [_cancel(ids=ids)] if ids else []
    headers = arguments.get("headers")
    if command.get("method") == "revoke_by_stamped_headers" and isinstance(headers, dict):
        stamps = [(name, value) for name, values in headers.items() for value in _listed(values)]
        return [_cancel(tag=tag_of(name, value)) for name, value in stamps]
    return []


def with_ended(raw: Raw, replies: list[wire.CancelReply]) -> Raw:
    """The broadcast, with the ids of the tasks that its cancels have ended."""
    outcomes = [outcome for reply in replies for outcome in reply.outcomes]
    ended = [each.id for each in outcomes if each.kind == CancelKind.REVOKED.value]
    return raw._replace(properties={**raw.properties, ENDED: ended}) if ended else raw


def without_later_runs(raw: Raw) -> Raw:
    """The broadcast as this process's worker shall read it. A worker may hold the next run of an id
    before it reads the revoke of the one before: that run goes on. Where the broker has revoked a
    run that this worker holds, it tells so by the lease."""
    ended = raw.properties.get(ENDED)
    later = {each for each in ended if sessions.holds_again(each)} if ended else set()
    if not later:
        return raw
    command = json.loads(raw.body)
    arguments = command["arguments"]
    if "task_id" in arguments:
        ids = [each for each in _listed(arguments["task_id"]) if each not in later]
        arguments["task_id"] = ids
    return raw._replace(body=json.dumps(command).encode())


def tag_of(name: str, value: object) -> str:
    """The tag of the tasks that have a stamp of this name and value."""
    return f"{name}={value}"


def _cancel(**target: Any) -> wire.Cancel:
    return wire.Cancel(mode=wire.CancelMode.WAITING, reason="revoked", **target)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def note_revoked(task_id: str) -> None:
    """Lets this process's worker announce the task as revoked in place of running it."""
    revoked = _revoked()
    if revoked is not None:
        revoked.add(task_id)


def note_runnable(task_id: str) -> None:
    """A new run of an id that was revoked before: the worker would refuse it for hours."""
    revoked = _revoked()
    if revoked is not None:
        revoked.discard(task_id)


def _revoked() -> Any:
    state = sys.modules.get("celery.worker.state")
    return getattr(state, "revoked", None)
