"""What a handler raises to say how its run ends, and what is raised in a handler to stop it."""

from __future__ import annotations

from datetime import timedelta


class Retry(Exception):
    """Ends this attempt; the task runs again. The task's `max_attempts` still counts.

    `countdown` is the time until the next attempt, in seconds or as a timedelta. Without it the
    task's retry policy decides.

    >>> raise Retry("the service is busy", countdown=30)
    Traceback (most recent call last):
    celeriac.control.Retry: the service is busy
    """

    def __init__(self, reason: object = "", *, countdown: float | timedelta | None = None) -> None:
        super().__init__(str(reason) or "the handler asked for another attempt")
        seconds = countdown.total_seconds() if isinstance(countdown, timedelta) else countdown
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise ValueError(f"countdown is {countdown!r}; it is a number of seconds from 0 on")
        self.countdown = seconds


class Reject(Exception):
    """Ends the task as FAILURE at once, however many attempts are left."""

    def __init__(self, reason: object = "") -> None:
        super().__init__(str(reason) or "the handler rejected the task")


class Ignore(Exception):
    """Ends the task as SUCCESS without a result. The broker forgets the task at once."""


class SoftTimeLimitExceeded(Exception):
    """The soft time limit of the attempt is over. The handler has until the hard limit to end.

    In a child process it is raised wherever the handler is, in `async def` at the next `await`,
    and in a thread at the next call of the context.
    """

    def __init__(self, reason: str = "the soft time limit is over") -> None:
        super().__init__(reason)


class TaskCancelled(Exception):
    """The run should stop: the task was cancelled, or the worker gives the run up."""

    def __init__(self, reason: str = "the run was asked to stop") -> None:
        super().__init__(reason)
