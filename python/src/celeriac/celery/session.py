"""The worker's session of one channel: deliveries come in, and reports on their leases go out.

The session belongs to the process and not to the channel. When its connection breaks, the next
channel of the process resumes the session, and the leases of tasks that run go on.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from celeriac import _codec as wire
from celeriac.celery.faults import CONNECTION_ERRORS, channel_error
from celeriac.celery.line import Line
from celeriac.errors import BrokerError
from celeriac.url import BrokerUrl

_M = TypeVar("_M", bound=wire.Message)

_REPORTS_MAX = 1000
_REPORT_BYTES_MAX = 4 * 1024 * 1024
"""The results of one request take at most this much. The broker takes 16 MiB."""
_IN_FLIGHT_MAX = 1
"""While so many requests with reports are unanswered, further reports wait and leave together. The
broker writes one to its disk meanwhile, and would not begin with more."""
_BEGIN_SECONDS = 0.004
"""So long the report of a beginning waits: the end of a short task takes its place."""
_CREDIT_MAX = 10_000
_WEIGHT = 1


class Run:
    """One lease, from its delivery to the report that ends it."""

    __slots__ = (
        "fault",
        "has_end",
        "id",
        "is_accepted",
        "is_again",
        "is_ended",
        "is_handed",
        "is_lost",
        "is_over",
        "is_seen",
        "is_settled",
        "job_of",
        "last",
        "lease",
        "queue",
        "unsent",
        "writes",
    )

    def __init__(self, delivery: wire.Delivery) -> None:
        self.id = delivery.id
        self.lease = delivery.lease
        self.queue = delivery.queue
        self.is_again = delivery.generation > 1 and not delivery.revoked_reason
        """Whether the id was used before."""
        self.has_end = False
        """Whether Celery will say when the run is over. The acknowledgement is no end then."""
        self.is_accepted = False
        """Whether Started or Settle was reported."""
        self.is_seen = False
        """Whether a consumer has got the message."""
        self.is_settled = False
        """Whether Settle was reported: the task never runs again."""
        self.is_over = False
        """Whether the run is over, so that an acknowledgement ends the lease."""
        self.is_ended = False
        """Whether the report that ends the lease was made."""
        self.is_handed = False
        """Whether the pool got the task before the connection was lost: Celery runs it."""
        self.job_of: Callable[[], Any] | None = None
        """What the pool makes of the task, where the hook knows it."""
        self.is_lost = False
        """Whether the process that ran the task died."""
        self.fault: wire.TaskError | None = None
        """Why the message is rejected, where Celery does not tell it to the channel."""
        self.last: Any = None
        """The report that an acknowledgement of the run makes."""
        self.unsent: wire.TaskReport | None = None
        """The last report of the run, as long as it was not sent."""
        self.writes = False
        """Whether reports leave at once. The solo pool blocks the event loop while a task runs."""


class Session:
    """Opens its connection with `open`. One thread reads; any thread may report."""

    def __init__(self, url: BrokerUrl) -> None:
        self.url = url
        self.pid = os.getpid()
        self.thread = threading.get_ident()
        """The thread that has opened the session, and reads it."""
        self.runs: dict[int, Run] = {}
        self.credit = 0
        self.queues: set[str] = set()
        self.names: frozenset[str] | None = None
        """The names of the tasks to deliver; None for any."""
        self._line: Line | None = None
        self._session_id = ""
        self._resumed: frozenset[int] = frozenset()
        """Leases that the session held already when it was resumed. The broker delivers them again,
        maybe after the report that ends them."""
        self._lost_at = 0.0
        self._lock = threading.Lock()
        self._reports: deque[tuple[Run | None, wire.TaskReport]] = deque()
        self._singles = 0
        """So many reports are sent one by one: the broker has refused them together."""
        self._due_at = 0.0
        """When the first report that waits leaves at the latest, without an answer in the way."""
        self._unanswered: deque[list[wire.TaskReport]] = deque()
        self._stopped = threading.Event()
        self._has_begun = threading.Event()
        """Set when only reports of beginnings wait."""

    @property
    def line(self) -> Line:
        """The open connection."""
        line = self._line
        if line is None or line.is_broken:
            raise ConnectionError("the session of the worker has no connection")
        return line

    @property
    def is_open(self) -> bool:
        """Whether the session has a connection."""
        return self._line is not None and not self._line.is_broken

    @property
    def has_reports(self) -> bool:
        """Whether reports wait."""
        return bool(self._reports)

    def open(self) -> None:
        """Connects, and resumes the session when there was one."""
        self._stopped = threading.Event()
        info = wire.WorkerInfo(
            hostname=socket.gethostname()[:255],
            pid=self.pid,
            task_names=sorted(self.names or ()),
            any_name=self.names is None,
            keeps_leases=True,
        )
        self._line = line = Line(self.url, worker=info, session_id=self._session_id)
        welcome = line.welcome
        is_resumed = welcome.resumed and welcome.session_id == self._session_id
        self._session_id = welcome.session_id
        self.credit = 0
        self.queues.clear()
        with self._lock:
            held = set(welcome.leases) if is_resumed else set()
            again = [(None, report) for batch in self._unanswered for report in batch]
            self._unanswered.clear()
            self._reports.extendleft(reversed(again))
            if not is_resumed:
                self._reports.clear()
            for lease in list(self.runs):
                if lease not in held:
                    del self.runs[lease]
            self._resumed = frozenset(self.runs)
        self._let_go()
        self.flush()
        threading.Thread(
            target=self._beat, args=(line, self._stopped), name="celeriac-heartbeat", daemon=True
        ).start()

    def _let_go(self) -> None:
        """Releases the leases that Celery has dropped with the lost connection: all that the pool
        did not get."""
        idle = [
            run
            for run in self.runs.values()
            if not run.is_accepted and not run.is_handed and not run.is_ended
        ]
        for run in sorted(idle, key=lambda run: run.lease, reverse=True):
            self.end(run, wire.Release())

    def _beat(self, line: Line, stopped: threading.Event) -> None:
        """The event loop may stand still for longer than a lease, and its poll sleeps for a second
        at least. So a thread sends heartbeats, and the beginnings that no end has followed."""
        seconds = max(line.welcome.heartbeat_ms / 1000, 0.05)
        due_at = monotonic() + seconds
        while not stopped.is_set() and not line.is_broken:
            if self._has_begun.wait(max(due_at - monotonic(), 0.0)):
                self._has_begun.clear()
                stopped.wait(_BEGIN_SECONDS)
                with contextlib.suppress(Exception):
                    self.flush(at_once=False)
            if monotonic() >= due_at:
                due_at = monotonic() + seconds
                with contextlib.suppress(Exception):
                    line.post(wire.Heartbeat(running=len(self.runs)), lambda _: None)

    def _tells_of_runs(self) -> bool:
        """Whether the broker would take runs for lost that have ended, or are about to end, if this
        connection were given up."""
        runs = list(self.runs.values())
        return bool(self._unanswered or self._reports) or any(run.is_accepted for run in runs)

    # Queues and credit

    def _ask(self, body: Any, kind: type[_M]) -> _M:
        """Sends a request. A refusal is a channel error."""
        try:
            return self.line.call(body, kind, is_patient=self._tells_of_runs())
        except BrokerError as error:
            raise channel_error(error, "Basic.consume") from error

    def serve(self, queue: str) -> None:
        """Adds a queue."""
        if queue not in self.queues:
            added = [wire.QueueSubscription(queue=queue, weight=_WEIGHT)]
            self._ask(wire.Serve(add_queues=added), wire.Done)
            self.queues.add(queue)

    def unserve(self, queue: str) -> None:
        """Takes a queue off. Its leases stay."""
        if queue in self.queues:
            self.queues.discard(queue)
            self._ask(wire.Serve(remove_queues=[queue]), wire.Done)

    def announce(self, names: frozenset[str] | None) -> None:
        """Says which names to deliver from now on."""
        if names is None or self.names is None or names == self.names:
            # Whoever takes any name goes on with it.
            return
        added, removed = sorted(names - self.names), sorted(self.names - names)
        self._ask(wire.Serve(add_task_names=added, remove_task_names=removed), wire.Done)
        self.names = names

    def set_credit(self, count: int) -> None:
        """Sets the number of leases that the session may hold; 0 stands for the most."""
        most = self.line.limits.credit_max or _CREDIT_MAX
        credit = min(count or most, most)
        if credit != self.credit:
            self._ask(wire.Credit(credit=credit), wire.Done)
            self.credit = credit

    def take(self, queue: str) -> wire.Delivery | None:
        """Leases one ready task of a queue, if there is one."""
        pushes = self.line.pushes
        if not self._ask(wire.Take(queue=queue, count=1), wire.CountReply).count:
            return None
        # The delivery of a Take comes right before its answer.
        for push in reversed(pushes):
            if isinstance(push, wire.Deliver) and push.deliveries[-1].queue == queue:
                delivery = push.deliveries.pop()
                if not push.deliveries:
                    pushes.remove(push)
                return delivery
        return None

    # Reports

    def add(self, delivery: wire.Delivery) -> Run | None:
        """Notes a delivery. None for one that the session holds already."""
        if delivery.lease in self.runs or delivery.lease in self._resumed:
            return None
        run = self.runs[delivery.lease] = Run(delivery)
        return run

    def report(self, run: Run, body: Any) -> None:
        """Reports on a lease that goes on."""
        if not run.is_ended:
            self._queue(run, body)

    def end(self, run: Run, body: Any) -> None:
        """Ends a lease. Only the first end counts."""
        if not run.is_ended:
            run.is_ended = True
            self._queue(run, body)

    def _queue(self, run: Run, body: Any) -> None:
        with self._lock:
            if not isinstance(body, (wire.Started, wire.Settle)):
                self._due_at = 0.0
            elif not self._reports:
                self._due_at = monotonic() + _BEGIN_SECONDS
                self._has_begun.set()
            unsent = run.unsent
            if unsent is not None and _takes_the_place(body, unsent.report):
                unsent.report = body
            else:
                run.unsent = report = wire.TaskReport(id=run.id, lease=run.lease, report=body)
                self._reports.append((run, report))
        if run.writes:
            with contextlib.suppress(*CONNECTION_ERRORS):
                self.flush()

    def flush(self, *, at_once: bool = True) -> None:
        """Sends the reports that wait. Without a connection they wait for the next one. Unless it
        must be at once, they also wait for answers to earlier ones, and beginnings for ends."""
        while self._reports and self.is_open:
            with self._lock:
                is_full = len(self._unanswered) >= _IN_FLIGHT_MAX
                if not at_once and (is_full or monotonic() < self._due_at):
                    return
                batch = self._next_batch()
                if not batch:
                    return
                self._unanswered.append(batch)
            self.line.post(wire.Report(reports=batch), partial(self._answered, batch))

    def _next_batch(self) -> list[wire.TaskReport]:
        batch: list[wire.TaskReport] = []
        size = 0
        most = 1 if self._singles else _REPORTS_MAX
        self._singles = max(self._singles - 1, 0)
        while self._reports and len(batch) < most and size < _REPORT_BYTES_MAX:
            run, report = self._reports.popleft()
            if run is not None:
                run.unsent = None
            batch.append(report)
            size += _size_of(report.report)
        return batch

    def _answered(self, batch: list[wire.TaskReport], answer: Any) -> None:
        """What the broker refuses is no longer this session's: a retry has taken the place of the
        run, or the lease was lost."""
        with self._lock:
            if batch in self._unanswered:
                self._unanswered.remove(batch)
            if isinstance(answer, wire.Error) and (answer.retryable or len(batch) > 1):
                # One report that the broker cannot take must not cost the others.
                self._singles += 0 if answer.retryable else len(batch)
                self._reports.extendleft((None, report) for report in reversed(batch))
                return
            for report in batch:
                run = self.runs.get(report.lease)
                if run is not None and run.is_ended:
                    self.runs.pop(report.lease, None)

    def forget(self, lease: int) -> Run | None:
        """The lease is gone, and nothing is reported of it."""
        run = self.runs.pop(lease, None)
        if run is not None:
            run.is_ended = True
        return run

    def settle(self) -> None:
        """Waits until the broker has answered all reports."""
        if self.is_open:
            self.flush()
            self.line.read_until(lambda: not self._unanswered, is_patient=True)

    # The end

    def close(self) -> bool:
        """Gives back what is held, in order, and ends the session. False when its connection turns
        out to be lost: the session is as before then."""
        self._stopped.set()
        self._has_begun.set()
        line = self._line
        if line is not None and not line.is_broken:
            with contextlib.suppress(Exception):
                if self.queues:
                    self.set_credit_zero()
                self._take_unread()
                for run in sorted(self.runs.values(), key=lambda run: run.lease, reverse=True):
                    if not run.is_accepted:
                        self.end(run, wire.Release())
                self.settle()
        if line is None or line.is_broken:
            return False
        line.close()
        self._line = None
        return True

    def set_credit_zero(self) -> None:
        """From now on nothing is delivered."""
        self._ask(wire.Credit(), wire.Done)
        self.credit = 0

    def _take_unread(self) -> None:
        for push in self.line.pushes:
            if isinstance(push, wire.Deliver):
                for delivery in push.deliveries:
                    self.add(delivery)

    def leave(self) -> None:
        """Ends the session when the interpreter ends. The broker then gives back what is held, and
        does not wait for the lease."""
        self._stopped.set()
        self._has_begun.set()
        if self.is_open and self.pid == os.getpid():
            self.line.close(1.0)

    def lose(self) -> None:
        """Closes the socket without a word. The broker keeps the leases for a while."""
        for run in list(self.runs.values()):
            run.is_handed = not run.is_accepted and run.job_of is not None and _holds(run.job_of())
        if self._line is not None:
            self._line.drop()
        self._lost_at = monotonic()

    def is_worth_resuming(self) -> bool:
        """Whether runs of this session go on in this process."""
        return bool(self._session_id) and self.pid == os.getpid()


def _takes_the_place(body: Any, before: Any) -> bool:
    """Whether a report says all that an earlier one of the same run says."""
    if isinstance(before, wire.Started):
        return isinstance(body, (wire.Settle, wire.Complete, wire.Fail, wire.Reject))
    # The end of a run that is settled: it is final either way.
    return isinstance(before, wire.Settle) and (
        isinstance(body, (wire.Complete, wire.Reject))
        or (isinstance(body, wire.Fail) and body.final)
    )


class Sessions:
    """The sessions of this process whose connections are lost. They wait for a channel."""

    def __init__(self) -> None:
        self._lost: list[Session] = []
        self._all: weakref.WeakSet[Session] = weakref.WeakSet()
        atexit.register(self._leave)

    def _leave(self) -> None:
        for session in list(self._all):
            with contextlib.suppress(Exception):
                session.leave()

    def holds_again(self, task_id: str) -> bool:
        """Whether this process holds a run of an id that was used before."""
        runs = [run for session in list(self._all) for run in list(session.runs.values())]
        return any(run.id == task_id and run.is_again and not run.is_ended for run in runs)

    def is_read_here(self, lease: int) -> bool:
        """Whether this thread reads the session that holds the lease, and runs the task meanwhile:
        that is the solo pool."""
        pid, here = os.getpid(), threading.get_ident()
        return any(
            each.pid == pid and each.thread == here and lease in each.runs
            for each in list(self._all)
        )

    def lose(self, session: Session) -> None:
        """Keeps a session whose connection is gone."""
        session.lose()
        if session.is_worth_resuming() and session not in self._lost:
            self._lost.append(session)

    def open(self, url: BrokerUrl, names: frozenset[str] | None) -> Session:
        """Resumes a session of this broker, or begins one."""
        pid = os.getpid()
        self._lost = [session for session in self._lost if session.pid == pid]
        session = next((each for each in self._lost if each.url == url), None)
        if session is None:
            session = Session(url)
            session.names = names
            session.open()
            self._all.add(session)
            return session
        session.names = names
        session.open()
        self._lost.remove(session)
        return session


def _size_of(report: Any) -> int:
    """About how many bytes a report has."""
    error = getattr(report, "error", None)
    texts = len(error.message) + len(error.traceback) if error is not None else 0
    return len(getattr(report, "result", b"") or b"") + texts


def _holds(job: Any) -> bool:
    """Whether the pool runs this job although the connection is lost.

    The pool of processes drops the jobs that no process has begun, also one that is in the pipe to
    its process, which runs it all the same. So such a job is marked as begun, and is not dropped.
    """
    if job is None:
        return False
    if not hasattr(job, "_write_to"):
        # What threads and greenlets have got they run.
        return True
    if job._write_to is None:
        return False
    job._accepted = True
    return True


sessions = Sessions()
