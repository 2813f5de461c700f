"""Runs tasks. PROTOCOL.md: Requests of workers, A lost connection: resume, The end."""

import collections
import itertools
import logging
import os
import threading
import time
import traceback

from celeriac.v1 import error_pb2, frame_pb2, task_pb2, work_pb2

from .connection import ConnectionLost
from .session import HOSTNAME, Request, Session
from .values import CeleriacError, error_name, read_call, write_json

log = logging.getLogger("celeriac")

Signal = work_pb2.CancelSignal
ENDS = ("complete", "fail", "retry", "release", "reject")
# The lease is not this worker's any more, or its task is gone.
LEASE_IS_GONE = (error_pb2.ERROR_CODE_STALE_LEASE, error_pb2.ERROR_CODE_NOT_FOUND)
# An end that is refused like this would be refused again, and the task would run for ever: it is
# rejected instead.
END_IS_WRONG = (error_pb2.ERROR_CODE_INVALID_ARGUMENT, error_pb2.ERROR_CODE_FRAME_TOO_LARGE)
# The broker cuts longer ones.
TEXT_MAX = 16 * 1024
# How long an end in good order waits for the answers of the last reports.
ANSWERS_SECONDS = 15
# A report that the broker could not take is sent again after this, where the broker names no time.
AGAIN_SECONDS = 1.0


class Failure(Exception):
    """A handler raises it to choose the kind of its failure, and whether another attempt would
    help."""

    def __init__(self, kind, message="", final=False):
        super().__init__(message)
        self.kind = kind
        self.final = final


class Later(Exception):
    """A handler raises it to ask for another attempt, after its own span or by the task's
    policy."""

    def __init__(self, after_ms=None, message=""):
        super().__init__(message)
        self.after_ms = after_ms


class Run:
    """One lease: a delivery, and how far it has come. Changed with the worker's lock held."""

    def __init__(self, delivery):
        self.delivery = delivery
        # Tells the handler to stop. Python cannot stop a thread from outside.
        self.stop = threading.Event()
        # Set when it is decided whether a handler that waits for the answer to Started may begin.
        self.decided = threading.Event()
        # Started was reported.
        self.reported = False
        self.begun = False
        # The last report on the lease is made. The run is kept until that is answered.
        self.ended = False
        # By force: what the handler returns does not count.
        self.dropped = False
        # The lease is lost: nothing more is reported.
        self.gone = False

    @property
    def is_over(self):
        return self.ended or self.gone


class Context:
    """What a handler knows of its task."""

    def __init__(self, worker, run):
        self.id = run.delivery.id
        self.attempt = run.delivery.attempt
        self.headers = dict(run.delivery.headers)
        self._worker = worker
        self._run = run

    @property
    def is_told_to_stop(self):
        return self._run.stop.is_set()

    def wait_for_stop(self, seconds=None):
        return self._run.stop.wait(seconds)

    def progress(self, meta, state=""):
        self._worker.report(self._run, progress=work_pb2.ProgressReport(state=state, meta=write_json(meta)))


