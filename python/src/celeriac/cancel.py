"""How tasks are cancelled, and what came of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class CancelMode(enum.Enum):
    """What happens to a task that runs. A task that waits is revoked in each mode."""

    COOPERATIVE = 0
    """The worker tells the handler, which may still finish."""
    FORCE = 1
    """The worker drops the handler. The broker revokes the task after the grace."""
    WAITING = 2
    """The handler goes on and hears nothing. The task does not run again after it."""


class CancelKind(enum.Enum):
    """What a cancel did to one task."""

    UNSPECIFIED = 0
    """The broker gave an outcome that this version does not know."""
    REVOKED = 1
    """The task had not started, and never will."""
    SIGNALLED = 2
    """The task runs, and its worker was told."""
    ALREADY_ENDED = 3
    NOT_FOUND = 4
    LEFT_RUNNING = 5
    """With `CancelMode.WAITING`: the task runs and goes on."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The outcome of a cancel for one task."""

    id: str
    kind: CancelKind
