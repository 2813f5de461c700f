"""Queues, mailboxes, exchanges and bindings of a channel."""

from __future__ import annotations

from typing import Any, TypeVar

from amqp.protocol import queue_declare_ok_t

from celeriac import _codec as wire
from celeriac.celery.faults import NotFound as NoSuchQueue
from celeriac.celery.faults import PreconditionFailed, channel_error
from celeriac.celery.replies import replies
from celeriac.errors import BrokerError, NotFound

_M = TypeVar("_M", bound=wire.Message)

_TYPES = {
    "direct": wire.ExchangeType.DIRECT,
    "topic": wire.ExchangeType.TOPIC,
    "fanout": wire.ExchangeType.FANOUT,
}
_WAIT_FOR_REPORTS = (wire.PurgeQueue, wire.DeleteQueue, wire.DeclareQueue)


class Declaring:
    """The part of a channel that declares. What is exclusive or ends with its consumers becomes a
    mailbox, and all else a queue of tasks."""

    connection: Any
    session: Any
    mailboxes: set[str]

    def ask(self, body: Any, kind: type[_M], method: str) -> _M:
        """Sends a request. A refusal is a channel error."""
        try:
            if isinstance(body, _WAIT_FOR_REPORTS):
                for channel in self.connection.channels:
                    channel.settle()
            with self.connection.lock:
                answer: _M = self.connection.fresh_line().call(body, kind)
        except BrokerError as error:
            raise channel_error(error, method) from error
        return answer

    def ask_any(self, body: Any) -> None:
        """Sends a request whose answer tells nothing that matters."""
        self.connection.line.post(body, lambda _: None)

    def is_mailbox(self, name: str) -> bool:
        """Whether a name is that of a mailbox."""
        if name in self.connection.routes.queues:
            return False
        try:
            body = wire.DeclareMailbox(mailbox=name, passive=True)
            with self.connection.lock:
                self.connection.fresh_line().call(body, wire.MailboxReply)
        except NotFound:
            return False
        except BrokerError as error:
            if error.code == wire.ErrorCode.FORBIDDEN:
                return True
            raise channel_error(error, "Queue.declare") from error
        return True

    def exchange_declare(
        self,
        exchange: str | None = None,
        type: str = "direct",  # noqa: A002 - kombu names it so.
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Any = None,
        nowait: bool = False,
        passive: bool = False,
    ) -> None:
        """Declares an exchange."""
        if not exchange:
            return
        kind = _TYPES.get(type)
        if kind is None:
            raise PreconditionFailed(f"the broker has no exchanges of the type {type}")
        body = wire.DeclareExchange(
            exchange=exchange, type=kind, auto_delete=auto_delete, passive=passive
        )
        self.ask(body, wire.Done, "Exchange.declare")

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Deletes an exchange with its bindings."""
        body = wire.DeleteExchange(exchange=exchange, if_unused=if_unused)
        self.ask(body, wire.Done, "Exchange.delete")
        self.connection.routes.forget()

    def exchange_bind(self, *_: Any, **__: Any) -> None:
        """Exchanges lead to queues only."""
        raise NotImplementedError("the broker binds no exchange to another one")

    exchange_unbind = exchange_bind

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Any = None,
        nowait: bool = False,
    ) -> Any:
        """Declares a mailbox or a queue of tasks."""
        values = arguments or {}
        if passive:
            return self._declare_passive(queue)
        if exclusive or auto_delete or not queue:
            body = wire.DeclareMailbox(
                mailbox=queue,
                exclusive=exclusive,
                auto_delete=auto_delete,
                idle_ms=_milliseconds(values, "x-expires"),
                ttl_ms=_milliseconds(values, "x-message-ttl"),
                messages_max=int(values.get("x-max-length") or 0),
                bytes_max=int(values.get("x-max-length-bytes") or 0),
            )
            found = self.ask(body, wire.MailboxReply, "Queue.declare")
            if queue and auto_delete and not exclusive:
                # The mailboxes for results are of this kind.
                replies.declare(self.connection.url, queue)
            return queue_declare_ok_t(found.mailbox, found.ready, found.consumers)
        settings = wire.QueueSettings(
            tasks_max=_milliseconds(values, "x-max-length"),
            bytes_max=_milliseconds(values, "x-max-length-bytes"),
            expires_in_ms=_milliseconds(values, "x-message-ttl"),
        )
        declared = self.ask(
            wire.DeclareQueue(
                queue=queue, settings=settings, idle_ms=_milliseconds(values, "x-expires")
            ),
            wire.DeclareQueueReply,
            "Queue.declare",
        )
        self.connection.routes.queues.add(queue)
        return queue_declare_ok_t(queue, declared.ready, declared.workers)

    def _declare_passive(self, queue: str) -> Any:
        if self.is_mailbox(queue):
            body = wire.DeclareMailbox(mailbox=queue, passive=True)
            found = self.ask(body, wire.MailboxReply, "Queue.declare")
            return queue_declare_ok_t(found.mailbox, found.ready, found.consumers)
        reply = self.ask(
            wire.DeclareQueue(queue=queue, passive=True), wire.DeclareQueueReply, "Queue.declare"
        )
        return queue_declare_ok_t(queue, reply.ready, reply.workers)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        arguments: Any = None,
        nowait: bool = False,
    ) -> None:
        """Binds a queue. The default exchange leads to every queue already."""
        if exchange:
            body = wire.Bind(
                exchange=exchange,
                routing_key=routing_key or "",
                destination=self._destination(queue),
            )
            self.ask(body, wire.Done, "Queue.bind")
            self.connection.routes.forget()

    def queue_unbind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        arguments: Any = None,
        nowait: bool = False,
    ) -> None:
        """Removes a binding."""
        if exchange:
            body = wire.Unbind(
                exchange=exchange,
                routing_key=routing_key or "",
                destination=self._destination(queue),
            )
            self.ask(body, wire.Done, "Queue.unbind")
            self.connection.routes.forget()

    def queue_purge(self, queue: str, nowait: bool = False) -> int:
        """Drops what waits, and counts it."""
        is_mailbox = self.is_mailbox(queue)
        body = wire.PurgeMailbox(mailbox=queue) if is_mailbox else wire.PurgeQueue(queue=queue)
        return self.ask(body, wire.CountReply, "Queue.purge").count

    def queue_delete(
        self,
        queue: str,
        if_unused: bool = False,
        if_empty: bool = False,
        nowait: bool = False,
    ) -> int:
        """Deletes a queue, and counts what waited in it."""
        if self.is_mailbox(queue):
            body = wire.DeleteMailbox(mailbox=queue, if_unused=if_unused, if_empty=if_empty)
            return self.ask(body, wire.CountReply, "Queue.delete").count
        if if_unused or if_empty:
            declared = self._declare_passive(queue)
            if (if_unused and declared.consumer_count) or (if_empty and declared.message_count):
                raise PreconditionFailed(f"the queue {queue} is in use")
        self.connection.routes.queues.discard(queue)
        try:
            return self.ask(wire.DeleteQueue(queue=queue), wire.CountReply, "Queue.delete").count
        except NoSuchQueue:
            # AMQP has nothing against the end of a queue that does not exist.
            return 0

    def _destination(self, queue: str) -> wire.Destination:
        if self.is_mailbox(queue):
            return wire.Destination(mailbox=queue)
        return wire.Destination(queue=queue)

    def flow(self, active: bool = True) -> None:
        """The broker needs no flow control of channels."""


def _milliseconds(values: Any, name: str) -> int | None:
    value = values.get(name)
    return None if value is None else int(value)