class Reports:
    """Keeps every report until it is answered, and sends those without an answer again after each
    reconnect, in order.

    Each goes in a frame of its own, so that the largest result has room. All methods are called
    with the worker's lock held; `settled(report, code)` is called likewise.
    """

    def __init__(self, session, lock, settled):
        self._session = session
        self._lock = lock
        self._settled = settled
        self._kept = {}
        self._numbers = itertools.count()
        self._is_open = False

    def __len__(self):
        return len(self._kept)

    def add(self, report):
        if report.WhichOneof("report") == "progress":
            self._drop_older_progress(report.lease)
        number = next(self._numbers)
        self._kept[number] = report
        self._send(number)

    def opened(self):
        self._is_open = True
        for number in list(self._kept):
            self._send(number)

    def lost(self):
        self._is_open = False

    def clear(self):
        """The session is over, and its leases with it: what was not answered counts no more."""
        self._kept.clear()

    def _drop_older_progress(self, lease):
        """An older progress is not needed once there is a newer one."""
        older = [
            number
            for number, report in self._kept.items()
            if report.lease == lease and report.WhichOneof("report") == "progress"
        ]
        for number in older:
            del self._kept[number]

    def _send(self, number):
        if not self._is_open or number not in self._kept:
            return
        body = work_pb2.Report(reports=[self._kept[number]])
        request = Request("report", body, seconds=None, kept=False)
        self._session.post(request.then(lambda answer: self._answered(number, answer)))

    def _answered(self, number, answer):
        error = answer.exception()
        if isinstance(error, ConnectionLost):
            return
        if error and error.retryable:
            self._send_later(number, error.retry_after_ms / 1000 or AGAIN_SECONDS)
            return
        with self._lock:
            report = self._kept.pop(number, None)
            if report:
                self._settled(report, error.code if error else code_of(answer.result()))

    def _send_later(self, number, seconds):
        def again():
            with self._lock:
                self._send(number)

        timer = threading.Timer(seconds, again)
        timer.daemon = True
        timer.start()


def code_of(reply):
    """A report without an outcome is not taken for accepted."""
    return reply.outcomes[0].code if reply.outcomes else error_pb2.ERROR_CODE_UNSUPPORTED


