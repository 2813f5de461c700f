"""The messages of mailboxes: how a channel reads them, and how they wait for their consumers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from celeriac import _codec as wire
from celeriac.celery.envelope import Raw, mail_of
from celeriac.celery.replies import replies
from celeriac.celery.revoking import without_later_runs


class MailCall:
    """The event of one message of a mailbox."""

    __slots__ = ("channel", "mail", "raw", "tag")

    def __init__(self, channel: Any, tag: str, mail: wire.MailMessage) -> None:
        self.channel = channel
        self.tag = tag
        self.mail = mail
        self.raw = mail_of(mail)

    def __call__(self) -> bool:
        was_called: bool = self.channel.deliver_mail(self.tag, self.mail, self.raw)
        return was_called


def put_in_order(events: deque[Any], channel: Any, tag: str) -> None:
    """Puts the messages of one consumer into the order of their priorities, the highest first. All
    other events keep their places. The broker has no priorities for mailboxes: what waits there
    comes in the order in which it was published."""
    places = [
        at
        for at, (owner, call) in enumerate(events)
        if owner is channel and isinstance(call, MailCall) and call.tag == tag
    ]
    waiting = sorted((events[at] for at in places), key=lambda event: -event[1].raw.priority)
    for at, event in zip(places, waiting, strict=True):
        events[at] = event


class Mailing:
    """The part of a channel that reads mailboxes."""

    connection: Any
    ask: Any
    _message: Any
    _consumers: dict[str, tuple[str, Callable[[Any], Any], bool]]
    _mail_ids: dict[str, int]
    _on_cancel: dict[str, Callable[[str], Any]]
    _tags: dict[int, Any]

    def mailbox_of(self, tag: str) -> str:
        """The mailbox of a consumer."""
        found = self._consumers.get(tag)
        return found[0] if found is not None else ""

    def collect_mail(self, tag: str, mails: list[wire.MailMessage], events: deque[Any]) -> None:
        """Makes events of messages of a mailbox. Those that wait here for one consumer are in
        the order of their priorities."""
        calls = [MailCall(self, tag, mail) for mail in mails]
        events.extend((self, call) for call in calls)
        if any(call.raw.priority for call in calls):
            put_in_order(events, self, tag)

    def deliver_mail(self, tag: str, mail: wire.MailMessage, raw: Raw) -> bool:
        """Calls the consumer of a mailbox, unless it has ended or the message came too late."""
        found = self._consumers.get(tag)
        if found is None:
            return False
        queue, callback, no_ack = found
        if raw.is_expired:
            self.connection.line.send(wire.AckMail(tags=[mail.tag]))
            return False
        replies.heard(self.connection.url, queue, raw)
        callback(self._mail_message(mail, without_later_runs(raw), no_ack, tag))
        return True

    def _mail_message(self, mail: wire.MailMessage, raw: Raw, no_ack: bool, tag: str | None) -> Any:
        if no_ack:
            self.connection.line.send(wire.AckMail(tags=[mail.tag]))
        else:
            self._tags[-mail.tag] = None
        return self._message(raw, -mail.tag, mail.redelivered, tag)

    def ended_call(self, tag: str) -> Callable[[], bool]:
        """The event that a consumer has ended because its mailbox did."""
        return partial(self._end_consumer, tag)

    def _end_consumer(self, tag: str) -> bool:
        self._consumers.pop(tag, None)
        self._mail_ids.pop(tag, None)
        on_cancel = self._on_cancel.pop(tag, None)
        if on_cancel is not None:
            on_cancel(tag)
        return True

    def _fetch_mail(self, mailbox: str, no_ack: bool) -> Any:
        while True:
            reply = self.ask(wire.FetchMail(mailbox=mailbox), wire.FetchMailReply, "Basic.get")
            if reply.message is None:
                if self.connection.look_for_replies(mailbox):
                    continue
                return None
            raw = mail_of(reply.message)
            if not raw.is_expired:
                replies.heard(self.connection.url, mailbox, raw)
                return self._mail_message(reply.message, raw, no_ack, None)
            self.connection.line.send(wire.AckMail(tags=[reply.message.tag]))
