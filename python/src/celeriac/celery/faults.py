"""The errors of the broker as the classes that kombu and Celery expect.

Programs catch `kombu.exceptions.OperationalError`, and those written for RabbitMQ catch the classes
of AMQP. So the classes here are both.
"""

from __future__ import annotations

from amqp import exceptions as amqp
from kombu.exceptions import OperationalError

from celeriac import _codec
from celeriac.errors import BrokerError, ConnectError

CONNECTION_ERRORS = (amqp.ConnectionError, ConnectError, OSError)
"""After one of these kombu connects again."""

CHANNEL_ERRORS = (amqp.ChannelError,)

RECOVERABLE_CHANNEL_ERRORS = (amqp.RecoverableChannelError,)
"""After one of these kombu sends the same request again, at once and up to three times."""


class Refused(amqp.ChannelError, OperationalError):
    """The broker refused a request."""


class NotFound(amqp.NotFound, OperationalError):
    """There is no such queue or exchange."""


class ResourceLocked(amqp.ResourceLocked, OperationalError):
    """The mailbox belongs to another connection."""


class PreconditionFailed(amqp.PreconditionFailed, OperationalError):
    """The request does not fit what is there, or a limit."""


class AccessRefused(amqp.AccessRefused, OperationalError):
    """The broker does not let this client in, or its access does not allow what it sends. A worker
    ends with this error."""


class Lost(amqp.RecoverableConnectionError, OperationalError):
    """The connection is gone."""


class NoConnection(ConnectError, OperationalError):
    """No connection could be opened."""


class WorkerEnds(OperationalError):
    """No connection could be opened, and the worker was told to end. kombu tries again after each
    error of a connection, some of its callers for ever; it does not after this one."""


_CLASSES: dict[int, type[amqp.ChannelError]] = {
    _codec.ErrorCode.UNAUTHENTICATED: AccessRefused,
    _codec.ErrorCode.VERSION_MISMATCH: AccessRefused,
    _codec.ErrorCode.NOT_FOUND: NotFound,
    _codec.ErrorCode.FORBIDDEN: ResourceLocked,
    _codec.ErrorCode.NOT_FINISHED: PreconditionFailed,
    _codec.ErrorCode.INVALID_ARGUMENT: PreconditionFailed,
    _codec.ErrorCode.QUEUE_FULL: PreconditionFailed,
    _codec.ErrorCode.PAYLOAD_TOO_LARGE: PreconditionFailed,
    _codec.ErrorCode.FRAME_TOO_LARGE: PreconditionFailed,
    _codec.ErrorCode.TASK_EXISTS: PreconditionFailed,
}

_FINAL = frozenset(
    (
        _codec.ErrorCode.UNAUTHENTICATED,
        _codec.ErrorCode.FORBIDDEN,
        _codec.ErrorCode.VERSION_MISMATCH,
    )
)
"""Refusals of a connection that would come again."""

ENDING_CODES = frozenset(
    (
        _codec.ErrorCode.MALFORMED,
        _codec.ErrorCode.HANDSHAKE,
        _codec.ErrorCode.SHUTTING_DOWN,
        _codec.ErrorCode.SESSION_LOST,
        _codec.ErrorCode.SLOW_CONSUMER,
    )
)
"""Refusals after which the connection is of no use. Another one may be."""


_OF_ACCESS = frozenset(("Basic.publish", "Connection.open"))
"""Here FORBIDDEN never means a mailbox of another connection."""


def channel_error(error: BrokerError, method: str) -> amqp.ChannelError:
    """The refusal of a request as the channel error of AMQP that says the same."""
    kind = _CLASSES.get(error.code, Refused)
    # Any client may publish to an exclusive mailbox, so here the access forbids it.
    if error.code == _codec.ErrorCode.FORBIDDEN and method in _OF_ACCESS:
        kind = AccessRefused
    word = "NOT_FOUND" if kind is NotFound else "REFUSED"
    return kind(f"{word} - {error.message}", method_name=method)


def too_large(size: int, limit: int) -> amqp.ChannelError:
    """A message that does not fit into one frame."""
    return PreconditionFailed(
        f"REFUSED - the message has {size} bytes, and the broker takes frames of {limit} bytes",
        method_name="Basic.publish",
    )


def connect_error(error: BrokerError) -> amqp.AMQPError:
    """The refusal of a connection: as a lost one where another try may succeed."""
    if error.code in _FINAL:
        return channel_error(error, "Connection.open")
    return lost(error.message)


def lost(reason: object) -> Lost:
    """The connection is gone, and kombu may open another one."""
    return Lost(f"the connection to the broker is lost: {reason}")
