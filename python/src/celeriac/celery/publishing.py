"""Publishing: to mailboxes as messages, and to queues of tasks as tasks."""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

from celeriac import _codec as wire
from celeriac.celery import bodies, kept, messages
from celeriac.celery.envelope import Raw, packed
from celeriac.celery.faults import CONNECTION_ERRORS, channel_error
from celeriac.celery.pipeline import Pipeline
from celeriac.celery.replies import replies
from celeriac.celery.revoking import cancels_of, with_ended
from celeriac.errors import BrokerError, InvalidArgument, NotFound

Item = tuple[Raw, str, str, bool]
"""A message with its exchange, its routing key, and whether it must reach a queue."""

_SUBMIT_MAX = 1000
_SUBMIT_BYTES_MAX = 4 * 1024 * 1024
"""The tasks of one submit have no more bytes, unless it is one task. A frame holds 16 MiB."""


def publish(
    connection: Any,
    items: list[Item],
    pipeline: Pipeline | None = None,
    seconds: float | None = None,
) -> None:
    """Publishes messages in order, and waits at most so long for each request. Raises a channel
    error for the first that is refused; with a pipeline the answers come later."""
    tasks: list[wire.Task] = []
    items = [item for item in items if not bodies.was_sent(item[0].headers.get("id"))]
    kept.let_go()
    with connection.lock:
        connection.fresh_line(is_publish=True)
        for raw, exchange, routing_key, mandatory in items:
            carrying = _route(connection, raw, exchange, routing_key, mandatory)
            if carrying:
                replies.expect(connection.url, raw, carrying[0].id)
            tasks += carrying
        for some in _portions(tasks):
            if pipeline is not None:
                pipeline.submit(some)
            else:
                _submit(connection, some, seconds or connection.options.confirm_timeout)


def _portions(tasks: list[wire.Task]) -> Iterator[list[wire.Task]]:
    """The tasks in order, as many at a time as fit into one request."""
    some: list[wire.Task] = []
    size = 0
    for task in tasks:
        length = len(task.payload) + sum(len(value) for value in task.headers.values())
        if some and (len(some) >= _SUBMIT_MAX or size + length > _SUBMIT_BYTES_MAX):
            yield some
            some, size = [], 0
        some.append(task)
        size += length
    if some:
        yield some


def _route(
    connection: Any, raw: Raw, exchange: str, routing_key: str, mandatory: bool
) -> list[wire.Task]:
    """Sends the message to its mailboxes, and gives the tasks that carry it to queues."""
    routes, line = connection.routes, connection.line
    queues: list[str] = []
    if not exchange:
        if routing_key in routes.queues:
            queues = [routing_key]
        elif not _to_mailboxes(connection, raw, "", routing_key, mandatory):
            # The name is a queue of tasks that somebody else has declared.
            routes.queues.add(routing_key)
            queues = [routing_key]
    elif routes.leads_to_queues(exchange, line) or not _to_mailboxes(
        connection, raw, exchange, routing_key, mandatory
    ):
        queues, mailboxes = routes.destinations(exchange, routing_key, line)
        for name in mailboxes:
            line.send(_message(raw, exchange, routing_key, mailbox=name))
        if mandatory and not queues and not mailboxes:
            raise channel_error(NotFound("no queue takes the message"), "Basic.publish")
    options = connection.options
    return [messages.task_of(raw, exchange, routing_key, queue, options) for queue in queues]


def _to_mailboxes(
    connection: Any, raw: Raw, exchange: str, routing_key: str, mandatory: bool
) -> bool:
    """Publishes to mailboxes. False when the route leads to a queue of tasks.

    AMQP confirms no such message, and this waits for no answer either, as long as an answer has
    told a moment ago that the route leads to mailboxes alone."""
    routes, line = connection.routes, connection.line
    try:
        cancels = cancels_of(raw, exchange)
        raw = with_ended(raw, [line.call(cancel, wire.CancelReply) for cancel in cancels])
        body = _message(raw, exchange, routing_key)
        body.mandatory = mandatory
        if not mandatory and routes.leads_to_mailboxes(exchange, routing_key):
            line.send(body)
            return True
        count = line.call(body, wire.CountReply).count
    except InvalidArgument:
        routes.note_queues(exchange)
        return False
    except NotFound as error:
        if mandatory:
            raise channel_error(error, "Basic.publish") from error
        return True
    except BrokerError as error:
        raise channel_error(error, "Basic.publish") from error
    if count or exchange:
        # A name that leads nowhere may be that of a queue of tasks the next moment.
        routes.note_mailboxes(exchange, routing_key)
    return True


def _message(raw: Raw, exchange: str, routing_key: str, mailbox: str = "") -> wire.Publish:
    """The message for all mailboxes on its route, or for one of them."""
    life = messages.expiration_ms(raw.properties.get("expiration"))
    expires_at = None if life is None else time() + life / 1000
    return wire.Publish(
        exchange="" if mailbox else exchange,
        routing_key=mailbox or routing_key,
        body=raw.body,
        content_type=raw.content_type,
        properties=packed(raw, exchange, routing_key, expires_at),
    )


def _submit(connection: Any, tasks: list[wire.Task], seconds: float) -> None:
    """Submits tasks. After a lost connection they are sent once more, under the same keys: a
    firewall may have forgotten the first one, and the second one works."""
    body = wire.Submit(tasks=tasks)
    try:
        try:
            reply = connection.line.call(body, wire.SubmitReply, seconds)
        except CONNECTION_ERRORS:
            connection.reopen()
            reply = connection.line.call(body, wire.SubmitReply, seconds)
    except BrokerError as error:
        raise channel_error(error, "Basic.publish") from error
    for outcome in reply.outcomes:
        if outcome.kind == wire.SubmitOutcomeKind.REFUSED:
            told = outcome.error or wire.Error()
            refusal = BrokerError.of(told.code, told.message, told.retryable)
            raise channel_error(refusal, "Basic.publish")


class PublishBatch:
    """The messages of `Producer.batch()`: they leave in one request."""

    def __init__(self, channel: Any, max_size: int) -> None:
        self.channel = channel
        self._max_size = max_size
        self._items: list[Item] = []
        connection = channel.connection
        self._waits = self._waits_at_end = connection.pipeline is None
        self._pipeline: Pipeline = connection.pipeline or Pipeline(connection)

    def publish(
        self,
        message: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        **_: Any,
    ) -> None:
        """Adds a message."""
        self._items.append((message, exchange or "", routing_key or "", mandatory))
        if len(self._items) >= self._max_size:
            self._send()

    def _send(self) -> None:
        items, self._items = self._items, []
        if items:
            publish(self.channel.connection, items, self._pipeline)

    def flush(self) -> None:
        """Publishes what was added. It is stored when this returns, and so is all that was sent
        before; with pipelined publishing it is sent."""
        self._send()
        if self._waits:
            try:
                self._pipeline.flush()
            except CONNECTION_ERRORS:
                # `close` does not wait for it a second time.
                self._waits_at_end = False
                raise

    def discard(self) -> None:
        """Drops what was not published."""
        self._items = []

    def close(self) -> None:
        """Ends the batch. `flush` has published what it had; after an error of the caller this
        waits for what was sent before."""
        self.discard()
        if self._waits:
            try:
                if self._waits_at_end:
                    self._pipeline.flush()
            finally:
                self.channel.connection.pipelines.remove(self._pipeline)
