"""Waiting for several tasks."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from celeriac.info import TaskInfo


class WaitMode(enum.Enum):
    """How many of the tasks must have ended before a wait is over."""

    ALL = 0
    ANY = 1


@dataclass(frozen=True, slots=True)
class Waited:
    """The result of a wait."""

    satisfied: bool
    """Whether the tasks ended as the mode asks; False when the time was over first."""
    tasks: list[TaskInfo]
    """The tasks as they are, in the order of the ids."""
