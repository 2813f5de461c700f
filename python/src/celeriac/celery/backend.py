"""The result backend of Celery for `celeriac://`: a result is part of the task's own record."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import TimeoutError as CeleryTimeout

from celeriac import _codec as wire
from celeriac._calls import Call
from celeriac.celery.chords import Chords
from celeriac.celery.messages import run_of_request
from celeriac.celery.shapes import META, meta_of
from celeriac.client import Client
from celeriac.errors import BrokerError, CeleriacError
from celeriac.url import BrokerUrl, broker_url
from celery import states

_M = TypeVar("_M", bound=wire.Message)
_SLICE_SECONDS = 1.0
_PROGRESS_BYTES_MAX = 64 * 1024


class CeleriacBackend(Chords, KeyValueStoreBackend):
    """All threads and processes of an app share one instance; each process opens its own
    connection."""

    key_t = str
    thread_safe = True
    persistent = True
    supports_autoexpire = True
    supports_native_join = True

    def __init__(self, app: Any = None, url: Any = None, expires: Any = None, **options: Any):
        super().__init__(app=app, url=url, expires=expires, **options)
        self._url = str(url or "")
        # Celery names the scheme alone when the address has no other part.
        address = None if self._url.rstrip(":/") in ("", "celeriac") else self._url.rstrip("/")
        self._broker: BrokerUrl = broker_url(address)
        self._client: Client | None = None
        self.expires_seconds = _seconds(self.expires)

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {**(kwargs or {}), "url": self._url, "expires": self.expires}
        return super().__reduce__(args, kwargs)

    def as_uri(self, include_password: bool = False) -> str:
        """The address, without its token."""
        return self._url if include_password else str(self._broker)

    @property
    def client(self) -> Client:
        """The client of this backend. It opens a connection of its own after a fork."""
        if self._client is None:
            self._client = Client(self._broker)
        return self._client

    def ask(self, body: Any, kind: type[_M], seconds: float = 30.0) -> _M:
        """Sends one request."""
        call = Call.of(body, time.monotonic() + seconds)
        link = self.client._link
        link.post([call])
        link.run([call])
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
        places = list(range(len(ids)))
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

    def put(self, task_id: str, lease: int, state: str, value: Any, error: Any = None) -> None:
        """Stores an outcome. The broker refuses that of a run whose place another run has taken,
        which is no fault."""
        body = value.encode() if isinstance(value, str) else bytes(value)
        ttl = self.expires_seconds
        outcome = wire.TaskOutcome(
            id=task_id,
            lease=lease,
            state=state,
            body=body,
            content_type=META,
            result_ttl_ms=None if ttl is None else int(ttl * 1000),
            error=error,
        )
        stored = self.ask(wire.PutOutcome(outcomes=[outcome]), wire.PutOutcomeReply).outcomes[0]
        refusal = stored.error
        if refusal is not None and refusal.code != wire.ErrorCode.STALE_LEASE:
            raise BrokerError.of(refusal.code, refusal.message, refusal.retryable)

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
        meta["task_id"] = str(task_id)
        stored_id, lease = run_of_request(request, task_id) or (task_id, 0)
        error = None
        if state in states.EXCEPTION_STATES:
            fields = result if isinstance(result, dict) else {}
            message = fields.get("exc_message", "")
            error = wire.TaskError(
                kind=str(fields.get("exc_type", state)),
                message=str(message[0] if isinstance(message, (list, tuple)) and message else ""),
                traceback=str(traceback or ""),
            )
        self.put(stored_id, lease, state, self.encode(meta), error)
        return result

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether Celery may try again, where it was told to."""
        return isinstance(exc, CeleriacError) and exc.retryable

    # Waiting

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Any = None,
    ) -> Any:
        """Waits until the task has ended. The broker tells of the end."""
        self._ensure_not_eager()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            meta = self.get_task_meta(task_id)
            if meta["status"] in states.READY_STATES:
                return meta
            if on_interval:
                on_interval()
            left = _SLICE_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise CeleryTimeout("The operation timed out.")
            waited = self.client.wait([task_id], timeout=min(left, _SLICE_SECONDS))
            if waited.satisfied:
                # The broker calls an id that nobody has submitted ended.
                meta = self.get_task_meta(task_id)
                if meta["status"] in states.READY_STATES:
                    return meta
                time.sleep(min(interval, max(left, 0.0), 0.1))


def _seconds(expires: Any) -> float | None:
    if expires is None:
        return None
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else float(expires)
    return seconds or None
