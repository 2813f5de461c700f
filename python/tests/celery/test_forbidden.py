"""What an access file forbids, as kombu and Celery see it."""

from __future__ import annotations

from amqp import exceptions as amqp
from kombu.exceptions import OperationalError

from celeriac import _codec
from celeriac.celery.faults import (
    RECOVERABLE_CHANNEL_ERRORS,
    channel_error,
    connect_error,
)
from celeriac.errors import BrokerError, Forbidden

SENTENCE = "the access `web` does not allow the queue `mail`"


def test_what_the_access_forbids_is_an_error_of_its_own_and_is_not_sent_again() -> None:
    error = BrokerError.of(_codec.ErrorCode.FORBIDDEN, SENTENCE)
    assert isinstance(error, Forbidden)
    assert not error.retryable
    published = channel_error(error, "Basic.publish")
    assert isinstance(published, amqp.AccessRefused)
    assert isinstance(published, OperationalError)
    assert not isinstance(published, RECOVERABLE_CHANNEL_ERRORS)
    assert SENTENCE in str(published)
    # A worker whose queues are forbidden ends with a sentence, and does not connect again.
    assert isinstance(connect_error(error), amqp.AccessRefused)
    # A mailbox may be that of another connection.
    assert isinstance(channel_error(error, "Queue.declare"), amqp.ResourceLocked)
