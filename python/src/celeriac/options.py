"""The options of a task: how a producer wants it to run. `TaskOptions` holds them all."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celeriac import _codec

Span = int | float | timedelta
"""A span of time: a number of seconds, or a `timedelta`."""


class OnConflict(enum.Enum):
    """What a submit does when a task of its id exists."""

    RUN_AGAIN_IF_FINISHED = 0
    """An ended task runs again. The submit joins a task that has not ended. This is the default."""
    REJECT = 1
    """The broker refuses the submit with `TaskExists`."""
    REPLACE = 2
    """The broker revokes a task that has not ended, and runs the new one."""
    RUN_AGAIN_AFTER = 3
    """An ended task runs again. A task that has not ended runs once more after its end."""


class Backoff(enum.Enum):
    """How the delay grows with the number `n` of attempts."""

    EXPONENTIAL = 0
    """delay * factor ** (n - 1)"""
    FIXED = 1
    """delay"""
    POLYNOMIAL = 2
    """delay * n ** factor"""


class Jitter(enum.Enum):
    """How the broker spreads a delay at random."""

    NONE = 0
    """The delay as it was computed."""
    FULL = 1
    """A value from 0 to the delay."""
    EQUAL = 2
    """A value from half the delay to the delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed task runs again. The broker computes the delays.

    >>> RetryPolicy(max_attempts=6, delay=2, jitter=Jitter.FULL).max_attempts
    6
    """

    max_attempts: int | None = None
    """The number of attempts in all, the first included; 4 by default. 1 means no retry."""
    delay: Span | None = None
    """The first delay; 1 s by default."""
    backoff: Backoff = Backoff.EXPONENTIAL
    factor: float | None = None
    """From 0 to 1,000; 2 by default."""
    delay_max: Span | None = None
    """The longest delay; by default 10 minutes, or `delay` where that is longer."""
    jitter: Jitter = Jitter.NONE


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """All options of a task. An option that is not set takes the default of the queue or the
    broker.

    Each value is checked when the object is made: `WrongType` and `InvalidArgument` name the
    option. Make one object and use it for many tasks: that is faster than one for each.

    >>> TaskOptions(queue="songs", priority=9, countdown=1.5).queue
    'songs'
    """

    task_id: str | None = None
    """The key of the task, 1 to 255 bytes. Without it the client makes a UUID of version 7."""
    queue: str = ""
    """Where the task waits; `default` when it is empty."""
    shadow: str = ""
    """Logs and listings show it in place of the name."""
    priority: int | None = None
    """0 to 9, 9 first; 4 by default."""
    countdown: Span | None = None
    """The earliest start, as a span from the submit. Set this or `eta`."""
    eta: datetime | None = None
    """The earliest start. A naive datetime is local time."""
    expires: Span | datetime | None = None
    """By when the task must have STARTED, as a span from the submit or a time; a naive datetime
    is local time. `result_ttl` says how long the result is kept."""
    result_ttl: Span | None = None
    """How long the broker keeps the ENDED task with its result; 1 day by default, 0 means not at
    all. `expires` says by when the task must have started."""
    max_attempts: int | None = None
    """Short for `retry=RetryPolicy(max_attempts=...)`. It counts before that of `retry`."""
    retry: RetryPolicy | None = None
    time_limit: Span | None = None
    """After this span of an attempt the task ends as FAILURE."""
    soft_time_limit: Span | None = None
    """After this span of an attempt the handler gets a signal."""
    max_deliveries: int | None = None
    """How often the task may begin without an outcome; 20 by default."""
    on_conflict: OnConflict | str = OnConflict.RUN_AGAIN_IF_FINISHED
    """A member of `OnConflict`, or its name in upper or lower case."""
    tags: Iterable[str] = ()
    """At most 32 words by which the task can be found and cancelled."""
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    root_id: str = ""
    """The id of the first task of the tree."""
    parent_id: str = ""
    """The id of the task that submits this one."""
    early_ack: bool = False
    """Once started, the task never starts again, however its run ends."""

    def replace(self, **changes: object) -> TaskOptions:
        """A copy with these options changed.

        >>> TaskOptions(queue="songs").replace(priority=9).priority
        9
        """
        raise NotImplementedError

    def to_task(self, name: str, payload: bytes = b"", content_type: str = "") -> _codec.Task:
        """The message of the protocol for one task with these options."""
        raise NotImplementedError
