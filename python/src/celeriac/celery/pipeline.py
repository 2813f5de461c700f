"""Publishing without waiting for each answer: `broker_transport_options={"confirm": "pipeline"}`.

A publish returns when its task is written to the socket. Up to a window of tasks are unanswered;
they are sent again after a lost connection, under the same keys, so that none counts twice. What
the process has not heard of when it is killed may be lost.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import weakref
from functools import partial
from time import monotonic, sleep
from typing import Any

from celeriac import _codec as wire
from celeriac.celery.ending import ending
from celeriac.celery.faults import CONNECTION_ERRORS, channel_error, lost
from celeriac.celery.options import CONFIRM_SECONDS
from celeriac.errors import BrokerError
from celeriac.url import BrokerUrl

log = logging.getLogger("celeriac.celery")

WINDOW = 1000
"""The most tasks without an answer. The broker reads 1,024 requests ahead."""

_LOOK_EACH = 32
"""After so many tasks the answers that have come are read."""
_EXIT_SECONDS = 30.0
"""So long the end of the process waits at most, where the connections have more time together."""
_PAUSE_SECONDS = 0.1


class Pipeline:
    """The tasks of one connection that are not confirmed yet."""

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.proxy(connection)
        self._pid = os.getpid()
        self._url: BrokerUrl = connection.url
        self._last = 0
        self._unanswered: dict[int, wire.Submit] = {}
        self._count = 0
        """How many tasks these have."""
        self._again: list[wire.Submit] = []
        """What the broker could not take for a moment, and what other connections have left."""
        self._refusal: Exception | None = None
        connection.pipelines.append(self)

    def submit(self, tasks: list[wire.Task]) -> None:
        """Sends tasks. Raises the refusal of an earlier one."""
        self.raise_refusal()
        self._again += _take_left(self._url)
        self._post_again()
        before = self._count
        body = wire.Submit(tasks=tasks)
        try:
            self._post(body)
        except BaseException:
            # The caller hears that the tasks are not sent.
            self._drop(body)
            raise
        line = self._connection.line
        if self._count >= WINDOW:
            self._read_until_below(WINDOW, self.seconds)
        elif before // _LOOK_EACH != self._count // _LOOK_EACH:
            with contextlib.suppress(*CONNECTION_ERRORS):
                line.read()

    @property
    def seconds(self) -> float:
        """So long a wait for confirmations takes at most, also while the broker is away."""
        given: float = self._connection.options.confirm_timeout
        return ending.seconds(given, is_patient=True)

    def flush(self, seconds: float | None = None) -> None:
        """Waits until all tasks are confirmed, and for that time at most. Raises the refusal of one
        of them, or an error of the connection."""
        begun_at = monotonic()
        deadline = begun_at + (self.seconds if seconds is None else seconds)
        self._again += _take_left(self._url)
        while self._unanswered or self._again:
            try:
                with self._connection.lock:
                    self._connection.fresh_line(is_publish=True)
                    self._post_again()
                    self._read_until_below(1, max(deadline - monotonic(), 0.01))
            except CONNECTION_ERRORS:
                if monotonic() >= deadline:
                    ending.note_silence(begun_at)
                    raise
                sleep(_PAUSE_SECONDS)
                with contextlib.suppress(*CONNECTION_ERRORS):
                    self._connection.reopen(max(deadline - monotonic(), 0.01))
            if self._again:
                # The broker has asked for a pause.
                if monotonic() >= deadline:
                    raise lost("the broker could not take all tasks in time")
                sleep(_PAUSE_SECONDS)
        self.raise_refusal()

    def raise_refusal(self) -> None:
        """Raises what an earlier task was refused with, once."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def resend(self) -> None:
        """The connection has a new line: what was not answered is sent again, in order."""
        bodies = list(self._unanswered.values())
        self._unanswered.clear()
        self._count = 0
        while bodies:
            try:
                self._write(bodies[0])
            except CONNECTION_ERRORS:
                self._again = bodies + self._again
                raise
            del bodies[0]

    def leave(self) -> None:
        """The connection is gone. Another one of this process sends what is left."""
        if self._pid == os.getpid():
            left = [*self._unanswered.values(), *self._again]
            if left:
                _left.append((self._url, left))
        self._unanswered.clear()
        self._again.clear()
        self._count = 0

    def after_fork(self) -> None:
        """What is not confirmed in a child of the process is its parent's."""
        self._pid = os.getpid()
        self._unanswered.clear()
        self._again.clear()
        self._count = 0

    def take_over(self, other: Pipeline) -> None:
        """Sends what another one has not heard of."""
        self._again += [*other._unanswered.values(), *other._again]
        other._unanswered.clear()
        other._again.clear()
        other._count = 0

    def _post_again(self) -> None:
        while self._again:
            self._post(self._again[0])
            del self._again[0]

    def _post(self, body: wire.Submit) -> None:
        try:
            self._write(body)
        except CONNECTION_ERRORS:
            # `reopen` sends all that is unanswered.
            self._connection.reopen()
            self._write(body)

    def _write(self, body: wire.Submit) -> None:
        key = self._last = self._last + 1
        self._connection.line.post(body, partial(self._answered, key))
        self._unanswered[key] = body
        self._count += len(body.tasks)

    def _drop(self, body: wire.Submit) -> None:
        for key, sent in list(self._unanswered.items()):
            if sent is body:
                del self._unanswered[key]
                self._count -= len(body.tasks)

    def _read_until_below(self, count: int, seconds: float) -> None:
        deadline = monotonic() + seconds
        while self._count >= count:
            try:
                left = max(deadline - monotonic(), 0.01)
                self._connection.line.read_until(lambda: self._count < count, left)
            except CONNECTION_ERRORS:
                if monotonic() >= deadline:
                    raise lost(f"{self._count} tasks are not confirmed") from None
                self._connection.reopen(max(deadline - monotonic(), 0.01))

    def _answered(self, key: int, answer: Any) -> None:
        body = self._unanswered.pop(key, None)
        if body is None:
            return
        self._count -= len(body.tasks)
        if isinstance(answer, wire.SubmitReply):
            for task, outcome in zip(body.tasks, answer.outcomes, strict=False):
                if outcome.kind == wire.SubmitOutcomeKind.REFUSED:
                    self._refuse(task.id, outcome.error or wire.Error())
        elif isinstance(answer, wire.Error) and answer.retryable:
            self._again.append(body)
        else:
            error = answer if isinstance(answer, wire.Error) else wire.Error()
            for task in body.tasks:
                self._refuse(task.id, error)

    def _refuse(self, task_id: str, told: wire.Error) -> None:
        refusal = BrokerError.of(told.code, told.message, told.retryable)
        log.error("The broker has refused the task %s: %s", task_id, refusal)
        self._refusal = channel_error(refusal, "Basic.publish")


