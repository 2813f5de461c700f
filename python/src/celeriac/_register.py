"""Makes `celeriac://` known to kombu.

kombu loads the entry points of the group `kombu.serializers` whenever `kombu.serialization` is
imported, and `import celery` always imports it. This module is such an entry point. A module that
raises there would break `import celery` for the whole machine, so this one raises nothing, reads
no file and opens no connection.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

TRANSPORT = "celeriac.celery.transport:Transport"

SCHEMES = ("celeriac", "celeriacs")
"""The second one is for a broker with TLS."""

serializer: tuple[Callable[[Any], str], Callable[[Any], Any], str, str] = (
    json.dumps,
    json.loads,
    "application/x-celeriac-json",
    "utf-8",
)
"""The group wants a serializer, so the entry point names this one. Nothing uses it."""


def register() -> None:
    """Adds the schemes to the transports of kombu. Without kombu nothing happens."""
    # kombu may be absent, broken, or of a version that keeps its transports elsewhere.
    with contextlib.suppress(Exception):
        from kombu import transport

        for scheme in SCHEMES:
            transport.TRANSPORT_ALIASES.setdefault(scheme, TRANSPORT)


register()
