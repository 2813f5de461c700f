"""Revokes: what Celery's broadcast means to the broker, and what the broker's mean to Celery."""

from __future__ import annotations

import json
import sys
from typing import Any

from celeriac import _codec as wire
from celeriac.celery.envelope import Raw


def cancel_of(raw: Raw, exchange: str) -> wire.Cancel | None:
    """The cancel that goes before a broadcast of `revoke`, so that a task is revoked although no
    worker is there. A task that runs is left to its worker."""
    if not exchange.endswith(".pidbox") or b"revoke" not in raw.body:
        return None
    try:
        command = json.loads(raw.body)
    except ValueError:
        return None
    if not isinstance(command, dict) or command.get("destination"):
        return None
    arguments = command.get("arguments")
    if command.get("method") != "revoke" or not isinstance(arguments, dict):
        return None
    ids = arguments.get("task_id")
    named = [str(each) for each in (ids if isinstance(ids, (list, tuple)) else [ids]) if each]
    if not named:
        return None
    return wire.Cancel(ids=named, mode=wire.CancelMode.WAITING, reason="revoked")


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
