"""Where messages go that are published to an exchange.

The broker leads messages to mailboxes by itself. A task names its queue, so for exchanges that are
bound to queues of tasks this module follows the bindings as the broker lists them.
"""

from __future__ import annotations

from time import monotonic

from celeriac import _codec as wire
from celeriac.celery.line import Line

_FRESH_SECONDS = 1.0
"""Bindings of other processes are seen after this time at the latest."""


class Routes:
    """The bindings of the broker, for one connection."""

    def __init__(self) -> None:
        self.queues: set[str] = set()
        """Names that are known to be queues of tasks."""
        self._bindings: dict[str, list[wire.BindingInfo]] = {}
        self._listed_at = 0.0

    def forget(self) -> None:
        """Something has changed: the next look asks the broker."""
        self._listed_at = 0.0

    def of(self, exchange: str, line: Line) -> list[wire.BindingInfo]:
        """The bindings of one exchange."""
        if monotonic() - self._listed_at > _FRESH_SECONDS or not self._listed_at:
            self._bindings = {}
            for binding in bindings_of(line):
                self._bindings.setdefault(binding.exchange, []).append(binding)
            self._listed_at = monotonic()
        return self._bindings.get(exchange, [])

    def destinations(
        self, exchange: str, routing_key: str, line: Line
    ) -> tuple[list[str], list[str]]:
        """The queues of tasks, and the mailboxes, that a message goes to. Each stands there once,
        in order."""
        queues: dict[str, None] = {}
        mailboxes: dict[str, None] = {}
        for binding in self.of(exchange, line):
            destination = binding.destination
            if destination is None or not _leads(binding, routing_key):
                continue
            if destination.queue:
                queues[destination.queue] = None
            else:
                mailboxes[destination.mailbox] = None
        return list(queues), list(mailboxes)

    def leads_to_queues(self, exchange: str, line: Line) -> bool:
        """Whether this exchange is bound to a queue of tasks."""
        return any(
            binding.destination is not None and binding.destination.queue
            for binding in self.of(exchange, line)
        )


def bindings_of(line: Line) -> list[wire.BindingInfo]:
    """All bindings of the broker."""
    found: list[wire.BindingInfo] = []
    cursor = b""
    while True:
        page = line.call(wire.ListBindings(cursor=cursor), wire.BindingList)
        found += page.bindings
        cursor = page.cursor
        if not cursor:
            return found


def _leads(binding: wire.BindingInfo, routing_key: str) -> bool:
    if binding.type == wire.ExchangeType.FANOUT:
        return True
    if binding.type == wire.ExchangeType.TOPIC:
        return topic_matches(binding.routing_key, routing_key)
    return binding.routing_key == routing_key


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Whether a binding of a topic exchange takes this key: `*` is one word, and `#` is any number
    of words."""
    places = {0}
    words = routing_key.split(".")
    for part in pattern.split("."):
        if part == "#":
            places = set(range(min(places), len(words) + 1)) if places else places
        else:
            places = {at + 1 for at in places if at < len(words) and part in ("*", words[at])}
    return len(words) in places
