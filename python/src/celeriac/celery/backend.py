"""The result backend of Celery for `celeriac://`: a result is part of the task's own record."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from celery._state import get_current_task
from celery.backends.asynchronous import AsyncBackendMixin
from celery.backends.base import BaseKeyValueStoreBackend

from celeriac import _codec as wire
from celeriac._calls import Call
from celeriac._values import SPAN_MS_MAX
from celeriac.celery import kept
from celeriac.celery.chords import Chords, _Held
from celeriac.celery.ending import ending
from celeriac.celery.envelope import HOOKED
from celeriac.celery.kept import Kept
from celeriac.celery.messages import run_of_request
from celeriac.celery.places import address_of, files_of
from celeriac.celery.session import sessions
from celeriac.celery.shapes import META, cut_texts, error_of, meta_of
from celeriac.celery.waiting import ResultConsumer
from celeriac.client import Client
from celeriac.errors import BrokerError, CeleriacError, DeadlineExceeded
from celeriac.url import BrokerUrl
from celery import states

_M = TypeVar("_M", bound=wire.Message)
_CALL_SECONDS = 30.0
_ACKNOWLEDGED_SECONDS = 5.0
"""A worker acknowledges a task so long after it has begun at the latest."""
_PAUSE_SECONDS = 0.02
_OWN_NAMES = ("celeriac.outcome", "celeriac.progress")
"""The names of records that no task made."""


class _Acknowledged(threading.local):
    """The run of this thread that was acknowledged, as the broker has said."""

    lease = 0


class CeleriacBackend(Chords, AsyncBackendMixin, BaseKeyValueStoreBackend):
    """All threads and processes of an app share one instance; each process opens its own
    connection."""

    key_t = str
    persistent = True
    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    supports_failure_expires = True

    def __init__(self, app: Any = None, url: Any = None, expires: Any = None, **options: Any):
        super().__init__(app=app, url=url, expires=expires, **options)
        # Celery would make a backend for each thread, with a connection of its own.
        self.thread_safe = True
        self._url = str(url or "")
        self._broker: BrokerUrl = address_of(self._url)
        if self._broker.tls is not None and app is not None:
            # The same broker, so the same files.
            files = files_of(app.conf.broker_use_ssl) or self._broker.tls
            self._broker = replace(self._broker, tls=files)
        self._held = _Held()
        self._acknowledged = _Acknowledged()
        self.client = Client(self._broker)
        """It opens its connection at the first call, and one of its own in each process."""
        self.ttl_ms = _milliseconds(self.expires)
        failure_expires = self.app.conf.get("result_failure_expires")
        self.failure_ttl_ms = (
            self.ttl_ms
            if failure_expires is None
            else _milliseconds(self.prepare_expires(failure_expires))
        )
        self.chord_ttl_ms = _milliseconds(getattr(self, "chord_expires", self.expires))
        self.result_consumer = ResultConsumer(
            self, self.app, self.accept, self._pending_results, self._pending_messages
        )

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {**(kwargs or {}), "url": self._url, "expires": self.expires}
        return super().__reduce__(args, kwargs)

    def as_uri(self, include_password: bool = False) -> str:
        """The address, without its token."""
        return self._url if include_password else str(self._broker)

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the broker."""
        return self._broker.host, self._broker.port

    def ask(self, body: Any, kind: type[_M], seconds: float = _CALL_SECONDS) -> _M:
        """Sends one request."""
        if kind is not wire.GetReply:
            kept.let_go()
        begun_at = time.monotonic()
        # Where it is an outcome, the broker would take a run for lost that has ended.
        call = Call.of(body, begun_at + ending.seconds(seconds, is_patient=True))
        link = self.client._link
        link.post([call])
        link.run([call])
        if isinstance(call.error, DeadlineExceeded):
            ending.note_silence(begun_at)
        return call.result(kind)

    # Reading and storing by key

    def id_of(self, key: str) -> str:
        """The id under which the broker keeps the value of a key: that of the task itself."""
        return key[len(self.task_keyprefix) :] if key.startswith(self.task_keyprefix) else key

    def get(self, key: str) -> Any:
        """The encoded value of a key."""
        return self.mget([key])[0]

    def mget(self, keys: Iterable[str]) -> list[Any]:
        """The encoded values of keys, in order."""
        ids = [self.id_of(key) for key in keys]
        found: list[Any] = [None] * len(ids)
        places = []
        for at, task_id in enumerate(ids):
            own = kept.kept_of(task_id)
            if own is not None:
                found[at] = own.body
            else:
                places.append(at)
        while places:
            body = wire.Get(ids=[ids[at] for at in places], with_results=True)
            reply = self.ask(body, wire.GetReply)
            left = set(reply.left_out)
            answered = [at for place, at in enumerate(places) if place not in left]
            for at, info in zip(answered, reply.tasks, strict=True):
                meta = meta_of(info)
                found[at] = self.encode(meta) if isinstance(meta, dict) else meta
            places = [places[place] for place in sorted(left)]
        return found

    def set(self, key: str, value: Any) -> None:
        """Stores a value under a key, such as a group."""
        self.put(self.id_of(key), 0, states.SUCCESS, value)

    def _set_with_state(self, key: str, value: Any, state: str) -> None:
        self.put(self.id_of(key), 0, state, value)

    def delete(self, key: str) -> None:
        """Drops a value."""
        self.ask(wire.Forget(ids=[self.id_of(key)]), wire.ForgetReply)

    def expire(self, key: str, value: Any) -> None:
        """Values expire by the time with which they were stored."""

    # Outcomes

    def put(self, task_id: str, lease: int, state: str, value: Any, error: Any = None) -> None:
        """Stores an outcome."""
        self._put(task_id, lease, Kept(state, _bytes(value), self.ttl_of(state)), error)

    def put_kept(self, run: tuple[str, int], found: Kept) -> None:
        """Stores an outcome that was kept for the report of the run, and must not wait for it."""
        error = None
        if found.state in states.EXCEPTION_STATES:
            error = wire.TaskError(kind=found.state)
            with contextlib.suppress(Exception):
                error = error_of(self.decode(found.body))
        self._put(run[0], run[1], found, error)

    def ttl_of(self, state: str) -> int:
        """How long an outcome of this state is kept."""
        return self.failure_ttl_ms if state == states.FAILURE else self.ttl_ms

    def _put(
        self, stored_id: str, lease: int, found: Kept, error: Any, task_id: str | None = None
    ) -> None:
        """The broker refuses the outcome of a run whose place another run has taken, which is no
        fault."""
        outcome = wire.TaskOutcome(
            id=stored_id,
            lease=lease,
            state=found.state,
            body=found.body,
            content_type=META,
            result_ttl_ms=found.ttl_ms,
            error=error,
        )
        refusal = self._put_once(outcome)
        if refusal is not None and refusal.code == wire.ErrorCode.STALE_LEASE:
            if not lease or not self._is_elsewhere(stored_id):
                return
            # The lease is one of another broker, which carries the task and not its result.
            outcome.id, outcome.lease = task_id or stored_id, 0
            if outcome.id != stored_id:
                self._is_elsewhere(outcome.id)
            refusal = self._put_once(outcome)
        if refusal is not None:
            raise BrokerError.of(refusal.code, refusal.message, refusal.retryable)

    def _put_once(self, outcome: wire.TaskOutcome) -> wire.Error | None:
        stored = self.ask(wire.PutOutcome(outcomes=[outcome]), wire.PutOutcomeReply)
        return stored.outcomes[0].error

    def _is_elsewhere(self, task_id: str) -> bool:
        """Whether this broker has no task of this id. The outcome of an earlier run is dropped."""
        info = self.ask(wire.Get(ids=[task_id]), wire.GetReply).tasks[0]
        if info.name in _OWN_NAMES:
            self.ask(wire.Forget(ids=[task_id]), wire.ForgetReply)
            return True
        return info.state == wire.TaskState.UNKNOWN and not info.generation

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        meta = self._get_result_meta(result, state, traceback=traceback, request=request)
        if state in states.EXCEPTION_STATES:
            cut_texts(meta)
        meta["task_id"] = str(task_id)
        body = _bytes(self.encode(meta))
        run = run_of_request(request, task_id)
        found = Kept(state, body, self.ttl_of(state))
        if run is not None and kept.keep(self, run, request, found):
            return result
        error = error_of(meta) if state in states.EXCEPTION_STATES else None
        stored_id, lease = run or (str(task_id), 0)

        def store() -> None:
            self._put(stored_id, lease, found, error, str(task_id))

        # A run that has submitted its retry has no lease any more. The record is that of the retry.
        goes_on = state not in states.READY_STATES and state != states.RETRY
        if goes_on and _ends_with_its_acknowledgement(request, lease):
            self._await_acknowledgement(stored_id, lease)

        if not self.hold(str(task_id), store):
            store()
        return result

    def _await_acknowledgement(self, stored_id: str, lease: int) -> None:
        """Waits until the lease of the run has ended. With it the broker forgets what the run has
        told before, and a reader would see a state that goes away again."""
        until = time.monotonic() + _ACKNOWLEDGED_SECONDS
        while self._acknowledged.lease != lease and time.monotonic() < until:
            info = self.ask(wire.Get(ids=[stored_id]), wire.GetReply).tasks[0]
            if info.state not in (wire.TaskState.LEASED, wire.TaskState.STARTED):
                self._acknowledged.lease = lease
                return
            time.sleep(_PAUSE_SECONDS)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether Celery may try again, where it was told to."""
        return isinstance(exc, CeleriacError) and exc.retryable


def _ends_with_its_acknowledgement(request: Any, lease: int) -> bool:
    """Whether the worker that runs the task of this request has no hook, and acknowledges before
    the run: the lease ends then, and not with the run. The worker with the hook says so in the
    properties of the message."""
    if not lease or HOOKED in request.properties or sessions.is_read_here(lease):
        return False
    task = get_current_task()
    return task is not None and not task.acks_late


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _milliseconds(expires: Any) -> int:
    """Celery keeps results for ever when there is no time, or a time of 0."""
    seconds = float(expires or 0)
    return min(max(int(seconds * 1000), 1), SPAN_MS_MAX) if seconds > 0 else SPAN_MS_MAX