_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()
"""Those for which `flush` waits."""
_left: list[tuple[BrokerUrl, list[wire.Submit]]] = []
"""What connections have left that are gone."""


def keep(pipeline: Pipeline) -> None:
    """Lets `flush`, and the end of the process, wait for this one."""
    _pipelines.add(pipeline)


def flush(seconds: float | None = None) -> None:
    """Waits until the broker has confirmed all tasks that this process has published with
    `{"confirm": "pipeline"}`: for so long, or for the `confirm_timeout` of each connection. Raises
    the refusal of one of them, or an error of the connection."""
    own = [pipeline for pipeline in list(_pipelines) if pipeline._pid == os.getpid()]
    deadline = None if seconds is None else monotonic() + seconds
    for pipeline in own:
        with contextlib.suppress(ReferenceError):
            pipeline.flush(_least(pipeline.seconds, deadline))
    for url in {url for url, _ in _left}:
        _flush_left(url, _least(CONFIRM_SECONDS, deadline))


def _least(seconds: float, deadline: float | None) -> float:
    return seconds if deadline is None else max(min(seconds, deadline - monotonic()), 0.01)


def _flush_left(url: BrokerUrl, seconds: float) -> None:
    """Sends what no connection has taken over, on a connection of its own."""
    from celeriac.celery.line import Line

    deadline = monotonic() + seconds
    bodies = _take_left(url)
    try:
        line = Line(url, seconds=seconds)
        for body in list(bodies):
            line.call(body, wire.SubmitReply, max(deadline - monotonic(), 0.01))
            bodies.remove(body)
        line.close()
    except BaseException:
        if bodies:
            _left.append((url, bodies))
        raise


def _take_left(url: BrokerUrl) -> list[wire.Submit]:
    if not _left:
        return []
    found = [body for place, bodies in _left if place == url for body in bodies]
    _left[:] = [item for item in _left if item[0] != url]
    return found


def _at_exit() -> None:
    try:
        flush(_EXIT_SECONDS)
    except Exception as error:
        log.error("Tasks are not confirmed at the end of the process: %s", error)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    # The tasks of the parent are the parent's.
    os.register_at_fork(after_in_child=_left.clear)
