"""A channel of kombu: its consumers, its messages that are not acknowledged, and its requests."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from kombu.exceptions import ChannelError
from kombu.message import Message
from kombu.transport import base

from celeriac import _codec as wire
from celeriac.celery import bodies, envelope, messages, unsure
from celeriac.celery.declaring import Declaring
from celeriac.celery.envelope import Raw
from celeriac.celery.faults import CONNECTION_ERRORS
from celeriac.celery.mail import Mailing
from celeriac.celery.publishing import PublishBatch, publish
from celeriac.celery.revoking import note_revoked, note_runnable
from celeriac.celery.session import Run, Session, sessions
from celeriac.celery.together import pipeline_for
from celeriac.errors import BrokerError

_TOGETHER_SECONDS = 0.05
"""So long a released task waits at most for others that are released after it."""

_NAMES_MAX = 10_000
"""A worker with more names takes tasks of any name."""


class Channel(Declaring, Mailing, base.StdChannel):
    """Consumers of queues of tasks lease tasks in the session of the channel; consumers of
    mailboxes read on the line of the connection. A delivery tag is a lease, or below 0 the tag of a
    message of a mailbox."""

    Message = Message
    supports_batch_publish = True

    def __init__(self, connection: Any, channel_id: int) -> None:
        self.connection = connection
        self.channel_id = channel_id
        self.closed = False
        self.session: Session | None = None
        self.no_ack_consumers: set[str] = set()
        self._consumers: dict[str, tuple[str, Callable[[Any], Any], bool]] = {}
        """For each tag the queue, the callback, and whether it acknowledges nothing."""
        self._mail_ids: dict[str, int] = {}
        self._on_cancel: dict[str, Callable[[str], Any]] = {}
        self._tags: dict[int, Run | None] = {}
        self._prefetch = 0
        self._releases: list[Run] = []
        """Runs that go back to their queues with the next flush."""
        self._names: frozenset[str] | None = None

    @property
    def place(self) -> tuple[str, int] | None:
        """Host and port of the broker."""
        url = self.connection.url if self.connection is not None else None
        return (url.host, url.port) if url is not None else None

    # Messages

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> Raw:
        """What `basic_publish` takes."""
        properties = {} if properties is None else properties
        # kombu calls this again with the same properties after a lost connection, and Celery with
        # the same headers.
        key = properties.setdefault(
            envelope.SUBMIT_KEY,
            bodies.submit_key() or unsure.key_of(headers) or messages.new_submit_key(),
        )
        own = {name: value for name, value in properties.items() if value is not None}
        own[envelope.SUBMIT_KEY] = key
        mark = messages.mark_of(headers or {})
        if mark is not None:
            own[bodies.MARK] = mark
        if priority is not None:
            own["priority"] = priority
        data = body.encode() if isinstance(body, str) else bytes(body)
        return Raw(data, content_type or "", content_encoding or "", headers or {}, own)

    def message_to_python(self, raw_message: Any) -> Any:
        """Messages come as Python values already."""
        return raw_message

    def prepare_queue_arguments(self, arguments: Any, **options: Any) -> Any:
        """The arguments under the names of AMQP."""
        return base.to_rabbitmq_queue_arguments(arguments, **options)

    def basic_publish(
        self,
        message: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        confirm_timeout: float | None = None,
        **_: Any,
    ) -> None:
        """Publishes a message. It is stored when this returns."""
        raw = message if isinstance(message, Raw) else self.prepare_message(message)
        items = [(raw, exchange or "", routing_key or "", mandatory)]
        try:
            publish(self.connection, items, pipeline_for(self.connection), confirm_timeout)
        except BaseException:
            unsure.note(raw)
            raise
        unsure.forget()

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Collects messages and sends them together."""
        return PublishBatch(self, max_size)

    def _message(self, raw: Raw, tag: int, redelivered: bool, consumer_tag: str | None) -> Any:
        info: dict[str, Any] = {
            "exchange": raw.exchange,
            "routing_key": raw.routing_key,
            "redelivered": redelivered,
            "priority": raw.properties.get("priority"),
        }
        if consumer_tag is not None:
            info["consumer_tag"] = consumer_tag
        return self.Message(
            body=raw.body,
            delivery_tag=tag,
            content_type=raw.content_type,
            content_encoding=raw.content_encoding,
            delivery_info=info,
            properties=raw.properties,
            headers=raw.headers,
            channel=self,
        )

    # Consumers

    def basic_qos(
        self, prefetch_size: int, prefetch_count: int, apply_global: bool = False
    ) -> None:
        """How many messages of tasks the channel holds at most; 0 stands for the most."""
        self._prefetch = prefetch_count
        if self.session is not None and self.session.queues:
            self.session.set_credit(prefetch_count)

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,
        consumer_tag: str = "",
        callback: Callable[[Any], Any] | None = None,
        on_cancel: Callable[[str], Any] | None = None,
        **_: Any,
    ) -> str:
        """Begins to consume a queue of tasks or a mailbox."""
        tag = consumer_tag or f"consumer-{len(self._consumers) + 1}-{messages.new_submit_key()}"
        if callback is None:
            raise ChannelError("a consumer has a callback")
        if self.is_mailbox(queue):
            reply = self.ask(wire.Consume(mailbox=queue), wire.ConsumeReply, "Basic.consume")
            self._mail_ids[tag] = reply.consumer_id
            self.connection.mail[reply.consumer_id] = (self, tag)
        else:
            session = self._session()
            session.serve(queue)
            session.set_credit(self._prefetch)
        self._consumers[tag] = (queue, callback, no_ack)
        if on_cancel is not None:
            self._on_cancel[tag] = on_cancel
        if no_ack:
            self.no_ack_consumers.add(tag)
        return tag

    def basic_cancel(self, consumer_tag: str, **_: Any) -> None:
        """Ends a consumer. Its callback is not called any more, and what it holds stays its own."""
        queue, _callback, _no_ack = self._consumers.pop(consumer_tag, ("", None, False))
        self._on_cancel.pop(consumer_tag, None)
        self.no_ack_consumers.discard(consumer_tag)
        mail_id = self._mail_ids.pop(consumer_tag, None)
        # With a lost connection the consumer is gone already. Who reads finds the loss: Celery's
        # worker cancels its consumers afterwards, and expects no further error.
        with contextlib.suppress(*CONNECTION_ERRORS):
            if mail_id is not None:
                # The broker puts back what was not acknowledged.
                self.connection.mail.pop(mail_id, None)
                with contextlib.suppress(BrokerError):
                    self.connection.line.call(wire.Unconsume(consumer_id=mail_id), wire.Done)
            elif self.session is not None and self.session.is_open:
                self._stop_serving(queue)

    def _stop_serving(self, queue: str) -> None:
        assert self.session is not None
        if not any(each[0] == queue for each in self._consumers.values()):
            self.session.unserve(queue)
        if not self.session.queues:
            self.session.set_credit_zero()
        self._give_back(queue)

    def _give_back(self, queue: str) -> None:
        """Releases the deliveries of a queue that no callback has seen, the newest first."""
        assert self.session is not None
        if any(each[0] == queue for each in self._consumers.values()):
            return
        self.connection.collect_pushes()
        for run in sorted(self.session.runs.values(), key=lambda run: run.lease, reverse=True):
            if run.queue == queue and not run.is_seen and not run.is_ended:
                self.session.end(run, wire.Release())
        self.session.flush()

    def _session(self) -> Session:
        if self.session is None:
            self.session = self.connection.open_session(self._names)
        return self.session

    def announce(self, names: Iterable[str]) -> None:
        """From now on tasks of these names are delivered, and messages that are no tasks."""
        if self.connection.options.any_name:
            return
        self._names = frozenset((*names, messages.PLAIN))
        if len(self._names) > _NAMES_MAX:
            self._names = None
        if self.session is not None and self.session.is_open:
            self.session.announce(self._names)

    # Events

    def collect_pushes(self, events: deque[Any]) -> None:
        """Makes events of what the session has got."""
        session = self.session
        if session is None or not session.is_open:
            return
        pushes = session.line.pushes
        while pushes:
            push = pushes.popleft()
            if isinstance(push, wire.Deliver):
                for delivery in push.deliveries:
                    run = session.add(delivery)
                    if run is not None:
                        events.append((self, partial(self._deliver, run, delivery)))
            elif isinstance(push, wire.CancelSignal):
                self._on_signal(push)

    def _on_signal(self, signal: wire.CancelSignal) -> None:
        assert self.session is not None
        for lease in signal.leases:
            run = self.session.runs.get(lease)
            if run is None:
                continue
            if signal.kind == wire.CancelSignalKind.TAKEN_BACK:
                self.session.forget(lease)
            if lease in self._tags and not run.is_accepted:
                note_revoked(run.id)

    def _deliver(self, run: Run, delivery: wire.Delivery) -> bool:
        if run.is_ended:
            return False
        assert self.session is not None
        if delivery.report_start:
            # The broker has to know of the start before the handler begins.
            self.session.report(run, wire.Started())
            self.session.settle()
        found = next(
            (item for item in self._consumers.items() if item[1][0] == delivery.queue), None
        )
        if found is None:
            self.session.end(run, wire.Release())
            return False
        tag, (_queue, callback, no_ack) = found
        if delivery.revoked_reason:
            note_revoked(delivery.id)
        elif delivery.generation > 1:
            note_runnable(delivery.id)
        raw = messages.raw_of(delivery, self.connection.options)
        run.is_seen = True
        if no_ack:
            self.session.end(run, wire.Complete())
        else:
            self._tags[run.lease] = run
        callback(self._message(raw, run.lease, delivery.redelivered, tag))
        return True

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:
        """One message that is ready, or None."""
        if self.is_mailbox(queue):
            return self._fetch_mail(queue, no_ack)
        session = self._session()
        self.settle()
        delivery = session.take(queue)
        run = session.add(delivery) if delivery is not None else None
        if delivery is None or run is None:
            return None
        run.is_seen = True
        if no_ack:
            session.end(run, wire.Complete())
            session.flush()
        else:
            self._tags[run.lease] = run
        return self._message(
            messages.raw_of(delivery, self.connection.options),
            run.lease,
            delivery.redelivered,
            None,
        )

    # Acknowledgements

    def run_of(self, delivery_tag: int) -> Run | None:
        """The lease behind a delivery tag."""
        return self._tags.get(delivery_tag)

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """The messages are done with: tasks end, unless Celery will say later that they end."""
        for tag in self._older(delivery_tag, multiple):
            run = self._tags.pop(tag)
            if run is None:
                self.connection.line.send(wire.AckMail(tags=[-tag]))
            elif self.session is not None:
                if run.has_end and not run.is_over:
                    if not run.is_settled:
                        run.is_accepted = run.is_settled = True
                        self.session.report(run, wire.Settle())
                else:
                    self.session.end(run, run.last or wire.Complete(result_ttl_ms=0))
        self.flush_if_alone()

    def basic_reject(self, delivery_tag: int, requeue: bool = True) -> None:
        """The messages go back in front of their queue, or they are dead."""
        for tag in self._older(delivery_tag, False):
            run = self._tags.pop(tag)
            if run is None:
                body = wire.PutBackMail(tags=[-tag]) if requeue else wire.AckMail(tags=[-tag])
                self.ask_any(body)
            elif self.session is not None:
                if requeue:
                    self._releases.append(run)
                else:
                    # What a run has left as its outcome says more than the rejection.
                    has_result = run.is_over and bool(getattr(run.last, "result", None))
                    end = run.last if has_result else rejection(run, requeue=False)
                    self.session.end(run, end)
        if not self._releases or not any(run is not None for run in self._tags.values()):
            self.flush_if_alone()
        elif len(self._releases) == 1 and self.is_alone:
            # More of them may follow at once, and they keep their order when they go together.
            timer = threading.Timer(_TOGETHER_SECONDS, self.flush_if_alone)
            timer.daemon = True
            timer.start()

    def _release(self) -> None:
        """The broker puts each released task in front of its queue. So the newest goes first."""
        releases, self._releases = self._releases, []
        if self.session is not None:
            for run in sorted(releases, key=lambda run: run.lease, reverse=True):
                self.session.end(run, rejection(run, requeue=True))

    def basic_recover(self, requeue: bool = True) -> None:
        """Gives back all messages that are not acknowledged."""
        for tag in sorted(self._tags, reverse=True):
            self.basic_reject(tag, requeue=True)

    def _older(self, delivery_tag: int, multiple: bool) -> list[int]:
        if not multiple:
            return [delivery_tag] if delivery_tag in self._tags else []
        tags = list(self._tags)
        if delivery_tag in self._tags:
            return tags[: tags.index(delivery_tag) + 1]
        return tags if not delivery_tag else []

    def finish(self, run: Run) -> None:
        """The run is over, as Celery says. Does nothing when its lease has ended."""
        if self.session is not None:
            self._tags.pop(run.lease, None)
            self.session.end(run, run.last)
            self.flush_if_alone(is_run=True)

    def accept(self, run: Run, *, is_settled: bool) -> None:
        """A process of the pool has begun the task, and the task may run again unless it is
        settled: the acknowledgement follows."""
        if self.session is not None and not run.is_accepted:
            run.is_accepted, run.is_settled = True, is_settled
            self.session.report(run, wire.Settle() if is_settled else wire.Started())
            self.flush_if_alone(is_run=True)

    def flush(self) -> None:
        """Sends the reports that wait. An answer from the broker lets the event loop come back."""
        if self.session is not None:
            self._release()
            if self.session.has_reports:
                self.session.flush(at_once=False)

    def settle(self) -> None:
        """Waits until the broker has answered all reports."""
        if self.session is not None:
            self._release()
            self.session.settle()

    @property
    def is_alone(self) -> bool:
        """Whether no event loop collects what is reported."""
        return self.connection is None or self.connection.loop is None

    def flush_if_alone(self, *, is_run: bool = False) -> None:
        """Outside of an event loop reports leave at once. The loop collects them; the end of a run
        in another thread would find the loop asleep."""
        if self.session is None:
            return
        is_alone = self.is_alone
        if is_alone or (is_run and self.connection.loop_thread != threading.get_ident()):
            with contextlib.suppress(*CONNECTION_ERRORS):
                self._release()
                self.session.flush(at_once=is_alone)

    # The end

    def close(self) -> None:
        """Ends the channel: what it holds goes back to the queues."""
        if self.closed:
            return
        with contextlib.suppress(Exception):
            for tag in list(self._mail_ids):
                self.basic_cancel(tag)
        self.closed = True
        session = self.session
        if session is not None:
            self._release()
            if session.is_open:
                with contextlib.suppress(Exception):
                    self.connection.unwatch(session.line)
            if not session.close():
                sessions.lose(session)
        with contextlib.suppress(ValueError):
            self.connection.channels.remove(self)

    def collect(self) -> None:
        """Drops the socket. Runs that go on keep their leases for the next connection."""
        self.closed = True
        if self.session is not None:
            sessions.lose(self.session)


def rejection(run: Run, *, requeue: bool) -> Any:
    """The report that gives a task back, or that makes it dead."""
    if requeue:
        return wire.Release(lost=run.is_lost)
    if run.is_over and getattr(run.last, "result", None):
        # What a run has left as its outcome says more than the rejection.
        return run.last
    error = wire.TaskError(kind="rejected", message="the worker rejected the message")
    return wire.Reject(error=run.fault or error)
