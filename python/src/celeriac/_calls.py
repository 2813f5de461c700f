"""One request on its way: its bytes, the kind of its answer, and what became of it. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from celeriac import _codec
from celeriac._codec import Message
from celeriac._protobuf import number
from celeriac._watching import WatchedStates
from celeriac.errors import CeleriacError

_M = TypeVar("_M", bound=Message)

KEYS: dict[type[Message], bytes] = _codec._CLIENT_FRAME_BODY_KEYS
"""The key of each request in a frame."""

REPLIES: dict[type[Message], type[Message]] = {
    _codec.Heartbeat: _codec.HeartbeatReply,
    _codec.Submit: _codec.SubmitReply,
    _codec.Cancel: _codec.CancelReply,
    _codec.Forget: _codec.ForgetReply,
    _codec.Get: _codec.GetReply,
    _codec.Wait: _codec.WaitReply,
    _codec.Watch: _codec.WatchReply,
    _codec.Report: _codec.ReportReply,
    _codec.PutOutcome: _codec.PutOutcomeReply,
    _codec.ChordPart: _codec.ChordReply,
    _codec.ChordExtend: _codec.ChordReply,
    _codec.ListQueues: _codec.QueueList,
    _codec.PurgeQueue: _codec.CountReply,
    _codec.DeleteQueue: _codec.CountReply,
    _codec.ListTasks: _codec.TaskPage,
    _codec.ReplayDead: _codec.CountReply,
    _codec.DiscardDead: _codec.CountReply,
    _codec.ListWorkers: _codec.WorkerList,
    _codec.OrderWorkers: _codec.CountReply,
    _codec.Backup: _codec.BackupReply,
    _codec.Info: _codec.BrokerInfo,
    _codec.Stats: _codec.StatsReply,
    _codec.LogFilter: _codec.LogFilterReply,
    _codec.DeclareMailbox: _codec.MailboxReply,
    _codec.DeleteMailbox: _codec.CountReply,
    _codec.PurgeMailbox: _codec.CountReply,
    _codec.Consume: _codec.ConsumeReply,
    _codec.FetchMail: _codec.FetchMailReply,
    _codec.PutBackMail: _codec.CountReply,
    _codec.Publish: _codec.CountReply,
    _codec.ListMailboxes: _codec.MailboxList,
    _codec.ListBindings: _codec.BindingList,
}
"""The answer of each request. The answer of all others is Done."""

ONCE: frozenset[type[Message]] = frozenset(
    (
        _codec.Submit,
        _codec.PurgeQueue,
        _codec.DeleteQueue,
        _codec.ReplayDead,
        _codec.DiscardDead,
        _codec.Backup,
        _codec.Drain,
        _codec.DeleteMailbox,
        _codec.PurgeMailbox,
        _codec.Consume,
        _codec.Unconsume,
        _codec.FetchMail,
        _codec.AckMail,
        _codec.PutBackMail,
        _codec.Publish,
    )
)
"""Requests that the client does not send again by itself when their answer was lost. Their callers
decide: a submit has rules of its own, and the others might do more the second time."""

READS: frozenset[type[Message]] = frozenset(
    (_codec.Get, _codec.Wait, _codec.ListQueues, _codec.ListTasks, _codec.ListWorkers)
)
"""Requests whose answers depend on what is stored. The broker refuses them for a moment while the
client has not read its earlier answers."""


_UNSENT_MARGIN = 0.5
"""So much longer than its own time a Wait waits for a connection."""


class Watching:
    """The part of a watch that one request begins."""

    __slots__ = ("ids", "is_kept", "states")

    def __init__(self, states: WatchedStates, ids: list[str], *, is_kept: bool = False) -> None:
        self.states = states
        self.ids = ids
        self.is_kept = is_kept
        """Whether the part has begun at some time. It then begins again by itself on the next
        connection."""


class Call:
    """One request. It goes over as many connections as it needs until it is answered, its deadline
    has come, or its connection broke and it must not be sent twice."""

    __slots__ = (
        "answer",
        "body",
        "deadline",
        "done",
        "error",
        "is_sent",
        "kind",
        "request_id",
        "sent_at_ms",
        "then",
        "waits_until",
        "watching",
    )

    def __init__(
        self,
        kind: type[Message],
        body: bytes,
        deadline: float = math.inf,
        *,
        then: Callable[[Call], None] | None = None,
        waits_until: float | None = None,
    ) -> None:
        self.kind = kind
        self.body = body
        """The key, the length and the bytes of the body; empty for a call that only waits for an
        open connection."""
        self.deadline = deadline
        """When the caller stops waiting, by the monotonic clock."""
        self.then = then
        """Called once, when the call is done."""
        self.waits_until = waits_until
        """For a Wait: when the broker should answer at the latest. The deadline leaves time for the
        answer, but only when the request could be sent at all."""
        self.done = False
        self.answer: Message | None = None
        self.error: CeleriacError | None = None
        self.request_id = 0
        self.is_sent = False
        """Whether the broker may have received the request."""
        self.watching: Watching | None = None
        """Set for the requests of a watch."""
        self.sent_at_ms = 0
        """When it was sent first, by the broker's clock; never later than the real moment."""

    @staticmethod
    def of(message: Message, deadline: float = math.inf, **settings: Any) -> Call:
        """A call with this message as its body."""
        data = message.encode()
        kind = type(message)
        return Call(kind, b"".join((KEYS[kind], number(len(data)), data)), deadline, **settings)

    @staticmethod
    def opening(deadline: float) -> Call:
        """A call that sends nothing: it is answered when a connection is open."""
        return Call(_codec.Hello, b"", deadline)

    @property
    def due(self) -> float:
        """When the caller stops waiting, as things are."""
        if self.waits_until is None or self.is_sent:
            return self.deadline
        return min(self.deadline, self.waits_until + _UNSENT_MARGIN)

    @property
    def may_be_sent_twice(self) -> bool:
        """Whether the client sends it again by itself."""
        return self.kind not in ONCE

    @property
    def reply(self) -> type[Message]:
        """The kind of its answer."""
        return REPLIES.get(self.kind, _codec.Done)

    def finish(self, answer: Message | None, error: CeleriacError | None = None) -> None:
        """Ends the call. Only the first end counts."""
        if self.done:
            return
        self.done = True
        self.answer = answer
        self.error = error
        if self.then is not None:
            self.then(self)

    def result(self, kind: type[_M]) -> _M:
        """The answer. Raises the error of the call. The answer was checked to be of its kind."""
        if self.error is not None:
            raise self.error
        assert isinstance(self.answer, kind), "a call that is done has an answer or an error"
        return self.answer
