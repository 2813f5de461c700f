"""Sends the worker's reports in batches, and sends each of them again until the broker has answered
it. `leases` has the reports."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from celeriac import _codec as wire
from celeriac.worker.broker import Broker
from celeriac.worker.leases import Held, Leases
from celeriac.worker.reports import END, START, Encoded, encoded

log = logging.getLogger("celeriac.worker")

#: The most batches that are sent and unanswered. While the broker commits one batch, the second is
#: on its way. The reports that are made meanwhile form the third, so that batches grow with the
#: load.
BATCHES_IN_FLIGHT_MAX = 2

#: The most bytes of a batch, well below any frame limit.
BATCH_BYTES_MAX = 1024 * 1024

#: The pause after the broker could not take a report, in seconds.
REPORT_PAUSE = 0.2

_Code = wire.ErrorCode
_STALE = {_Code.STALE_LEASE, _Code.NOT_FOUND, _Code.SESSION_LOST}
_AGAIN = {
    _Code.OVERLOADED,
    _Code.INTERNAL,
    _Code.SHUTTING_DOWN,
    _Code.DEADLINE_EXCEEDED,
    _Code.DISK_FULL,
}


class ReportSender:
    """Sends the reports of one worker, in order for each lease."""

    def __init__(
        self,
        broker: Broker,
        leases: Leases,
        on_started: Callable[[Held], None],
        on_lost: Callable[[int], None],
    ) -> None:
        self._broker = broker
        self._leases = leases
        self._on_started = on_started
        """Called when the broker has the report of a start for which a run waits."""
        self._on_lost = on_lost
        """Called when a report shows that its lease is lost."""
        self._in_flight = 0
        self._hold_until = 0.0
        self._one_by_one = 0
        """How many reports are sent alone, because a batch of them was refused as a whole."""

    def send(self, now: float) -> None:
        """Sends the reports that are due, in as many batches as may be unanswered at once."""
        leases = self._leases
        if now < self._hold_until or not leases.reports:
            return
        while self._in_flight < BATCHES_IN_FLIGHT_MAX and self._broker.is_connected:
            items_max = 1 if self._one_by_one else self._broker.limits.batch_items_max or 1
            with leases.lock:
                batch = leases.reports.take_batch(items_max, BATCH_BYTES_MAX, now)
            if not batch:
                return
            self._one_by_one = max(self._one_by_one - 1, 0)
            self._in_flight += 1
            self._broker.report(batch, partial(self._on_answer, batch))

    def next_at(self) -> float | None:
        """When `send` has something to do without being woken."""
        if self._in_flight >= BATCHES_IN_FLIGHT_MAX or not self._broker.is_connected:
            return None
        with self._leases.lock:
            if not self._leases.reports:
                return None
            progress_at = self._leases.reports.next_progress_at() or 0.0
        return max(progress_at, self._hold_until)

    def _on_answer(self, batch: list[Encoded], answer: Any) -> None:
        self._in_flight -= 1
        if isinstance(answer, wire.ReportReply) and len(answer.outcomes) == len(batch):
            self._on_outcomes(batch, answer.outcomes)
        elif isinstance(answer, wire.Error) and not answer.retryable:
            self._on_refused(batch, answer)
        else:
            # Without an answer the connection broke; the next one begins with these reports.
            if answer is not None:
                log.error("The broker's answer to reports does not fit; they are sent again.")
                self._hold_until = monotonic() + REPORT_PAUSE
            self._put_back(batch)

    def _on_outcomes(self, batch: list[Encoded], outcomes: list[wire.ReportOutcome]) -> None:
        held = self._leases.held
        again = []
        for report, outcome in zip(batch, outcomes, strict=True):
            code = outcome.code
            if not code or code == _Code.RESULT_TOO_LARGE:
                # With a result that is too large the broker has already ended the task.
                if report.kind == END:
                    held.pop(report.lease, None)
                elif report.kind == START:
                    self._started(report.lease)
            elif code in _STALE:
                self._on_stale(report)
            elif code in _AGAIN:
                again.append(report)
            else:
                self._give_up(report, f"the code {code}")
        if again:
            self._hold_until = monotonic() + REPORT_PAUSE
            self._put_back(again)

    def _started(self, lease: int) -> None:
        held = self._leases.held.get(lease)
        if held is not None and not held.may_begin:
            self._on_started(held)

    def _on_stale(self, report: Encoded) -> None:
        held = self._leases.held.get(report.lease)
        if held is not None:
            log.warning("The lease of %s is lost; the report changed nothing.", held.id)
            self._on_lost(report.lease)

    def _on_refused(self, batch: list[Encoded], error: wire.Error) -> None:
        """The broker refused a whole batch for good. One of its reports is the reason: they are
        sent one by one, so that the others are not lost with it."""
        if len(batch) > 1:
            self._one_by_one += len(batch)
            self._put_back(batch)
        else:
            self._give_up(batch[0], error.message)

    def _give_up(self, report: Encoded, why: str) -> None:
        """The broker never takes this report. In place of an end, the task is rejected with the
        reason: otherwise it would run for ever in the broker's view. A start or progress is left
        out."""
        held = self._leases.held.get(report.lease)
        if held is None:
            return
        log.error("The broker refused a report of %s: %s", held.id, why)
        if report.kind == START:
            self._started(report.lease)
        if report.kind != END:
            return
        message = wire.TaskReport.decode(report.data)
        if isinstance(message.report, wire.Reject):
            self._on_lost(report.lease)
            return
        text = f"the broker refused the report of this run's end: {why}"
        error = wire.TaskError(kind="report_refused", message=text)
        self._put_back([encoded(held.id, report.lease, wire.Reject(error=error))])

    def _put_back(self, batch: list[Encoded]) -> None:
        with self._leases.lock:
            self._leases.reports.put_back(batch)
