"""What a message of AMQP has beside its body, as JSON bytes: headers and properties."""

from __future__ import annotations

import base64
import json
from datetime import date, datetime
from decimal import Decimal
from time import time
from typing import Any, NamedTuple
from uuid import UUID

from celeriac import _codec as wire

HEADER = "celeriac.amqp"
"""The header of a task, under which the bytes stand."""

IN_FRONT = "celeriac.amqp-length"
"""The header of a task whose bytes stand in front of the payload: they are that many."""

RUN = "celeriac_run"
"""The property that names a run to the process that executes it: the stored id and the lease."""

HOOKED = "celeriac_hooked"
"""The property that is set when the parent of the process says when the run is over."""

RIDES = "celeriac_rides"
"""The property that is set when the parent of the process reports the outcome of the run."""

SUBMIT_KEY = "celeriac_submit_key"
"""The property that a message keeps when kombu publishes it again after a lost connection."""

HEADER_BYTES_MAX = 48 * 1024
"""The broker takes 64 KiB for all headers of a task."""

_OWN = frozenset((HOOKED, RIDES, RUN, SUBMIT_KEY))
_MARK = b"__celeriac_"
_BYTES, _TIME = "__celeriac_bytes__", "__celeriac_time__"
"""Both begin with the mark."""


_EXPIRES = "u"
"""The field with the time, in seconds since 1970, after which no reader of a mailbox gets the
message. A task has its expiry in the broker."""


class Raw(NamedTuple):
    """A message as a channel takes and gives it."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str = ""
    routing_key: str = ""
    expires_at: float | None = None

    @property
    def is_expired(self) -> bool:
        """Whether the message came to its reader too late."""
        return self.expires_at is not None and time() >= self.expires_at

    @property
    def priority(self) -> int:
        """The priority, from 0 to 9. A message without one has the lowest, as in AMQP."""
        try:
            return min(max(int(self.properties.get("priority") or 0), 0), 9)
        except (TypeError, ValueError):
            return 0


def packed(raw: Raw, exchange: str, routing_key: str, expires_at: float | None = None) -> bytes:
    """All but the body and its content type."""
    fields: dict[str, Any] = {
        "h": raw.headers,
        "p": {name: value for name, value in raw.properties.items() if name not in _OWN},
        "e": raw.content_encoding,
        "x": exchange,
        "r": routing_key,
    }
    if expires_at is not None:
        fields[_EXPIRES] = expires_at
    return json.dumps(fields, default=_tagged, separators=(",", ":"), skipkeys=True).encode()


def unpacked(data: bytes, body: bytes, content_type: str) -> Raw:
    """The message again. Raises `ValueError` for bytes that this module has not made."""
    # The decoder is much faster without a hook, and few envelopes need one.
    fields = json.loads(data, object_hook=_untagged) if _MARK in data else json.loads(data)
    if not isinstance(fields, dict):
        raise ValueError("the envelope of a message is no object")
    expires_at = fields.get(_EXPIRES)
    return Raw(
        body,
        content_type,
        str(fields.get("e") or ""),
        dict(fields.get("h") or {}),
        dict(fields.get("p") or {}),
        str(fields.get("x") or ""),
        str(fields.get("r") or ""),
        float(expires_at) if isinstance(expires_at, (int, float)) else None,
    )


def mail_of(mail: wire.MailMessage) -> Raw:
    """A message of a mailbox. One that another program has published has no envelope of ours."""
    try:
        return unpacked(mail.properties, mail.body, mail.content_type)
    except (ValueError, TypeError):
        return Raw(mail.body, mail.content_type, "", {}, {}, mail.exchange, mail.routing_key)


def _tagged(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {_BYTES: base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, (UUID, Decimal, date)):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    # AMQP drops what it has no type for. The place of the value stays.
    return None


def _untagged(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        if isinstance(value.get(_BYTES), str):
            return base64.b64decode(value[_BYTES])
        if isinstance(value.get(_TIME), str):
            return datetime.fromisoformat(value[_TIME])
    return value
