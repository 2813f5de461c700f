"""The errors of the broker as the classes that kombu and Celery expect."""

from __future__ import annotations

from amqp import exceptions as amqp

from celeriac import _codec
from celeriac.errors import BrokerError, ConnectError

CONNECTION_ERRORS = (amqp.ConnectionError, ConnectError, OSError)
"""After one of these kombu connects again."""

CHANNEL_ERRORS = (amqp.ChannelError,)

_CLASSES: dict[int, type[amqp.ChannelError]] = {
    _codec.ErrorCode.NOT_FOUND: amqp.NotFound,
    _codec.ErrorCode.FORBIDDEN: amqp.ResourceLocked,
    _codec.ErrorCode.NOT_FINISHED: amqp.PreconditionFailed,
    _codec.ErrorCode.INVALID_ARGUMENT: amqp.PreconditionFailed,
    _codec.ErrorCode.QUEUE_FULL: amqp.PreconditionFailed,
    _codec.ErrorCode.PAYLOAD_TOO_LARGE: amqp.PreconditionFailed,
}


def channel_error(error: BrokerError, method: str) -> amqp.ChannelError:
    """The refusal of a request as the channel error of AMQP that says the same."""
    kind = _CLASSES.get(error.code, amqp.ChannelError)
    word = "NOT_FOUND" if kind is amqp.NotFound else "REFUSED"
    return kind(f"{word} - {error.message}", method_name=method)


def lost(reason: object) -> amqp.RecoverableConnectionError:
    """The connection is gone, and kombu may open another one."""
    return amqp.RecoverableConnectionError(f"the connection to the broker is lost: {reason}")
