"""Lets the requests of Celery's worker say when a run is over.

Celery acknowledges most tasks before they run, and tells the transport nothing afterwards. With
this hook such an acknowledgement settles the task, and its lease ends when the run does. Without
the hook the acknowledgement ends the lease, and results are stored all the same.

The hook also lets a result ride: the process of the pool gives it back with its answer, and the
report that ends the run carries it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from celeriac import _codec as wire
from celeriac.celery import bodies, kept
from celeriac.celery.channel import Channel, rejection
from celeriac.celery.envelope import HOOKED, RIDES
from celeriac.celery.session import Run
from celeriac.celery.shapes import META, task_error


def install() -> None:
    """Puts the hook in the place where the worker makes its classes of requests. It counts for the
    strategies that are made from now on."""
    from celery.worker import strategy

    original = strategy.create_request_cls
    if getattr(original, "is_celeriac", False):
        return

    def create_request_cls(base: Any, task: Any, pool: Any, *args: Any, **options: Any) -> Any:
        blocks = type(pool).__module__ == "celery.concurrency.solo"
        if options.get("trace") is None:
            is_fast = options.get("app") is not None and options["app"].use_fast_trace_task
            options["trace"] = kept.trace_fast if is_fast else kept.trace_any
        place = _place_of_results(task)
        return _reporting(original(base, task, pool, *args, **options), blocks, place)

    create_request_cls.is_celeriac = True  # type: ignore[attr-defined]
    strategy.create_request_cls = create_request_cls


def _place_of_results(task: Any) -> tuple[str, int] | None:
    """The broker that keeps the results of a task; None when it is another product."""
    from celeriac.celery.backend import CeleriacBackend

    try:
        backend = task.backend
    except Exception:
        return None
    return backend.place if isinstance(backend, CeleriacBackend) else None


def _failure(exc_info: Any) -> wire.Fail:
    inner = _inner(exc_info)
    try:
        message = str(inner)
    except Exception as error:
        message = f"the error has no text: {type(error).__name__}"
    told = task_error(type(inner).__name__, message, str(exc_info.traceback or ""))
    return wire.Fail(error=told, final=True)


def _success(answer: Any, keep_ms: int = 0) -> wire.Complete:
    """The end of a run. Without a result that rides, its process has stored one or stores none."""
    found = kept.kept_in(answer)
    if found is None:
        return wire.Complete(result_ttl_ms=keep_ms)
    return wire.Complete(result=found.body, content_type=META, result_ttl_ms=found.ttl_ms)


def _end(exc_info: Any) -> wire.Complete | wire.Fail:
    """The end of a run whose process answers with an exception."""
    from celery.exceptions import Ignore, Reject, Retry

    found = kept.kept_in(exc_info)
    if found is not None and found.state == "SUCCESS":
        return _success(exc_info)
    if isinstance(_inner(exc_info), (Ignore, Reject, Retry)):
        # They are no failures, and have stored what they mean. `reject` says what comes of a task
        # that was not acknowledged.
        return wire.Complete(result_ttl_ms=0)
    report = _failure(exc_info)
    if found is not None:
        report.result, report.content_type = found.body, META
        report.result_ttl_ms = found.ttl_ms
    return report


def _inner(exc_info: Any) -> Any:
    """The exception itself. billiard puts some into another one, with their traceback."""
    return getattr(exc_info.exception, "exc", None) or exc_info.exception


def _job(request: Callable[[], Any]) -> Any:
    """What the pool makes of a request; None before the request is given to the pool."""
    found = request()
    result = getattr(found, "_apply_result", None)
    if result is None:
        return None
    # The pool of threads keeps nothing that the request could know.
    return result() or True


def _reporting(base: Any, blocks: bool, place: tuple[str, int] | None) -> Any:
    """The class of requests with reports."""
    from billiard.exceptions import WorkerLostError

    # A pool that ends by an exit has lost its process as well.
    lost_kinds = (WorkerLostError, SystemExit, KeyboardInterrupt)

    class Reporting(base):
        def __init__(self, message: Any, *args: Any, **options: Any) -> None:
            super().__init__(message, *args, **options)
            channel = message.channel
            self._celeriac_run: Run | None = None
            self._celeriac_keep_ms = bodies.keep_ms_of(message.properties)
            if isinstance(channel, Channel):
                self._celeriac_channel = channel
                self._celeriac_run = run = channel.run_of(message.delivery_tag)
                if run is not None:
                    run.has_end, run.writes = True, blocks
                    message.properties[HOOKED] = True
                    run.job_of = partial(_job, weakref.ref(self))
                    if place is not None and place == channel.place:
                        message.properties[RIDES] = True

        def _over(self, report: Any, *, is_lost: bool = False) -> None:
            run = self._celeriac_run
            if run is not None:
                run.is_over, run.is_lost, run.last = True, is_lost, report

        def _finish(self) -> None:
            run = self._celeriac_run
            if run is not None and run.is_over:
                self._celeriac_channel.finish(run)

        def on_accepted(self, pid: Any, time_accepted: Any) -> None:
            run = self._celeriac_run
            if run is not None:
                self._celeriac_channel.accept(run, is_settled=not self.task.acks_late)
            super().on_accepted(pid, time_accepted)

        def on_success(self, failed__retval__runtime: Any, **options: Any) -> Any:
            failed, value, runtime = failed__retval__runtime
            if not failed:
                self._over(_success(value, self._celeriac_keep_ms))
                if isinstance(value, kept.Riding):
                    failed__retval__runtime = failed, str(value), runtime
            try:
                return super().on_success(failed__retval__runtime, **options)
            finally:
                self._finish()

        def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
            is_lost = isinstance(_inner(exc_info), lost_kinds)
            if getattr(self, "_already_cancelled", False):
                # Celery has ended the process so that the task runs again: at a cold shutdown.
                self._over(wire.Release())
            else:
                self._over(_end(exc_info), is_lost=is_lost)
            try:
                return super().on_failure(exc_info, *args, **options)
            finally:
                self._finish()

        def on_timeout(self, soft: bool, timeout: Any) -> Any:
            if not soft:
                error = wire.TaskError(kind="TimeLimitExceeded", message=f"{timeout} s")
                self._over(wire.Fail(error=error, final=True))
            try:
                return super().on_timeout(soft, timeout)
            finally:
                self._finish()

        def reject(self, requeue: bool = False) -> Any:
            # Celery tells the channel in the next turn of the event loop, and the run is over now.
            run = self._celeriac_run
            if run is not None and run.is_over and requeue and not self.acknowledged:
                run.last = rejection(run, requeue=True)
            return super().reject(requeue)

        def _announce_revoked(self, *args: Any, **options: Any) -> Any:
            self._over(wire.Complete(result_ttl_ms=0))
            try:
                return super()._announce_revoked(*args, **options)
            finally:
                self._finish()

    return Reporting
