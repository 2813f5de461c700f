"""What a producer submits, and what the broker answers."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from celeriac.errors import CeleriacError
from celeriac.info import State
from celeriac.options import TaskOptions

NO_OPTIONS = TaskOptions()


class SubmitKind(enum.Enum):
    """What a submit did."""

    CREATED = 1
    """There was no task of this id."""
    JOINED = 2
    """A task of this id has not ended and goes on. The broker dropped this submit."""
    NEW_GENERATION = 3
    """A task of this id had ended, or was replaced. This is its next run."""


class Submission(NamedTuple):
    """One task for `submit_many`."""

    name: str
    """What to run."""
    payload: bytes = b"[[],{}]"
    """The encoded arguments; by default JSON, `[args, kwargs]`."""
    options: TaskOptions = NO_OPTIONS
    task_id: str | None = None
    """Counts before that of `options`."""
    content_type: str = ""
    """Empty means `application/json`."""


@dataclass(slots=True)
class Submitted:
    """The outcome of a submit. Within a batch it is filled in when the answer has come."""

    id: str
    kind: SubmitKind | None = None
    """None as long as the answer has not come, or when the task was refused."""
    generation: int = 0
    """The number of the run: of the existing task when the submit joined it."""
    state: State = State.UNKNOWN
    error: CeleriacError | None = None
    """Within a batch: why the task was not accepted."""
