"""The errors of this package. All of them are below `CeleriacError`.

Each error says by `retryable` whether the same call may succeed later without any change. The
package never prints a token in an error.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar


class CeleriacError(Exception):
    """The base class of every error of this package.

    `retryable` says whether the same call may succeed later without any change.

    >>> BrokerError.of(15, "the queue songs is full")
    QueueFull('the queue songs is full')
    >>> BrokerError.of(15).retryable
    True
    """

    retryable: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # The classes below have parameters of their own, so the usual copy by `args` would fail.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[CeleriacError], args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class InvalidUrl(CeleriacError, ValueError):
    """The text is not the address of a broker, or a variable of the environment has no usable
    value. The message never shows a part of the text that may be a token."""


class ConnectError(CeleriacError, ConnectionError):
    """No connection to a broker could be opened: the host is not known, nothing listens, or the
    network does not answer. The same call may succeed later."""

    retryable = True


class NotABroker(CeleriacError, ConnectionError):
    """The program that answers at the address does not speak the protocol of Celeriac."""


class TlsError(CeleriacError, ConnectionError):
    """There is no connection with TLS: a file cannot be used, one of the two sides does not accept
    the certificate of the other one, or one of them does not speak TLS. The message says which."""


class Interrupted(CeleriacError, ConnectionError):
    """The connection broke before the answer to a request that must not be sent twice.

    The broker may have carried the request out. Look at the present state before you repeat it.
    """


class ClientClosed(CeleriacError):
    """`close()` was called on this client."""


class ProtocolError(CeleriacError):
    """The answer of the broker does not fit the request: one of the two programs has a bug.

    Whether the broker carried the request out is not known.
    """


class BrokerError(CeleriacError):
    """The broker refused a request, or this package found the same reason before it sent the
    request. Each code of the protocol has a class of its own below this one; a code that this
    version does not know is a plain `BrokerError`."""

    code: int = 0
    """The number of the code, as `error.proto` defines it."""
    message: str
    """The reason in one sentence."""
    retry_after: float | None
    """How many seconds to wait at least before the next try, where the broker knows it."""

    by_code: ClassVar[dict[int, type[BrokerError]]] = {}

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            BrokerError.by_code[cls.code] = cls

    @staticmethod
    def of(
        code: int,
        message: str = "",
        retryable: bool | None = None,
        retry_after_ms: int = 0,
    ) -> BrokerError:
        """The error of this code. Without `retryable` the column of the protocol's table counts."""
        cls = BrokerError.by_code.get(code, BrokerError)
        text = message or f"the broker refused the request with the code {code}"
        retry_after = retry_after_ms / 1000 if retry_after_ms else None
        return cls(text, code=code, retryable=retryable, retry_after=retry_after)


class Malformed(BrokerError):
    """The bytes were no frame of the protocol. The broker closed the connection."""

    code = 1


class FrameTooLarge(BrokerError):
    """A frame was longer than the limit of the connection. The broker closed the connection."""

    code = 2


class Unsupported(BrokerError):
    """The broker does not know this kind of request, or does not offer it."""

    code = 3


class VersionMismatch(BrokerError):
    """This package and the broker have no version of the protocol in common."""

    code = 4


class HandshakeError(BrokerError):
    """The handshake was wrong, or came too late."""

    code = 5


class Unauthenticated(BrokerError):
    """The token is missing or wrong."""

    code = 6


class Forbidden(BrokerError):
    """The access of this client does not allow the request, or the mailbox is exclusive to another
    connection. The same request is refused each time."""

    code = 7


class InvalidArgument(BrokerError, ValueError):
    """A value is one that the field may not hold. The message names the field."""

    code = 8


class WrongType(InvalidArgument, TypeError):
    """A value has a type that the option or parameter does not take. The request was not sent."""


class PayloadTooLarge(BrokerError):
    """The payload is longer than the broker allows."""

    code = 9


class ResultTooLarge(BrokerError):
    """The result is longer than the broker allows. The task ended as FAILURE."""

    code = 10


class NotFound(BrokerError, LookupError):
    """There is no such task, queue, watch or worker."""

    code = 11


class TaskExists(BrokerError):
    """A task of this id exists, and `on_conflict` is `OnConflict.REJECT`."""

    code = 12


class NotFinished(BrokerError):
    """The request needs a task that has ended, or a queue without running tasks."""

    code = 13
    retryable = True


class StaleLease(BrokerError):
    """The lease is not the present one of the task. The report changed nothing."""

    code = 14


class QueueFull(BrokerError):
    """The queue is at its limit of tasks or bytes."""

    code = 15
    retryable = True


class DiskFull(BrokerError):
    """The disk of the broker is nearly full. The broker takes no new tasks."""

    code = 16
    retryable = True


class DeadlineExceeded(BrokerError, TimeoutError):
    """The time of the call was over before its answer came.

    The broker may have carried the request out. A submit is safe to send again under the same id.
    """

    code = 17
    retryable = True


class Overloaded(BrokerError):
    """A limit of the broker is reached, for example of connections or of queues."""

    code = 18
    retryable = True


class ShuttingDown(BrokerError):
    """The broker is closing down."""

    code = 19
    retryable = True


class SessionLost(BrokerError):
    """The session was silent for too long, or another connection resumed it."""

    code = 20
    retryable = True


class SlowConsumer(BrokerError):
    """This program did not read what the broker sent."""

    code = 21
    retryable = True


class InternalError(BrokerError):
    """The broker has a fault. Whether it carried the request out is not known."""

    code = 22
    retryable = True


class BatchFailed(CeleriacError):
    """Some tasks of a batch were not accepted. The other tasks of the batch were submitted.

    `failures` has one pair for each task that was not accepted: the id of the task and the error.
    """

    failures: list[tuple[str, CeleriacError]]

    def __init__(self, failures: list[tuple[str, CeleriacError]]) -> None:
        first_id, first = failures[0]
        super().__init__(
            f"{len(failures)} tasks of the batch were not accepted; "
            f"the first is {first_id!r}: {first}"
        )
        self.failures = failures
        self.retryable = all(error.retryable for _, error in failures)


class TaskFailed(CeleriacError):
    """The task ended as FAILURE."""

    def __init__(
        self, task_id: str, kind: str, message: str, traceback: str = "", attempts: int = 0
    ) -> None:
        super().__init__(f"the task {task_id!r} failed: {kind}: {message}")
        self.task_id = task_id
        self.kind = kind
        """The kind of the error, for example `ValueError`, `time_limit` or `worker_lost`."""
        self.message = message
        self.traceback = traceback
        self.attempts = attempts


class TaskRevoked(CeleriacError):
    """The task was cancelled, replaced or purged, or it expired."""

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(f"the task {task_id!r} was revoked: {reason}")
        self.task_id = task_id
        self.reason = reason


class TaskUnknown(CeleriacError, LookupError):
    """The broker knows no task of this id: nobody submitted it, or its time is over."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"the broker knows no task {task_id!r}")
        self.task_id = task_id


class TaskNotEnded(CeleriacError, TimeoutError):
    """The task has not ended within the time of the wait. It goes on."""

    retryable = True

    def __init__(self, task_id: str, state: str, timeout: float | timedelta) -> None:
        span = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        super().__init__(f"the task {task_id!r} is {state} after {span:g} s")
        self.task_id = task_id
        self.state = state
