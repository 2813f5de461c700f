"""The options of a task: how a producer wants it to run. `TaskOptions` holds them all."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from celeriac import _codec, _values
from celeriac._protobuf import number
from celeriac._values import Span
from celeriac.errors import InvalidArgument, WrongType


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

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self, max_attempts: int | None = None) -> _codec.RetryPolicy:
        """The message of the protocol. `max_attempts` counts before that of the policy."""
        attempts = self.max_attempts if max_attempts is None else max_attempts
        return _codec.RetryPolicy(
            max_attempts=_values.whole("max_attempts", attempts, 1, _values.UINT32_MAX),
            backoff=_values.member("backoff", self.backoff, Backoff),
            delay_ms=_values.span_ms("delay", self.delay),
            factor=_values.real("factor", self.factor, 0, 1000),
            delay_max_ms=_values.span_ms("delay_max", self.delay_max),
            jitter=_values.member("jitter", self.jitter, Jitter),
        )


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

    _wire: _codec.Task = field(init=False, repr=False, compare=False)
    """The message without id, name and payload."""
    _ends: dict[tuple[str, str], tuple[bytes, bytes]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """For a name and a content type: the bytes between id and payload, and those after them."""

    def __post_init__(self) -> None:
        # A generator of tags can be read once only.
        object.__setattr__(self, "tags", _values.texts("tags", self.tags))
        object.__setattr__(self, "_wire", self._to_wire())

    def replace(self, **changes: Any) -> TaskOptions:
        """A copy with these options changed.

        >>> TaskOptions(queue="songs").replace(priority=9).priority
        9
        """
        if not changes.keys() <= _NAMES:
            unknown = ", ".join(repr(name) for name in sorted(changes.keys() - _NAMES))
            raise WrongType(f"there is no option {unknown} of a task; TaskOptions has them all")
        return dataclasses.replace(self, **changes)

    def to_task(
        self,
        name: str,
        payload: bytes = b"",
        content_type: str = "",
        task_id: str | None = None,
    ) -> _codec.Task:
        """The message of the protocol for one task with these options. `task_id` counts before
        that of the options."""
        return _codec.Task.decode(
            self.encode(name, payload, content_type, self.task_id if task_id is None else task_id)
        )

    def encode(
        self, name: str, payload: bytes, content_type: str = "", task_id: str | None = None
    ) -> bytes:
        """The bytes of `to_task`. All that is the same for many tasks is encoded once."""
        ends = self._ends.get((name, content_type))
        if ends is None:
            ends = self._encode_ends(name, content_type)
        head, tail = ends
        if payload.__class__ is not bytes:
            payload = _values.data("payload", payload)
        size = len(payload)
        if not task_id:
            if task_id is not None:
                _values.key("task_id", task_id)
            return b"".join((head, b'"', number(size), payload, tail))
        try:
            key = task_id.encode()
        except (AttributeError, UnicodeError):
            key = _values.key("task_id", task_id).encode()
        if len(key) > _values.NAME_BYTES_MAX:
            _values.key("task_id", task_id)
        return b"".join((b"\n", number(len(key)), key, head, b'"', number(size), payload, tail))

    def _encode_ends(self, name: str, content_type: str) -> tuple[bytes, bytes]:
        _values.key("name", name)
        _values.text("content_type", content_type)
        head = _codec.Task(name=name, queue=self.queue).encode()
        # The content type has a lower number than all fields of `_wire`.
        tail = _codec.Task(content_type=content_type).encode() + self._wire.encode()
        if len(self._ends) < _ENDS_MAX:
            self._ends[name, content_type] = (head, tail)
        return head, tail

    def _to_wire(self) -> _codec.Task:
        """Checks each option."""
        if self.task_id is not None:
            _values.key("task_id", self.task_id)
        if self.countdown is not None and self.eta is not None:
            raise InvalidArgument("countdown and eta are both set; set one of them")
        wire = _codec.Task(
            headers=_values.headers(self.headers),
            shadow=_values.text("shadow", self.shadow),
            priority=_values.whole("priority", self.priority, 0, 9),
            eta_at_ms=_values.time_ms("eta", self.eta),
            countdown_ms=_values.span_ms("countdown", self.countdown),
            result_ttl_ms=_values.span_ms("result_ttl", self.result_ttl),
            soft_time_limit_ms=_values.span_ms("soft_time_limit", self.soft_time_limit, 1),
            time_limit_ms=_values.span_ms("time_limit", self.time_limit, 1),
            max_deliveries=_values.whole(
                "max_deliveries", self.max_deliveries, 1, _values.UINT32_MAX
            ),
            on_conflict=_values.member("on_conflict", self.on_conflict, OnConflict),
            root_id=_values.text("root_id", self.root_id),
            parent_id=_values.text("parent_id", self.parent_id),
            tags=list(self.tags),
            early_ack=_values.flag("early_ack", self.early_ack),
        )
        _values.text("queue", self.queue)
        if isinstance(self.expires, datetime):
            wire.expires_at_ms = _values.time_ms("expires", self.expires)
        else:
            wire.expires_in_ms = _values.span_ms("expires", self.expires)
        if self.retry is not None or self.max_attempts is not None:
            retry = RetryPolicy() if self.retry is None else self.retry
            _values.instance("retry", retry, RetryPolicy)
            wire.retry = retry.to_wire(self.max_attempts)
        return wire


_NAMES = frozenset(each.name for each in dataclasses.fields(TaskOptions) if each.init)

_ENDS_MAX = 256
"""For how many names one object keeps the encoded ends."""
