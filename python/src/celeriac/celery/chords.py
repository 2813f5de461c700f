"""Chords: the broker counts the parts, and gives one worker the right to send the body."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from celery.canvas import maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult, allow_join_result
from celery.utils.functional import _regen

from celeriac import _codec as wire
from celeriac._calls import Call
from celeriac.celery import bodies
from celeriac.errors import BrokerError
from celery import states

log = logging.getLogger("celeriac.celery")

_LEASE_SECONDS = 60.0
_DONE_SECONDS = 30.0
_PARTS_PREFIX = "chord-"
_LOOKED_UP_MAX = 500
"""Of so many tasks of a body this module knows whether they were sent before."""


class LostLease(Exception):
    """This worker may not send the body of the chord any more."""


class _Held(threading.local):
    """The outcome of the member of a chord that ends in this thread."""

    task_id = ""
    store: Callable[[], Any] | None = None


class Chords:
    """The part of the backend that Celery's canvas calls for chords.

    The outcome of a member ends its run, and a run that has ended is not done again when its worker
    dies. So the part of the chord is stored before the outcome. A run that is done again sends its
    part again, and the body too when the chord is complete and not done.
    """

    app: Any
    client: Any
    ask: Any
    encode: Any
    decode: Any
    encode_result: Any
    chord_ttl_ms: int
    _held: _Held

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Says how many members a chord has."""
        self.ask(
            wire.ChordExtend(
                group=_PARTS_PREFIX + group_id, size=chord_size, result_ttl_ms=self.chord_ttl_ms
            ),
            wire.ChordReply,
        )

    def apply_chord(self, header_result_args: Any, body: Any, **_: Any) -> None:
        """Stores the header where its members are groups: their results are joined later."""
        self.ensure_chords_allowed()  # type: ignore[attr-defined]
        if isinstance(header_result_args[1], _regen):
            # The members come from a generator, which is followed while they are published.
            return
        header = self.app.GroupResult(*header_result_args)
        if any(isinstance(each, GroupResult) for each in header.results):
            header.save(backend=self)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """A member has put another task in its own place."""
        self.ask(
            wire.ChordExtend(group=_PARTS_PREFIX + chord_id, added=[str(result.id)]),
            wire.ChordReply,
        )

    # A member that ends

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """A task has succeeded."""
        with self._part_first(task_id, request):
            super().mark_as_done(task_id, result, request, store_result, state)  # type: ignore[misc]

    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """A task has failed."""
        with self._part_first(task_id, request):
            super().mark_as_failure(  # type: ignore[misc]
                task_id, exc, traceback, request, store_result, call_errbacks, state
            )

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """A worker will not do a task."""
        with self._part_first(task_id, request):
            super().mark_as_revoked(task_id, reason, request, store_result, state)  # type: ignore[misc]

    @contextmanager
    def _part_first(self, task_id: str, request: Any) -> Iterator[None]:
        """Within this block the outcome of a member waits for its part."""
        if not request or not request.chord:
            yield
            return
        self._held.task_id, self._held.store = task_id, None
        try:
            yield
        finally:
            self._held.task_id = ""
            self._store_held()

    def hold(self, task_id: str, store: Callable[[], Any]) -> bool:
        """Whether the outcome of a task is stored later, after the part of its chord."""
        if task_id != self._held.task_id:
            return False
        self._held.store = store
        return True

    def _store_held(self) -> None:
        store, self._held.store = self._held.store, None
        if store is not None:
            store()

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """A member has ended: its part is stored, and the last one sends the body."""
        try:
            self._store_part(request, state, result)
        finally:
            self._store_held()

    def _store_part(self, request: Any, state: str, result: Any) -> None:
        task_id, group = request.id, request.group
        if not task_id or not group:
            return
        part = self.encode([task_id, state, self.encode_result(result, state)])
        reply = self.ask(
            wire.ChordPart(
                group=_PARTS_PREFIX + group,
                member=task_id,
                index=request.group_index,
                body=part.encode() if isinstance(part, str) else part,
                result_ttl_ms=self.chord_ttl_ms,
                lease_ms=int(self._lease_seconds() * 1000),
            ),
            wire.ChordReply,
        )
        if reply.done or not reply.lease:
            return
        if not self._runs_again(request):
            self._store_held()
        if self._send(group, reply, maybe_signature(request.chord, app=self.app)):
            self._done(group, reply.lease)

    def _runs_again(self, request: Any) -> bool:
        """Whether the member is done again when its worker dies now. Another member of the chord
        may then be the one that sends the body."""
        task = self.app.tasks.get(getattr(request, "task", None))
        return task is not None and bool(task.acks_late)

    def _send(self, group: str, reply: wire.ChordReply, callback: Any) -> bool:
        """Sends the body, or fails it. Whether this worker had the right to."""
        begun_at = monotonic()
        try:
            first_part, *tasks = self._looked_up(reply, callback)
            if any(bodies.has_failed_since(info, first_part) for info in tasks):
                # Another worker has failed the chord, and died before it closed it.
                return True
            mark = bodies.mark_for(group, first_part, self.chord_ttl_ms)
            sent = frozenset(info.id for info in tasks if bodies.carries(info, mark))
            results = self._results(group, reply)
            if monotonic() - begun_at > self._lease_seconds() / 2:
                self._renew(group, reply.lease)
            with bodies.sending(mark, sent):
                self._send_body(group, callback, results)
        except LostLease as error:
            log.warning("Another worker sends the body of the chord %s: %s", group, error)
            return False
        except ChordError as error:
            log.exception("The chord %s failed.", group)
            self.chord_error_from_stack(callback, error)  # type: ignore[attr-defined]
        except Exception as error:
            log.exception("The results of the chord %s cannot be joined.", group)
            self.chord_error_from_stack(  # type: ignore[attr-defined]
                callback, ChordError(f"Join error: {error!r}")
            )
        return True

    def _looked_up(self, reply: wire.ChordReply, callback: Any) -> list[wire.TaskInfo]:
        """What the broker knows of the first part, and of the tasks of the body."""
        ids = [reply.parts[0], *bodies.ids_in(callback)[:_LOOKED_UP_MAX]]
        return list(self.ask(wire.Get(ids=ids), wire.GetReply).tasks)

    def _send_body(self, group: str, callback: Any, results: list[Any]) -> None:
        try:
            self.app.amqp._retry_publish(callback.delay, results)
        except AttributeError:
            # Celery before 5.7 publishes without this help.
            callback.delay(results)
        except Exception as error:
            raise ChordError(f"Callback error: {error!r}") from error

    def _results(self, group: str, reply: wire.ChordReply) -> list[Any]:
        header = GroupResult.restore(group, backend=self, app=self.app)
        if header is not None:
            # The join reads the result of this member too.
            self._store_held()
            header.on_ready()
            with allow_join_result():
                joined: list[Any] = header.join_native(
                    timeout=self.app.conf.result_chord_join_timeout, propagate=True
                )
                return joined
        ids = list(reply.parts)
        while reply.parts_left:
            reply = self.ask(
                wire.ChordExtend(
                    group=_PARTS_PREFIX + group, lease=reply.lease, parts_from=len(ids)
                ),
                wire.ChordReply,
            )
            ids += reply.parts
        return [self._value(part) for part in self._bodies(ids)]

    def _bodies(self, ids: list[str]) -> list[bytes]:
        bodies: list[bytes] = []
        while ids:
            answer = self.ask(wire.Get(ids=ids, with_results=True), wire.GetReply)
            if answer.left_out:
                # What comes after a place that was left out is asked for again, to keep the order.
                first = min(answer.left_out)
                bodies += [bytes(info.result) for info in answer.tasks[:first]]
                ids = ids[first:]
            else:
                bodies += [bytes(info.result) for info in answer.tasks]
                ids = []
        return bodies

    def _value(self, part: bytes) -> Any:
        task_id, state, result = self.decode(part)
        if state in ("FAILURE", "REVOKED"):
            error = self.exception_to_python(result)  # type: ignore[attr-defined]
            # Where the body is a group, Celery stores the cause for each of its tasks.
            cause = error if isinstance(error, Exception) else None
            raise ChordError(f"Dependency {task_id} raised {error!r}") from cause
        return result

    def _renew(self, group: str, lease: int) -> None:
        """Raises `LostLease` when the joining took so long that another worker has the lease."""
        ask = wire.ChordExtend(
            group=_PARTS_PREFIX + group, lease=lease, lease_ms=int(self._lease_seconds() * 1000)
        )
        try:
            self.ask(ask, wire.ChordReply)
        except BrokerError as error:
            raise LostLease(str(error)) from error

    def _done(self, group: str, lease: int) -> None:
        body = wire.ChordDone(
            group=_PARTS_PREFIX + group, lease=lease, result_ttl_ms=self.chord_ttl_ms
        )
        call = Call.of(body, monotonic() + _DONE_SECONDS)
        link = self.client._link
        link.post([call])
        # Both leave together: the body may end at once, and its reader may look at the members.
        self._store_held()
        link.run([call])
        try:
            call.result(wire.Done)
        except BrokerError as error:
            log.warning("The chord %s was not closed: %s", group, error)

    def _lease_seconds(self) -> float:
        return max(2 * float(self.app.conf.result_chord_join_timeout or 5.0), _LEASE_SECONDS)
