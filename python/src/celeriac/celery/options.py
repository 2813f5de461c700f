"""What `broker_transport_options` may say. Other names are ignored: those of the transport that an
app had before may stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from celeriac._codec import OnConflict

LEAD_SECONDS = 10.0
CONFIRM_SECONDS = 10.0
DELIVERIES_MAX = 20
_DELIVERIES_BOUND = 1_000_000
_PRIORITY_MAX = 9

_ON_CONFLICT = {
    "beside": OnConflict.BESIDE,
    "join": OnConflict.RUN_AGAIN_IF_FINISHED,
    "reject": OnConflict.REJECT,
    "replace": OnConflict.REPLACE,
}


class Options(NamedTuple):
    """The options of one connection."""

    on_conflict: int = OnConflict.BESIDE
    """What becomes of a message whose id is that of an unfinished task."""
    max_deliveries: int = DELIVERIES_MAX
    """How often a task may begin without an end before it fails as `worker_lost`."""
    eta_lead: float = LEAD_SECONDS
    """So many seconds before its eta a task is handed out. Celery's workers show it as scheduled
    meanwhile."""
    any_name: bool = False
    """Whether a worker of Celery takes, and discards, tasks that it does not know."""
    is_reversed: bool = False
    """Whether 0 is the highest priority, as on Redis."""
    is_pipelined: bool = False
    """Whether a publish returns before the broker has confirmed it."""
    confirm_timeout: float = CONFIRM_SECONDS
    """So many seconds a publish waits until the broker has confirmed it, before it is sent on
    another connection. The end of a batch, or of a group, waits so long for all of its messages,
    also while no connection can be opened."""

    def priority(self, value: int) -> int:
        """The priority in the broker for one of a message, and the reverse."""
        return _PRIORITY_MAX - value if self.is_reversed else value


def options_of(values: Mapping[str, Any] | None) -> Options:
    """Reads the options. Raises `ValueError` for a value that an option cannot have."""
    given = values or {}
    conflict = given.get("on_conflict", "beside")
    if conflict not in _ON_CONFLICT:
        raise _invalid("on_conflict", conflict, "'beside', 'join', 'reject' or 'replace'")
    order = given.get("priority_order", "amqp")
    if order not in ("amqp", "redis"):
        raise _invalid("priority_order", order, "'amqp' or 'redis'")
    confirm = given.get("confirm", "each")
    if confirm not in ("each", "pipeline"):
        raise _invalid("confirm", confirm, "'each' or 'pipeline'")
    any_name = given.get("any_name", False)
    if not isinstance(any_name, bool):
        raise _invalid("any_name", any_name, "True or False")
    deliveries = given.get("max_deliveries", DELIVERIES_MAX)
    if not _is_number(deliveries, int) or not 1 <= deliveries <= _DELIVERIES_BOUND:
        raise _invalid("max_deliveries", deliveries, f"a number from 1 to {_DELIVERIES_BOUND}")
    lead = given.get("eta_lead", LEAD_SECONDS)
    if not _is_number(lead, (int, float)) or not 0 <= lead <= 86_400:
        raise _invalid("eta_lead", lead, "a number of seconds from 0 to 86400")
    timeout = given.get("confirm_timeout", CONFIRM_SECONDS)
    if not _is_number(timeout, (int, float)) or not 0 < timeout <= 86_400:
        raise _invalid("confirm_timeout", timeout, "a number of seconds above 0, to 86400")
    return Options(
        _ON_CONFLICT[conflict],
        deliveries,
        float(lead),
        any_name,
        is_reversed=order == "redis",
        is_pipelined=confirm == "pipeline",
        confirm_timeout=float(timeout),
    )


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _invalid(name: str, value: object, fitting: str) -> ValueError:
    return ValueError(f"broker_transport_options: {name} is {fitting}, not {value!r}")
