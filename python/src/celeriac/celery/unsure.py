"""A publish that failed may have reached the broker. kombu repeats it with the same properties,
which have the submit key. Celery repeats by itself what it publishes after a run, such as the next
step of a chain: then the headers are the same object, and the properties are new. This module
remembers, for each thread, the headers of the publish that failed last.
"""

from __future__ import annotations

import threading
from typing import Any

from celeriac.celery.envelope import SUBMIT_KEY, Raw


class _Failed(threading.local):
    # The object itself is kept, so that no other object takes its place in memory.
    headers: dict[str, Any] | None = None
    key: str | None = None


_failed = _Failed()


def note(raw: Raw) -> None:
    """The publish of this message has failed."""
    _failed.headers, _failed.key = raw.headers, raw.properties.get(SUBMIT_KEY)


def forget() -> None:
    """The last publish of this thread has not failed."""
    _failed.headers = _failed.key = None


def key_of(headers: dict[str, Any] | None) -> str | None:
    """The submit key of the publish that is repeated with these headers."""
    return _failed.key if headers and headers is _failed.headers else None
