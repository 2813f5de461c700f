"""The connection that `kombu.Connection` holds: a line for requests and mailboxes, and a line for
each channel that leases tasks."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import weakref
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import Any

from celeriac import _codec as wire
from celeriac.celery.channel import Channel
from celeriac.celery.faults import CHANNEL_ERRORS, CONNECTION_ERRORS, lost
from celeriac.celery.line import Line
from celeriac.celery.options import options_of
from celeriac.celery.pipeline import Pipeline, keep
from celeriac.celery.replies import LOOK_SECONDS, replies
from celeriac.celery.routes import Routes
from celeriac.celery.session import Session, sessions
from celeriac.errors import BrokerError
from celeriac.url import BrokerUrl

log = logging.getLogger("celeriac.celery")

Event = tuple[Channel, Callable[[], bool]]
"""A call of a consumer, which says whether the consumer was there to be called."""


class Connection:
    """One thread uses a connection at a time."""

    def __init__(self, client: Any, url: BrokerUrl, seconds: float) -> None:
        self.client = client
        self.url = url
        self.options = options_of(client.transport_options)
        self.routes = Routes()
        self.channels: list[Channel] = []
        self.events: deque[Event] = deque()
        """Calls of consumers that wait for `drain_events`."""
        self.mail: dict[int, tuple[Channel, str]] = {}
        """The channel and the tag of each consumer of a mailbox."""
        self.loop: Any = None
        self.loop_thread = 0
        self._seconds = seconds
        self._ids = count(1)
        self.line = Line(url, seconds=seconds)
        self.lock = threading.RLock()
        """For requests on this line: another thread may wait for what this one has published."""
        self.pipelines: list[Pipeline] = []
        """Those whose tasks are sent again on a new line."""
        self.pipeline = Pipeline(self) if self.options.is_pipelined else None
        if self.pipeline is not None:
            keep(self.pipeline)
        _connections.add(self)

    # What kombu asks

    @property
    def connected(self) -> bool:
        """Whether all sockets are open."""
        return not any(line.is_broken for line in self.lines())

    @property
    def _transport(self) -> Connection:
        # Celery looks here for the socket, to bound the time of a broken connection's end.
        return self

    @property
    def sock(self) -> Connection:
        """What Celery takes for the socket of the connection."""
        return self

    def settimeout(self, seconds: float | None) -> None:
        """Bounds the time that the broker has to answer. Celery asks for this before it ends a
        connection whose other side may have fallen silent."""
        for line in self.lines():
            if seconds is not None:
                line.bound(seconds)

    def channel(self, channel_id: int | None = None) -> Channel:
        """Opens a channel."""
        channel = Channel(self, next(self._ids) if channel_id is None else channel_id)
        self.channels.append(channel)
        return channel

    def close(self) -> None:
        """Ends the connection in order."""
        for channel in list(self.channels):
            with contextlib.suppress(Exception):
                channel.close()
        self.unregister()
        if self.pipeline is not None:
            try:
                self.pipeline.flush()
            except CONNECTION_ERRORS as error:
                log.warning("Tasks wait for another connection to be confirmed: %s", error)
            except CHANNEL_ERRORS:
                # The refusal is in the log, and there is no later publish to raise it.
                pass
            self.pipeline.leave()
        self.line.close()

    def collect(self) -> None:
        """Drops the sockets at once: after an error, or in a child of the process."""
        self.unregister()
        for channel in self.channels:
            channel.collect()
        self.channels.clear()
        self.events.clear()
        if self.pipeline is not None:
            self.pipeline.leave()
        self.line.drop()

    def after_fork(self) -> None:
        """A child of the process leaves the sockets to its parent, and opens its own. Another
        thread of the parent may hold the lock."""
        self.lock = threading.RLock()
        for line in self.lines():
            line.drop()
        self.mail.clear()
        self.events.clear()
        for pipeline in self.pipelines:
            pipeline.after_fork()

    # Lines

    def lines(self) -> list[Line]:
        """The lines that are in use."""
        found = [self.line]
        for channel in self.channels:
            session = channel.session
            if session is not None:
                found.append(session.line if session.is_open else self.line)
        return found

    def open_session(self, names: frozenset[str] | None) -> Session:
        """A session of a worker, for a channel. Without names it takes tasks of any name."""
        session = sessions.open(self.url, names)
        self.watch(session.line)
        return session

    def fresh_line(self, *, is_publish: bool = False) -> Line:
        """The line for requests. When the broker has closed an idle one, another is opened, unless
        mailboxes are consumed on it: who has those must hear of the loss. A publish looks only
        after a pause: kombu sends it again when its line breaks."""
        if not self.mail and (self.line.has_ended() if is_publish else self.line.has_ended(0.0)):
            self.reopen()
        return self.line

    def reopen(self, seconds: float | None = None) -> None:
        """Opens another line for requests, within this time."""
        if self.mail:
            raise lost("its mailboxes are gone")
        self.unwatch(self.line)
        self.line.drop()
        self.line = Line(self.url, seconds=min(self._seconds, seconds or self._seconds))
        self.watch(self.line)
        self.routes.forget()
        for pipeline in self.pipelines:
            pipeline.resend()

    # Events

    def drain_events(self, timeout: float | None = None) -> None:
        """Calls one consumer, and waits for a message before if there is none. Raises
        `socket.timeout`."""
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            # An answer to earlier reports lets the next ones go.
            self.flush()
            is_expecting = self._look_for_all_replies()
            self.collect_pushes()
            while self.events:
                if self._dispatch():
                    return
            left = 3600.0 if deadline is None else deadline - monotonic()
            wait = min(left, LOOK_SECONDS) if is_expecting else left
            if not self._wait(max(wait, 0.0)) and left <= 0:
                raise TimeoutError("no message came in time")

    def _look_for_all_replies(self) -> bool:
        """Looks for the mailboxes that are consumed here. Whether one of them waits for results."""
        names = {channel.mailbox_of(tag) for channel, tag in self.mail.values()}
        for name in names:
            self.look_for_replies(name)
        return any(replies.are_expected(self.url, name) for name in names)

    def look_for_replies(self, mailbox: str) -> bool:
        """Puts the results that no worker sends into a mailbox of this process. Whether there were
        some."""
        if not replies.is_due(self.url, mailbox):
            return False
        with self.lock, contextlib.suppress(BrokerError):
            return replies.look(self.line, self.url, mailbox)
        return False

    def on_readable(self, line: Line) -> None:
        """Reads a line to its end, and calls the consumers for all that has arrived."""
        line.read()
        while line.has_more:
            line.read()
        self._dispatch_all()

    def _dispatch_all(self) -> None:
        """What comes while a callback waits for an answer is handled too."""
        self.collect_pushes()
        while self.events:
            self._dispatch()
            if not self.events:
                self.collect_pushes()

    def flush(self) -> None:
        """Sends the reports that wait."""
        for channel in self.channels:
            channel.flush()

    def _dispatch(self) -> bool:
        channel, call = self.events.popleft()
        was_called = not channel.closed and call()
        if self.loop is None:
            channel.flush_if_alone()
        return was_called

    def _wait(self, seconds: float) -> bool:
        lines = self.lines()
        if len(lines) == 1:
            return lines[0].read(seconds)
        if seconds:
            with selectors.DefaultSelector() as selector:
                for line in set(lines):
                    selector.register(line, selectors.EVENT_READ)
                selector.select(seconds)
        # Each line is read, also when an earlier one had something.
        return sum(line.read() for line in lines) > 0

    def collect_pushes(self) -> None:
        """Makes events of what the lines have got."""
        pushes = self.line.pushes
        while pushes:
            push = pushes.popleft()
            if isinstance(push, wire.Mail):
                found = self.mail.get(push.consumer_id)
                if found is not None:
                    channel, tag = found
                    channel.collect_mail(tag, push.messages, self.events)
            elif isinstance(push, wire.ConsumerEnded):
                self._end_consumer(push.consumer_id)
        for channel in self.channels:
            channel.collect_pushes(self.events)

    def _end_consumer(self, consumer_id: int) -> None:
        found = self.mail.pop(consumer_id, None)
        if found is not None:
            channel, tag = found
            self.events.append((channel, channel.ended_call(tag)))

    # The event loop of a worker

    def register(self, loop: Any) -> None:
        """Reads whenever a socket can be read."""
        self.unregister()
        self.loop = loop
        self.loop_thread = threading.get_ident()
        for line in self.lines():
            self.watch(line)
        loop.on_tick.add(self.on_tick)

    def unregister(self) -> None:
        """Leaves the event loop."""
        if self.loop is None:
            return
        for line in self.lines():
            self.unwatch(line)
        self.loop.on_tick.discard(self.on_tick)
        self.loop = None

    def on_tick(self) -> None:
        """Runs before each poll: sends what the iteration reported, and handles messages that
        came while a request waited for its answer. No poll would tell of those."""
        if not self.line.is_broken:
            self._dispatch_all()
            self.flush()

    def watch(self, line: Line) -> None:
        """Lets the event loop read this line."""
        if self.loop is not None and not line.is_broken:
            self.loop.add_reader(line.fileno(), self.on_readable, line)

    def unwatch(self, line: Line) -> None:
        """Lets the event loop forget this line."""
        if self.loop is not None and not line.is_broken:
            with contextlib.suppress(Exception):
                self.loop.remove(line.fileno())


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for connection in list(_connections):
        connection.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
