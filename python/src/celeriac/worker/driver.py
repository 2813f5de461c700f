"""Connects the broker with the worker's leases and its pool: takes deliveries, signals and orders,
has reports sent, watches the time limits, and shuts the worker down in order.

The driver has a thread of its own, so that no handler can delay heartbeats and reports.
"""

from __future__ import annotations

import heapq
import logging
from time import monotonic
from typing import Any

from celeriac import _codec as wire
from celeriac.context import CANCEL, SOFT_LIMIT
from celeriac.errors import CeleriacError
from celeriac.worker.broker import Broker
from celeriac.worker.credit import PACE_INTERVAL, Credit
from celeriac.worker.execution import final_failure
from celeriac.worker.leases import RELEASE, RUNNING, WAITING, Held, Leases
from celeriac.worker.loop import Loop
from celeriac.worker.pool import Pool
from celeriac.worker.report_sender import ReportSender

log = logging.getLogger("celeriac.worker")

#: How long the report of a start may wait for other reports, in seconds. Start and end of a task
#: that ends within this time are one report.
START_DELAY = 0.002

#: How long the worker waits at its end for the answers to the last reports.
FLUSH_TIME = 5.0

#: How long the worker waits at its end for the answer to Goodbye.
GOODBYE_TIME = 2.0

#: The pause before the worker asks again for a credit that was not confirmed.
CREDIT_PAUSE = 0.5

#: What was asked of the worker: to go on, to finish what runs, or to hand everything back now.
GO_ON, GRACEFUL, IMMEDIATE = range(3)

#: What the worker does. The phases follow each other in this order.
WORKING, DRAINING, FLUSHING, LEAVING, OVER = range(5)


#: What the log says of each signal.
_SIGNALS: dict[int, str] = {
    wire.CancelSignalKind.COOPERATIVE: "it should stop",
    wire.CancelSignalKind.FORCE: "it is stopped",
    wire.CancelSignalKind.SOFT_TIME_LIMIT: "its soft time limit is over",
    wire.CancelSignalKind.TIME_LIMIT: "its time limit is over",
    wire.CancelSignalKind.TAKEN_BACK: "it was taken back",
}


