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

_NOTED_MAX = 1000


class Routes:
    """The bindings of the broker, for one connection."""

    def __init__(self) -> None:
        self.queues: set[str] = set()
        """Names that are known to be queues of tasks."""
        self._bindings: dict[str, list[wire.BindingInfo]] = {}
        self._listed_at = 0.0
        self._to_queues: set[str] = set()
        """Exchanges that are bound to a queue of tasks, or were so lately."""
        self._to_mailboxes: dict[tuple[str, str], float] = {}
        """When the broker has last said that an exchange and a routing key lead to mailboxes
        alone."""

    def forget(self) -> None:
        """Something has changed: the next look asks the broker."""
        self._listed_at = 0.0
        self._to_mailboxes.clear()

    def note_queues(self, exchange: str) -> None:
        """The broker says that a message to this exchange belongs into a queue of tasks."""
        self.forget()
        if exchange:
            self._to_queues.add(exchange)

    def note_mailboxes(self, exchange: str, routing_key: str) -> None:
        """The broker has put a message into mailboxes, and into no queue."""
        if len(self._to_mailboxes) >= _NOTED_MAX:
            self._to_mailboxes.clear()
        self._to_mailboxes[exchange, routing_key] = monotonic()

    def leads_to_mailboxes(self, exchange: str, routing_key: str) -> bool:
        """Whether the broker said a moment ago that this route leads to mailboxes alone."""
        told_at = self._to_mailboxes.get((exchange, routing_key))
        return told_at is not None and monotonic() - told_at < _FRESH_SECONDS

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
        """Whether this exchange is bound to a queue of tasks, as far as this connection was told.
        A message to another exchange tells: the broker refuses to put it into mailboxes."""
        if exchange not in self._to_queues:
            return False
        if any(
            binding.destination is not None and binding.destination.queue
            for binding in self.of(exchange, line)
        ):
            return True
        self._to_queues.discard(exchange)
        return False


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
