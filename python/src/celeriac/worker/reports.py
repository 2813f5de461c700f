"""The reports that wait to be sent, in the order in which they were made for each lease.

They need no bound of their own: of each lease there are at most a start, the newest progress and an
end, and the broker grants no more leases than the credit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache

from celeriac import _codec as wire
from celeriac._protobuf import number

#: The shortest time between two progress reports of one lease, however often its handler reports.
PROGRESS_INTERVAL = 0.1

#: The kinds of reports. After an end the worker reports nothing more of the lease.
START, PROGRESS, END = range(3)


class Encoded:
    """One report, as it is sent."""

    __slots__ = ("data", "kind", "lease")

    def __init__(self, lease: int, kind: int, data: bytes) -> None:
        self.lease = lease
        self.kind = kind
        self.data = data
        """The encoded `TaskReport`."""


def encoded(task_id: str, lease: int, report: object) -> Encoded:
    """A report about a lease."""
    if type(report) is wire.Complete and report.result_ttl_ms is None:
        return Encoded(lease, END, _success(task_id, lease, report))
    message = wire.TaskReport(id=task_id, lease=lease, report=report)  # type: ignore[arg-type]
    return Encoded(lease, kind_of(report), message.encode())


def _success(task_id: str, lease: int, report: wire.Complete) -> bytes:
    """The bytes of nearly all reports, in a third of the time. A test compares them with those of
    the codec."""
    data, result = task_id.encode(), report.result
    body = _kind_field(report.content_type)
    if result:
        body = b"\n%b%b%b" % (number(len(result)), result, body)
    head = (number(len(data)), data, number(lease), number(len(body)))
    return b"\n%b%b\x10%b*%b%b" % (*head, body)


@lru_cache(maxsize=64)
def _kind_field(kind: str) -> bytes:
    """The field with the content type, of which there are few."""
    data = kind.encode()
    return b"\x12%b%b" % (number(len(data)), data) if data else b""


def kind_of(report: object) -> int:
    """The kind of a report."""
    if isinstance(report, wire.Started):
        return START
    return PROGRESS if isinstance(report, wire.ProgressReport) else END


class PendingReports:
    """The reports that wait to be sent."""

    def __init__(self) -> None:
        self._due: deque[Encoded] = deque()
        self._progress: dict[int, tuple[Encoded | None, float]] = {}
        """The newest progress of a lease that is not sent yet, and when the latest was sent."""

    def __bool__(self) -> bool:
        return bool(self._due) or any(newest for newest, _ in self._progress.values())

    def push_start(self, report: Encoded) -> None:
        """Adds a start. Progress of the same run is sent after it."""
        self._due.append(report)

    def push_end(self, report: Encoded) -> None:
        """Adds an end. The newest progress of the lease is sent before it."""
        # Most tasks report no progress, and need no look into the table.
        if self._progress:
            newest, _ = self._progress.pop(report.lease, (None, 0.0))
            if newest is not None:
                self._due.append(newest)
        self._due.append(report)

    def push_progress(self, report: Encoded) -> None:
        """Adds progress. It replaces progress of the same lease that was not sent yet."""
        _, sent_at = self._progress.get(report.lease, (None, 0.0))
        self._progress[report.lease] = (report, sent_at)

    def put_back(self, reports: Iterable[Encoded]) -> None:
        """Puts reports back that were not answered, in front of the others."""
        self._due.extendleft(reversed(list(reports)))

    def forget(self, lease: int) -> None:
        """Drops the reports of a lost lease."""
        if any(report.lease == lease for report in self._due):
            self._due = deque(report for report in self._due if report.lease != lease)
        self._progress.pop(lease, None)

    def clear(self) -> None:
        """Drops all reports, when all leases are lost."""
        self._due.clear()
        self._progress.clear()

    def take_batch(self, items_max: int, bytes_max: int, now: float) -> list[Encoded]:
        """The next reports, up to these bounds; one report even when it alone is longer."""
        batch: list[Encoded] = []
        size = 0
        due = self._due
        while due:
            size += len(due[0].data)
            if batch and (size > bytes_max or len(batch) >= items_max):
                return batch
            batch.append(due.popleft())
        if self._progress:
            self._take_progress(batch, items_max, bytes_max - size, now)
        return batch

    def _take_progress(self, batch: list[Encoded], items_max: int, room: int, now: float) -> None:
        for lease, (newest, sent_at) in self._progress.items():
            # Progress that came too soon after the last report stays until its time.
            if newest is None or now < sent_at + PROGRESS_INTERVAL:
                continue
            room -= len(newest.data)
            if batch and (room < 0 or len(batch) >= items_max):
                return
            self._progress[lease] = (None, now)
            batch.append(newest)

    def next_progress_at(self) -> float | None:
        """When progress that waits for its time may be sent; None when none waits."""
        times = [sent_at for newest, sent_at in self._progress.values() if newest is not None]
        return min(times) + PROGRESS_INTERVAL if times else None