class Driver:
    """The broker's side of one worker."""

    def __init__(
        self, loop: Loop, broker: Broker, leases: Leases, pool: Pool, credit: Credit, grace: float
    ) -> None:
        self.requested = GO_ON
        """The shutdown that was asked for. Any thread may raise it, and then wakes the loop."""
        self.error: CeleriacError | None = None
        """Why the broker does not accept the worker."""
        self.unanswered = 0
        """At the end: the tasks whose last report the broker has not answered."""
        self._loop = loop
        self._broker = broker
        self._leases = leases
        self._pool = pool
        self._credit = credit
        self._grace = grace
        self._reports = ReportSender(broker, leases, pool.may_begin, self._lose)
        self._phase = WORKING
        self._phase_until = 0.0
        self._is_quiet = False
        self._told_credit: int | None = None
        """The credit that the present connection has; None before it was told."""
        self._credit_at = 0.0
        self._starts_at: float | None = None
        self._pace_at = monotonic() + PACE_INTERVAL
        self._limits: list[tuple[float, int, int, bool]] = []
        """The time limits of the runs: when, the lease, an order for equal ones, whether hard."""
        broker.on_connected = self._on_connected
        broker.on_disconnected = self._on_disconnected
        broker.on_push = self._on_push
        broker.on_refused = self._on_refused
        broker.heartbeat = self._heartbeat

    def run(self) -> None:
        """Works until the worker has shut down, or the broker does not accept it."""
        self._pool.start(self._loop)
        self._broker.start()
        try:
            while self._phase != OVER:
                now = monotonic()
                self._step(now)
                if self._phase != OVER:
                    self._loop.wait(self._next_at() - monotonic())
        finally:
            self._pool.close()
            self._broker.close()
            self._loop.close()

    def _step(self, now: float) -> None:
        self._broker.step(now)
        self._pool.step(now)
        if self._is_quiet:
            self._leases.release_waiting()
        if self._leases.is_watched and self._starts_at is None:
            self._starts_at = now + START_DELAY
        if self._starts_at is not None and now >= self._starts_at:
            self._starts_at = None
            self._watch_limits(self._leases.report_starts())
        self._check_limits(now)
        self._check_phase(now)
        if now >= self._pace_at:
            self._pace_at = now + PACE_INTERVAL
            self._adjust_credit(now)
        self._reports.send(now)
        self._tell_credit(now)

    def _next_at(self) -> float:
        times = [
            self._broker.next_at(),
            self._pool.next_at(),
            self._reports.next_at(),
            self._starts_at,
            self._limits[0][0] if self._limits else None,
            self._phase_until or None,
            self._pace_at if self._leases.held or self._leases.ended else None,
            self._credit_at or None,
        ]
        return min(at for at in times if at is not None)

    # What comes from the broker.

    def _on_connected(self, resumed: bool, leases: list[int]) -> None:
        if resumed:
            lost = self._leases.retain(leases)
        else:
            lost = self._leases.lose_all()
            # An order belongs to the session that got it.
            self._resume()
        for held in lost:
            self._pool.drop(held)
        self._pool.set_result_bytes_max(self._broker.limits.result_bytes_max)
        self._told_credit = None

    def _on_disconnected(self) -> None:
        self._told_credit = None

    def _on_refused(self, error: CeleriacError) -> None:
        self.error = error
        for held in self._leases.lose_all():
            self._pool.drop(held)
        self._phase = OVER

    def _on_push(self, body: Any) -> None:
        if isinstance(body, wire.Deliver):
            if self._is_quiet:
                self._leases.refuse(body.deliveries)
            elif self._leases.deliver(body.deliveries):
                self._pool.dispatch()
        elif isinstance(body, wire.CancelSignal):
            for lease in body.leases:
                self._on_signal(lease, body.kind, body.reason)
        elif isinstance(body, wire.Order):
            self._on_order(body.kind)

    def _on_signal(self, lease: int, kind: int, reason: str) -> None:
        kinds = wire.CancelSignalKind
        held = self._leases.held.get(lease)
        if held is None:
            return
        word = _SIGNALS.get(kind)
        if word is None:
            # A signal of a later protocol.
            return
        log.info("The broker says of %s: %s %s", held.id, word, reason)
        if kind in (kinds.TIME_LIMIT, kinds.TAKEN_BACK):
            # The broker has already ended the lease.
            self._lose(lease)
        elif held.state == WAITING and kind in (kinds.COOPERATIVE, kinds.FORCE):
            self._leases.hand_back(held)
        elif held.state != RUNNING:
            return
        elif kind == kinds.COOPERATIVE:
            self._pool.ask(held, CANCEL)
        elif kind == kinds.SOFT_TIME_LIMIT:
            self._pool.ask(held, SOFT_LIMIT)
        elif kind == kinds.FORCE and self._leases.end(held, RELEASE):
            self._pool.drop(held)

    def _on_order(self, kind: int) -> None:
        kinds = wire.OrderKind
        if kind == kinds.QUIET and self._phase == WORKING and not self._is_quiet:
            log.info("The broker orders the worker to take no new tasks.")
            self._stop_taking()
        elif kind == kinds.RESUME:
            self._resume()
        elif kind == kinds.SHUTDOWN and self._phase == WORKING:
            log.info("The broker orders the worker to shut down.")
            self._drain()

    def _lose(self, lease: int) -> None:
        held = self._leases.lose(lease)
        if held is not None:
            self._pool.drop(held)

    # Credit.

    def _adjust_credit(self, now: float) -> None:
        leases = self._leases
        with leases.lock:
            ended, leases.ended = leases.ended, 0
            busy, leases.busy = leases.busy, 0.0
            held_up = now - leases.moved_at if leases.waiting else 0.0
        if not self._is_quiet and self._credit.adjust(ended, busy, held_up):
            leases.release_waiting()

    def _tell_credit(self, now: float) -> None:
        """Tells the broker the wanted credit. Reports go first, so that ended tasks take no
        place."""
        wanted = 0 if self._is_quiet else self._credit.wanted
        wanted = min(wanted, self._broker.limits.credit_max or wanted)
        if self._told_credit == wanted or not self._broker.is_connected or now < self._credit_at:
            return
        if not self._pool.is_ready and self._told_credit is None:
            return
        self._told_credit = wanted
        self._credit_at = 0.0
        self._broker.request(wire.Credit(credit=wanted), self._on_credit_answer)

    def _on_credit_answer(self, answer: Any) -> None:
        if isinstance(answer, wire.Error):
            self._told_credit = None
            self._credit_at = monotonic() + CREDIT_PAUSE

    # Time limits.

    def _watch_limits(self, begun: list[Held]) -> None:
        for held in begun:
            delivery, begun_at = held.delivery, held.begun_at
            soft, hard = delivery.soft_time_limit_ms, delivery.time_limit_ms
            if begun_at is None:
                continue
            # A soft limit that is not shorter than the hard one would come too late.
            if soft is not None and (hard is None or soft < hard):
                heapq.heappush(self._limits, (begun_at + soft / 1000, held.lease, 0, False))
            if hard is not None:
                heapq.heappush(self._limits, (begun_at + hard / 1000, held.lease, 1, True))

    def _check_limits(self, now: float) -> None:
        while self._limits and self._limits[0][0] <= now:
            _, lease, _, is_hard = heapq.heappop(self._limits)
            held = self._leases.held.get(lease)
            if held is None or held.state != RUNNING:
                continue
            if not is_hard:
                log.warning("The soft time limit of %s is over.", held.id)
                self._pool.ask(held, SOFT_LIMIT)
                continue
            message = "the handler ran longer than its time limit"
            if self._leases.end(held, final_failure("time_limit", message)):
                log.warning("The time limit of %s is over.", held.id)
                self._pool.drop(held)

    # The end.

    def _check_phase(self, now: float) -> None:
        if self.requested >= IMMEDIATE and self._phase < FLUSHING:
            self._release_all(now)
        elif self.requested >= GRACEFUL and self._phase == WORKING:
            self._drain()
        if self._phase == WORKING:
            return
        is_over = now >= self._phase_until
        if self._phase in (DRAINING, FLUSHING) and self._leases.is_settled():
            self._leave(now)
        elif self._phase == DRAINING and is_over:
            self._release_all(now)
        elif self._phase == FLUSHING and is_over:
            self.unanswered = self._leases.unanswered()
            log.error(
                "The worker ends before the broker has answered the reports of %d tasks.",
                self.unanswered,
            )
            self._leave(now)
        elif self._phase == LEAVING and is_over:
            self._phase = OVER

    def _stop_taking(self) -> None:
        """Takes no further deliveries, and hands back those that have not begun. The credit goes
        first: otherwise the broker would deliver here again what comes back."""
        self._is_quiet = True
        self._tell_credit(monotonic())
        self._leases.release_waiting()
        self._pool.withdraw()

    def _resume(self) -> None:
        if self._is_quiet and self._phase == WORKING:
            log.info("The worker takes tasks again.")
            self._is_quiet = False

    def _drain(self) -> None:
        self._phase = DRAINING
        self._phase_until = monotonic() + self._grace
        self._stop_taking()
        log.info(
            "The worker shuts down. What runs has %g s; tasks: %d.",
            self._grace,
            self._pool.running,
        )

    def _release_all(self, now: float) -> None:
        """Hands back everything, and waits for the last answers."""
        if not self._is_quiet:
            self._stop_taking()
        running = self._leases.running()
        if running:
            log.warning("The worker hands back what still runs; tasks: %d.", len(running))
        for held in running:
            if self._leases.end(held, self._pool.release_of(held)):
                self._pool.drop(held)
        self._phase = FLUSHING
        self._phase_until = now + FLUSH_TIME

    def _leave(self, now: float) -> None:
        """Says Goodbye. The broker answers and closes the connection."""
        if not self._broker.is_connected:
            self._phase = OVER
            return
        self._phase = LEAVING
        self._phase_until = now + GOODBYE_TIME
        self._broker.request(wire.Goodbye(), self._on_goodbye)

    def _on_goodbye(self, _: Any) -> None:
        self._phase = OVER

    def _heartbeat(self) -> wire.Heartbeat:
        return wire.Heartbeat(running=self._pool.running, memory_bytes=_memory_bytes())


def _memory_bytes() -> int:
    """The memory of this process; 0 where the system does not tell it."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmRSS:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
