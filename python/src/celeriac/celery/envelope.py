"""What a message of AMQP has beside its body, as JSON bytes: headers and properties."""

from __future__ import annotations

import base64
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

HEADER = "celeriac.amqp"
"""The header of a task, under which the bytes stand."""

IN_FRONT = "celeriac.amqp-length"
"""The header of a task whose bytes stand in front of the payload: they are that many."""

RUN = "celeriac_run"
"""The property that names a run to the process that executes it: the stored id and the lease."""

RIDES = "celeriac_rides"
"""The property that is set when the parent of the process reports the outcome of the run."""

SUBMIT_KEY = "celeriac_submit_key"
"""The property that a message keeps when kombu publishes it again after a lost connection."""

HEADER_BYTES_MAX = 48 * 1024
"""The broker takes 64 KiB for all headers of a task."""

_OWN = frozenset((RIDES, RUN, SUBMIT_KEY))
_MARK = b"__celeriac_"
_BYTES, _TIME = "__celeriac_bytes__", "__celeriac_time__"
"""Both begin with the mark."""


class Raw(NamedTuple):
    """A message as a channel takes and gives it."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str = ""
    routing_key: str = ""


def packed(raw: Raw, exchange: str, routing_key: str) -> bytes:
    """All but the body and its content type."""
    fields = {
        "h": raw.headers,
        "p": {name: value for name, value in raw.properties.items() if name not in _OWN},
        "e": raw.content_encoding,
        "x": exchange,
        "r": routing_key,
    }
    return json.dumps(fields, default=_tagged, separators=(",", ":"), skipkeys=True).encode()


def unpacked(data: bytes, body: bytes, content_type: str) -> Raw:
    """The message again. Raises `ValueError` for bytes that this module has not made."""
    # The decoder is much faster without a hook, and few envelopes need one.
    fields = json.loads(data, object_hook=_untagged) if _MARK in data else json.loads(data)
    if not isinstance(fields, dict):
        raise ValueError("the envelope of a message is no object")
    return Raw(
        body,
        content_type,
        str(fields.get("e") or ""),
        dict(fields.get("h") or {}),
        dict(fields.get("p") or {}),
        str(fields.get("x") or ""),
        str(fields.get("r") or ""),
    )


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
