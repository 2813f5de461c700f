"""The messages of mailboxes that wait in this process for their consumers."""

from __future__ import annotations

from collections import deque
from typing import Any

from celeriac import _codec as wire
from celeriac.celery.envelope import mail_of


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
