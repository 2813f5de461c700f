"""Replies for the result backend `rpc://` that no worker sends.

With `rpc://` a worker sends each result to the mailbox of the program that has submitted the task.
A task that the broker ends by itself has no worker: it was revoked or has expired before it began,
its worker was lost, or its queue was purged. So the program that waits asks the broker about the
tasks that it waits for, and puts the missing reply into its own mailbox.
"""

from __future__ import annotations

import os
import threading
from time import monotonic
from typing import Any, NamedTuple

from kombu.serialization import dumps, registry

from celeriac import _codec as wire
from celeriac.celery.envelope import Raw, packed
from celeriac.celery.shapes import meta_of
from celeriac.url import BrokerUrl

LOOK_SECONDS = 1.0
"""A program asks so often at most."""

_EXPECTED_MAX = 10_000
"""As many results as a mailbox holds. The oldest tasks are no longer asked about."""
_MAILBOXES_MAX = 1000
_IDS_MAX = 500
"""The ids of one request."""
_UNTOLD = frozenset(("worker_lost", "rejected"))
"""The kinds of the errors with which the broker ends a task."""
_State = wire.TaskState


class _Task(NamedTuple):
    """One task whose result is to come."""

    correlation_id: str
    content_type: str


class Expected:
    """The tasks whose results come to one mailbox. Any thread may add to them."""

    def __init__(self) -> None:
        self.tasks: dict[str, _Task] = {}
        """By the id under which the broker has the task."""
        self.doubtful: set[str] = set()
        """Those of which the last look did not say enough."""
        self.looked_at = 0.0

    def add(self, stored_id: str, task: _Task) -> None:
        """Adds a task. The oldest one makes room."""
        self.drop(stored_id)
        self.tasks[stored_id] = task
        while len(self.tasks) > _EXPECTED_MAX:
            self.drop(next(iter(self.tasks)))

    def drop(self, stored_id: str) -> None:
        """Nothing more is to come."""
        self.tasks.pop(stored_id, None)
        self.doubtful.discard(stored_id)

    def is_untold(self, info: wire.TaskInfo) -> bool:
        """Whether the broker has ended a task, and no worker tells of it."""
        if info.state == _State.FAILURE:
            return bool(info.errors) and info.errors[-1].kind in _UNTOLD
        if info.state != _State.REVOKED:
            return False
        # A worker that had the task announces its end. Its reply has time until the next look.
        return not info.deliveries or self._is_seen_again(info)

    def is_over(self, info: wire.TaskInfo) -> bool:
        """Whether the broker has nothing more to tell of a task."""
        if info.state == _State.UNKNOWN:
            # It may still be on its way to the broker, on another connection.
            return self._is_seen_again(info)
        return info.state in (_State.SUCCESS, _State.FAILURE)

    def _is_seen_again(self, info: wire.TaskInfo) -> bool:
        is_again = info.id in self.doubtful
        self.doubtful.add(info.id)
        return is_again


class Replies:
    """The mailboxes of this process for results."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mailboxes: dict[tuple[BrokerUrl, str], Expected] = {}

    def forget(self) -> None:
        """In a child of the process: the results of its parent are the parent's."""
        self.__init__()  # type: ignore[misc]

    def declare(self, url: BrokerUrl, mailbox: str) -> None:
        """This process has a mailbox, which may be one for results."""
        with self._lock:
            self._mailboxes.setdefault((url, mailbox), Expected())
            while len(self._mailboxes) > _MAILBOXES_MAX:
                self._mailboxes.pop(next(iter(self._mailboxes)))

    def expect(self, url: BrokerUrl, raw: Raw, stored_id: str) -> None:
        """A task was submitted whose result may come to a mailbox of this process."""
        mailbox = raw.properties.get("reply_to")
        expected = self._mailboxes.get((url, mailbox)) if isinstance(mailbox, str) else None
        if expected is not None:
            correlation_id = str(raw.properties.get("correlation_id") or raw.headers.get("id"))
            with self._lock:
                expected.add(stored_id, _Task(correlation_id, raw.content_type))

    def heard(self, url: BrokerUrl, mailbox: str, raw: Raw) -> None:
        """A result has come. Where a worker tells of a revoke, nothing more is to come."""
        expected = self._mailboxes.get((url, mailbox))
        if expected is None or not expected.tasks or b"REVOKED" not in raw.body:
            return
        told = raw.properties.get("correlation_id")
        with self._lock:
            for stored_id, task in list(expected.tasks.items()):
                if task.correlation_id == told:
                    expected.drop(stored_id)

    def are_expected(self, url: BrokerUrl, mailbox: str) -> bool:
        """Whether results are to come to this mailbox."""
        expected = self._mailboxes.get((url, mailbox))
        return expected is not None and bool(expected.tasks)

    def is_due(self, url: BrokerUrl, mailbox: str) -> bool:
        """Whether it is time to ask the broker."""
        if not self.are_expected(url, mailbox):
            return False
        return monotonic() - self._mailboxes[url, mailbox].looked_at >= LOOK_SECONDS

    def look(self, line: Any, url: BrokerUrl, mailbox: str) -> bool:
        """Puts the replies that no worker sends into the mailbox. Whether there were some."""
        expected = self._mailboxes[url, mailbox]
        with self._lock:
            expected.looked_at = monotonic()
            ids = list(expected.tasks)
        has_replied = False
        for at in range(0, len(ids), _IDS_MAX):
            asked = wire.Get(ids=ids[at : at + _IDS_MAX])
            for info in line.call(asked, wire.GetReply).tasks:
                with self._lock:
                    task = expected.tasks.get(info.id)
                    if task is None:
                        continue
                    is_untold = expected.is_untold(info)
                    if is_untold or expected.is_over(info):
                        expected.drop(info.id)
                if is_untold:
                    line.call(_reply(info, task, mailbox), wire.CountReply)
                    has_replied = True
        return has_replied


def _reply(info: wire.TaskInfo, task: _Task, mailbox: str) -> wire.Publish:
    """What a worker would send, in the serializer in which the task was sent."""
    meta = meta_of(info)
    assert isinstance(meta, dict), "the broker has ended the task by itself"
    serializer = registry.type_to_name.get(task.content_type, "json")
    content_type, encoding, body = dumps({**meta, "task_id": task.correlation_id}, serializer)
    data = body.encode() if isinstance(body, str) else bytes(body)
    raw = Raw(data, content_type, encoding, {}, {"correlation_id": task.correlation_id})
    return wire.Publish(
        exchange="",
        routing_key=mailbox,
        body=data,
        content_type=content_type,
        properties=packed(raw, "", mailbox),
    )


replies = Replies()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=replies.forget)
