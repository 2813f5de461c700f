"""Lets the requests of Celery's worker say when a run is over.

Celery acknowledges most tasks before they run, and tells the transport nothing afterwards. With
this hook such an acknowledgement settles the task, and its lease ends when the run does. Without
the hook the acknowledgement ends the lease, and results are stored all the same.
"""

from __future__ import annotations

from typing import Any

from celeriac import _codec as wire
from celeriac.celery.channel import Channel
from celeriac.celery.session import Run


def install() -> None:
    """Puts the hook in the place where the worker makes its classes of requests. It counts for the
    strategies that are made from now on."""
    from celery.worker import strategy

    original = strategy.create_request_cls
    if getattr(original, "is_celeriac", False):
        return

    def create_request_cls(base: Any, task: Any, pool: Any, *args: Any, **options: Any) -> Any:
        blocks = type(pool).__module__ == "celery.concurrency.solo"
        return _reporting(original(base, task, pool, *args, **options), blocks)

    create_request_cls.is_celeriac = True  # type: ignore[attr-defined]
    strategy.create_request_cls = create_request_cls


def _failure(exc_info: Any) -> wire.Fail:
    error = wire.TaskError(
        kind=type(exc_info.exception).__name__,
        message=str(exc_info.exception),
        traceback=str(exc_info.traceback or ""),
    )
    return wire.Fail(error=error, final=True)


def _inner(exc_info: Any) -> Any:
    """The exception itself. billiard puts some into another one, with their traceback."""
    return getattr(exc_info.exception, "exc", None) or exc_info.exception


def _reporting(base: Any, blocks: bool) -> Any:
    """The class of requests with reports."""
    from billiard.exceptions import WorkerLostError
    from celery.exceptions import Ignore, Retry

    class Reporting(base):
        def __init__(self, message: Any, *args: Any, **options: Any) -> None:
            super().__init__(message, *args, **options)
            channel = message.channel
            self._celeriac_run: Run | None = None
            if isinstance(channel, Channel):
                self._celeriac_channel = channel
                self._celeriac_run = run = channel.run_of(message.delivery_tag)
                if run is not None:
                    run.has_end, run.writes = True, blocks

        def _over(self, report: Any, *, is_lost: bool = False) -> None:
            run = self._celeriac_run
            if run is not None:
                run.is_over, run.is_lost, run.last = True, is_lost, report

        def _finish(self) -> None:
            run = self._celeriac_run
            if run is not None and run.is_over:
                self._celeriac_channel.finish(run)

        def on_accepted(self, pid: Any, time_accepted: Any) -> None:
            super().on_accepted(pid, time_accepted)
            if self._celeriac_run is not None:
                self._celeriac_channel.accept(self._celeriac_run, settles=not self.task.acks_late)

        def on_success(self, failed__retval__runtime: Any, **options: Any) -> Any:
            if not failed__retval__runtime[0]:
                self._over(wire.Complete(result_ttl_ms=0))
            try:
                return super().on_success(failed__retval__runtime, **options)
            finally:
                self._finish()

        def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> Any:
            # `Retry` and `Ignore` are no failures, and have stored what they mean.
            inner = _inner(exc_info)
            is_silent = isinstance(exc_info.exception, (Ignore, Retry))
            report = wire.Complete(result_ttl_ms=0) if is_silent else _failure(exc_info)
            self._over(report, is_lost=isinstance(inner, WorkerLostError))
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

        def _announce_revoked(self, *args: Any, **options: Any) -> Any:
            self._over(wire.Complete(result_ttl_ms=0))
            try:
                return super()._announce_revoked(*args, **options)
            finally:
                self._finish()

    return Reporting
