"""Hooks around every run of a task, for logging, metrics and tracing."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.context import Context

log = logging.getLogger("celeriac.worker")


class Middleware:
    """Hooks around every run of a worker. They observe, and change nothing.

    Each run calls `before`, then the one hook that says how the run ended, then `after`. Only then
    does the worker report the end, so a hook has counted a run before anybody can see its result.
    Several middlewares are called in the order of `Celeriac.middleware`. `elapsed` is in seconds.

    The hooks run where the handler runs: in a child process, on a thread, or on the event loop.
    The worker waits for them, so a hook should be quick. `current_context()` is the run's context
    in them. When a hook raises, the worker logs it; the task and the other hooks are not affected.

    The hooks say what the handler did. They do not say whether the broker took the report: if the
    lease was lost meanwhile, the task runs again elsewhere. A handler whose process is killed calls
    no further hook.

    >>> class Counts(Middleware):
    ...     failed = 0
    ...
    ...     def after_failure(self, context, error, elapsed):
    ...         self.failed += 1
    >>> app = Celeriac(middleware=[Counts()])
    """

    def before(self, context: Context) -> None:
        """The handler will begin now. Its arguments have not been read yet."""

    def after_success(self, context: Context, elapsed: float) -> None:
        """The handler returned its value, or raised `Ignore`."""

    def after_failure(self, context: Context, error: BaseException, elapsed: float) -> None:
        """The handler failed, and the task ends as a failure: the error is final, or this was the
        last attempt. Arguments or a result that cannot be used are failures too."""

    def after_retry(self, context: Context, error: BaseException, elapsed: float) -> None:
        """The handler failed or raised `Retry`, and the task may run again."""

    def after_drop(self, context: Context, elapsed: float) -> None:
        """The worker gave the run up: the task was cancelled by force, or handed back because the
        worker shuts down, or its lease is lost."""

    def after(self, context: Context, elapsed: float) -> None:
        """The run is over. The worker calls this after the hook that says how it ended."""


def call(middlewares: Iterable[Middleware], hook: str, *values: Any) -> None:
    """Calls one hook of each middleware."""
    for each in middlewares:
        try:
            getattr(each, hook)(*values)
        except (Exception, SystemExit):
            log.exception("The hook %s of %r failed; the task is not affected.", hook, each)