class Worker:
    """Runs `handlers`, by their names, for the tasks of `queues`, which have weights, in so many
    threads.

    A handler is called with a Context and the arguments of its task. Threads are enough for
    handlers that wait; one that computes for long without giving Python's lock free belongs into a
    process, or it holds up the heartbeats.
    """

    def __init__(self, handlers, queues, concurrency=1, prefetch=1, grace=30, url=None):
        self._handlers = handlers
        self._concurrency = concurrency
        # One lease more than there are threads hides the way to the broker.
        self._credit = concurrency + prefetch
        self._grace = grace
        # The runs by lease, until their end is answered, and those of them that no thread has
        # taken.
        self._runs = {}
        self._waiting = collections.deque()
        self._running = 0
        self._is_quiet = False
        self._is_ending = False
        self._hand_back_at = None
        self._refused = None
        self._finished = threading.Event()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._session = Session(url, self._info(queues), self._figures)
        self._reports = Reports(self._session, self._lock, self._settled)

    def start(self):
        for number in range(self._concurrency):
            threading.Thread(target=self._serve, name=f"celeriac-handler-{number}", daemon=True).start()
        self._session.listen(self)
        self._session.start()
        return self

    def stop(self, grace=None):
        """Begins the end in good order. A second call may shorten the grace, down to 0."""
        with self._lock:
            at = time.monotonic() + (self._grace if grace is None else grace)
            self._hand_back_at = at if self._hand_back_at is None else min(at, self._hand_back_at)
            is_first, self._is_ending = not self._is_ending, True
            self._changed.notify_all()
        if is_first:
            threading.Thread(target=self._end, name="celeriac-end", daemon=True).start()

    def join(self):
        """Waits for the end, be it by `stop` or by an order. A refusal of this worker by the broker
        is raised."""
        self._finished.wait()
        if self._refused:
            raise self._refused

    def report(self, run, **report):
        """Reports on a lease, unless that is over. The last report on it makes it so."""
        with self._lock:
            if run.is_over:
                return
            run.ended = next(iter(report)) in ENDS
            self._reports.add(work_pb2.TaskReport(id=run.delivery.id, lease=run.delivery.lease, **report))

    def _info(self, queues):
        subscriptions = [frame_pb2.QueueSubscription(queue=name, weight=weight) for name, weight in queues.items()]
        return frame_pb2.WorkerInfo(
            queues=subscriptions,
            task_names=list(self._handlers),
            hostname=HOSTNAME,
            pid=os.getpid(),
            concurrency=self._concurrency,
        )

    def _figures(self):
        return frame_pb2.Heartbeat(running=self._running, memory_bytes=memory_bytes())

    # What the session says.

    def opened(self, welcome):
        """A lost connection: resume. Reports go first: the credit is for what is left when those
        have ended."""
        with self._lock:
            if welcome.resumed:
                self._drop_lost(set(welcome.leases))
            else:
                self._forget_session()
            self._reports.opened()
            self._send_credit()

    def lost(self, session_over):
        """Handlers go on running, unless their session is over."""
        with self._lock:
            self._reports.lost()
            if session_over:
                self._forget_session()

    def gave_up(self, error):
        with self._lock:
            self._refused = error
            self._forget_session()
        self.stop(grace=0)

    def pushed(self, kind, body):
        """What this version does not know is ignored, a kind of signal or of order too."""
        with self._lock:
            if kind == "deliver":
                self._take_deliveries(body.deliveries)
            elif kind == "cancel_signal":
                self._take_signal(body)
            elif kind == "order":
                self._take_order(body.kind)

    def _take_deliveries(self, deliveries):
        """A delivery whose lease is held already is the same delivery."""
        for delivery in deliveries:
            if delivery.lease in self._runs:
                continue
            run = self._runs[delivery.lease] = Run(delivery)
            self._waiting.append(run)
        if self._is_ending or self._is_quiet:
            self._hand_back_unbegun()
        self._changed.notify_all()

    def _take_signal(self, signal):
        """Leases that are not held, or whose end is reported, are ignored."""
        for lease in signal.leases:
            run = self._runs.get(lease)
            if run is None or run.is_over:
                continue
            if signal.kind in (Signal.KIND_TIME_LIMIT, Signal.KIND_TAKEN_BACK):
                self._drop(run)
            elif signal.kind == Signal.KIND_FORCE:
                self._drop_by_force(run)
            elif signal.kind in (Signal.KIND_COOPERATIVE, Signal.KIND_SOFT_TIME_LIMIT):
                run.stop.set()

    def _take_order(self, kind):
        """An order belongs to its session: the broker repeats it after a resume, and a new session
        begins without."""
        if kind == work_pb2.Order.KIND_QUIET:
            self._is_quiet = True
            self._hand_back_unbegun()
        elif kind == work_pb2.Order.KIND_RESUME:
            self._is_quiet = False
        elif kind == work_pb2.Order.KIND_SHUTDOWN:
            self.stop()

    # Leases, with the lock held.

    def _send_credit(self):
        """A window: how many leases may be held at once."""
        credit = 0 if self._is_ending else min(self._credit, self._session.limits.credit_max)
        self._session.post(Request("credit", work_pb2.Credit(credit=credit), kept=False))

    def _drop_lost(self, leases):
        """A lease that the broker does not name is lost. One whose end is reported waits for the
        answer, which settles it."""
        for lease, run in list(self._runs.items()):
            if lease not in leases and not run.ended:
                self._drop(run)

    def _forget_session(self):
        for run in list(self._runs.values()):
            self._drop(run)
        self._reports.clear()
        self._is_quiet = False

    def _drop(self, run):
        """The lease is gone: its handler is told to stop, and what it returns is dropped."""
        self._runs.pop(run.delivery.lease, None)
        run.gone = True
        run.stop.set()
        self._take_from_threads(run)

    def _drop_by_force(self, run):
        """A handler that runs is told to stop, and its failure is reported when it has; any other
        never begins."""
        run.dropped = True
        run.stop.set()
        if not run.begun:
            self.report(run, fail=forced())
            self._take_from_threads(run)

    def _hand_back_unbegun(self):
        """Release, so that other workers have these tasks at once. `not_begun` says it of what was
        reported as started."""
        for run in list(self._runs.values()):
            if not run.begun and not run.is_over:
                self.report(run, release=work_pb2.Release(not_begun=run.reported))
                self._take_from_threads(run)

    def _take_from_threads(self, run):
        if run in self._waiting:
            self._waiting.remove(run)
        run.decided.set()
        self._changed.notify_all()

    def _settled(self, report, code):
        """A report has its answer. A code that the client does not know is a refusal that is
        final."""
        kind = report.WhichOneof("report")
        if code != error_pb2.ERROR_CODE_UNSPECIFIED:
            log.warning("the report %s of the task %r was refused: %s", kind, report.id, error_name(code))
        run = self._runs.get(report.lease)
        if run is None:
            return
        if kind in ENDS:
            self._settled_end(run, kind, code)
        elif code in LEASE_IS_GONE or (kind == "started" and code and run.delivery.report_start):
            self._drop(run)
        elif kind == "started":
            run.decided.set()

    def _settled_end(self, run, kind, code):
        if code in END_IS_WRONG and kind != "reject":
            run.ended = False
            error_kind = "result_too_large" if code == error_pb2.ERROR_CODE_FRAME_TOO_LARGE else "report_refused"
            self.report(run, reject=work_pb2.Reject(error=task_error(error_kind, f"the broker refused its {kind}")))
            return
        del self._runs[run.delivery.lease]
        self._changed.notify_all()

    # The threads that run handlers.

    def _serve(self):
        while run := self._next():
            self._execute(run)

    def _next(self):
        with self._lock:
            while not self._waiting and not self._finished.is_set():
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None

    def _execute(self, run):
        """What cannot be run here fails for good: another attempt would not help."""
        delivery = run.delivery
        handler = self._handlers.get(delivery.name)
        if handler is None:
            self.report(run, fail=failed("unknown_task", f"no handler has the name {delivery.name!r}", final=True))
            return
        try:
            args, kwargs = read_call(delivery.payload, delivery.content_type)
        except ValueError as error:
            self.report(run, fail=failed("undecodable_payload", str(error), final=True))
            return
        if self._begin(run):
            report = call(handler, Context(self, run), args, kwargs)
            self._returned(run, report)

    def _begin(self, run):
        """Reports Started. With `report_start` the handler begins once that is answered, and not
        before."""
        with self._lock:
            run.reported = True
            self.report(run, started=work_pb2.Started())
        if run.delivery.report_start:
            run.decided.wait()
        with self._lock:
            run.begun = not run.is_over
            self._running += run.begun
            return run.begun

    def _returned(self, run, report):
        with self._lock:
            self._running -= 1
            self.report(run, **({"fail": forced()} if run.dropped else report))
            self._changed.notify_all()

    # The end.

    def _end(self):
        """The end in good order: nothing new, back with what has not begun, a grace for what runs,
        all reports answered."""
        with self._lock:
            self._send_credit()
            self._hand_back_unbegun()
            while self._still_running() and (left := self._hand_back_at - time.monotonic()) > 0:
                self._changed.wait(left)
            for run in self._still_running():
                self.report(run, release=work_pb2.Release())
                run.stop.set()
            self._changed.wait_for(lambda: not self._runs and not self._reports, ANSWERS_SECONDS)
        self._session.close()
        with self._lock:
            self._finished.set()
            self._changed.notify_all()

    def _still_running(self):
        return [run for run in self._runs.values() if not run.is_over]


def call(handler, context, args, kwargs):
    """Calls a handler and makes its last report, by the name of the field."""
    try:
        return {"complete": work_pb2.Complete(result=write_json(handler(context, *args, **kwargs)))}
    except Later as later:
        return {"retry": work_pb2.RetryLater(after_ms=later.after_ms, error=task_error("Later", str(later)))}
    except Failure as failure:
        return {"fail": failed(failure.kind, str(failure), final=failure.final)}
    except Exception as error:
        return {"fail": failed(type(error).__name__, str(error), traceback.format_exc())}


def forced():
    return failed("cancelled", "the task was cancelled by force", final=True)


def failed(kind, message, trace="", final=False):
    return work_pb2.Fail(error=task_error(kind, message, trace), final=final)


def task_error(kind, message, trace=""):
    """protobuf takes no text that has no UTF-8, which Python's strings may be."""
    kind, message, trace = (text.encode(errors="replace").decode() for text in (kind, message, trace))
    return task_pb2.TaskError(kind=kind[:255], message=message[:TEXT_MAX], traceback=trace[-TEXT_MAX:])


def memory_bytes():
    """What the process takes at present, for listings; 0 where the system does not say it in this
    way."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
