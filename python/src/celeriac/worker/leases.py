"""The leases that this worker holds. The pools, which run handlers, and the driver, which talks to
the broker, meet here and nowhere else.

A lease is held from its delivery until the broker has answered the report of its end. A second
delivery of a held lease is a repetition and is ignored. A lease that is not held is lost, and
nothing is reported of it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from celeriac import _codec as wire
from celeriac.context import Context
from celeriac.worker.reports import Encoded, PendingReports, encoded

log = logging.getLogger("celeriac.worker")

#: What a lease does: its delivery waits; it has a place in the pool; its end is reported.
WAITING, RUNNING, REPORTED = range(3)

RELEASE = wire.Release()
RELEASE_UNBEGUN = wire.Release(not_begun=True)
RELEASE_LOST = wire.Release(lost=True)


class Held:
    """One lease."""

    __slots__ = (
        "asked", "begun_at", "context", "delivery", "lease", "may_begin", "place", "state",
    )  # fmt: skip

    def __init__(self, delivery: wire.Delivery) -> None:
        self.delivery = delivery
        self.lease = delivery.lease
        self.state = WAITING
        self.begun_at: float | None = None
        """When the handler began, by the monotonic clock; None before."""
        self.may_begin = not delivery.report_start
        """False until the broker has answered the report of the start, where it asks for one."""
        self.asked = 0
        """What was asked of the run before it had a context."""
        self.context: Context | None = None
        self.place: Any = None
        """Where the pool runs it."""

    @property
    def id(self) -> str:
        """The id of the task."""
        return self.delivery.id


class Leases:
    """The leases of one worker. `lock` guards everything; nobody runs a handler or waits under it.

    `wake` tells the driver that there is something for it to do.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self.wake = wake
        self.waiting: deque[Held] = deque()
        """The deliveries that wait for a place in the pool, in the broker's order."""
        self.held: dict[int, Held] = {}
        self.reports = PendingReports()
        self.begun: list[Held] = []
        """The leases whose handler began and whose start is not reported yet."""
        self.is_watched = False
        """Whether the driver will look at `begun` soon without being woken."""
        self.ended = 0
        """The runs that ended since the last look at the pace."""
        self.moved_at = 0.0
        """When a delivery last left `waiting`, or came when it was empty."""

    def deliver(self, deliveries: Iterable[wire.Delivery]) -> int:
        """Queues deliveries in the broker's order. Returns how many of them are new."""
        count = 0
        with self.lock:
            if not self.waiting:
                self.moved_at = monotonic()
            for delivery in deliveries:
                if delivery.lease in self.held:
                    log.debug("Ignored the repeated delivery of %s.", delivery.id)
                    continue
                held = Held(delivery)
                self.held[delivery.lease] = held
                self.waiting.append(held)
                count += 1
        return count

    def refuse(self, deliveries: Iterable[wire.Delivery]) -> None:
        """Hands back deliveries at once, without queuing them."""
        with self.lock:
            for delivery in deliveries:
                if delivery.lease not in self.held:
                    held = self.held[delivery.lease] = Held(delivery)
                    self._end(held, RELEASE_UNBEGUN)

    def take(self) -> Held | None:
        """The next delivery, which then has a place in the pool. The caller has the lock."""
        if not self.waiting:
            return None
        held = self.waiting.popleft()
        held.state = RUNNING
        self.moved_at = monotonic()
        return held

    def give_back(self, given: Iterable[Held]) -> None:
        """Deliveries lose their places in the pool without having begun, and wait again, in front.
        Those that were lost meanwhile do not. The caller has the lock."""
        for held in reversed(list(given)):
            if held.state == RUNNING and self.held.get(held.lease) is held:
                held.state = WAITING
                held.place = None
                self.waiting.appendleft(held)

    def begin(self, held: Held) -> None:
        """The handler of this lease begins now. The caller has the lock."""
        held.begun_at = monotonic()
        self.begun.append(held)
        if not self.is_watched:
            self.is_watched = True
            self.wake()

    def end(self, held: Held, report: Any) -> bool:
        """Takes the report of a run's end. Returns False when the lease was lost or handed back
        before: nothing is reported of it then."""
        with self.lock:
            return self._end(held, report)

    def end_encoded(self, held: Held, report: Encoded) -> bool:
        """As `end`, for a report that is already encoded. The caller has the lock."""
        if held.state != RUNNING or self.held.get(held.lease) is not held:
            return False
        held.state = REPORTED
        self.reports.push_end(report)
        return True

    def progress(self, lease: int, state: str, meta: bytes) -> None:
        """Takes a handler's progress. Nothing is reported of a lease that is lost or has ended."""
        with self.lock:
            held = self.held.get(lease)
            if held is not None and held.state == RUNNING:
                report = wire.ProgressReport(state=state, meta=meta)
                self.reports.push_progress(encoded(held.id, lease, report))
        self.wake()

    def ask_for_start(self, held: Held) -> None:
        """Reports the start of a run that begins when the broker has answered it. The caller has
        the lock."""
        self.reports.push_start(encoded(held.id, held.lease, wire.Started()))

    def hand_back(self, held: Held) -> None:
        """Hands back one delivery, if it still waits."""
        with self.lock:
            if held.state == WAITING:
                self.waiting.remove(held)
                self._end(held, RELEASE_UNBEGUN)

    def release_waiting(self) -> int:
        """Hands back every delivery that waits. Returns how many."""
        with self.lock:
            count = len(self.waiting)
            while self.waiting:
                self._end(self.waiting.popleft(), RELEASE_UNBEGUN)
        return count

    def running(self) -> list[Held]:
        """The leases that have a place in the pool."""
        with self.lock:
            return [held for held in self.held.values() if held.state == RUNNING]

    def lose(self, lease: int) -> Held | None:
        """Forgets a lease: nothing more is reported of it. Returns it when the pool has it."""
        with self.lock:
            held = self.held.pop(lease, None)
            self.reports.forget(lease)
            if held is None or held.state == REPORTED:
                return None
            if held.state == WAITING:
                self.waiting.remove(held)
                return None
            held.state = REPORTED
            return held

    def retain(self, leases: Iterable[int]) -> list[Held]:
        """Forgets the leases that a resumed session does not have, unless their end is reported:
        the broker may have taken that report, and its answer settles it. Returns those that the
        pool has."""
        kept = set(leases)
        lost = [held for held in list(self.held.values()) if held.lease not in kept]
        found = [self.lose(held.lease) for held in lost if held.state != REPORTED]
        return [held for held in found if held is not None]

    def lose_all(self) -> list[Held]:
        """Forgets all leases. Returns those that the pool has."""
        with self.lock:
            lost = [held for held in self.held.values() if held.state == RUNNING]
            for held in lost:
                held.state = REPORTED
            self.held.clear()
            self.waiting.clear()
            self.begun.clear()
            self.reports.clear()
        return lost

    def report_starts(self) -> list[Held]:
        """Makes the reports of starts of handlers that still run. Returns these leases."""
        with self.lock:
            begun, self.begun = self.begun, []
            self.is_watched = False
            begun = [held for held in begun if held.state == RUNNING]
            for held in begun:
                if not held.delivery.report_start:
                    self.reports.push_start(encoded(held.id, held.lease, wire.Started()))
        return begun

    def unanswered(self) -> int:
        """The number of leases whose end the broker has not answered."""
        return len(self.held)

    def is_settled(self) -> bool:
        """Whether the worker holds no lease, and no report waits to be sent."""
        with self.lock:
            return not self.held and not self.reports

    def _end(self, held: Held, report: Any) -> bool:
        if held.state == REPORTED or self.held.get(held.lease) is not held:
            return False
        held.state = REPORTED
        self.reports.push_end(encoded(held.id, held.lease, report))
        return True
