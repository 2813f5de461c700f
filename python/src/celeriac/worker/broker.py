"""The worker's session with the broker: connects, says Hello, sends heartbeats and requests, and
opens a broken connection again. It lives on the driver's thread."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from celeriac import _codec as wire
from celeriac._hello import client_version
from celeriac._protobuf import number
from celeriac.errors import CeleriacError
from celeriac.url import BrokerUrl
from celeriac.worker.channel import Channel, ChannelClosed
from celeriac.worker.connector import Connected, Connector
from celeriac.worker.loop import Loop
from celeriac.worker.reports import Encoded

log = logging.getLogger("celeriac.worker")

PROTOCOL = 1

#: The key of the field `report` in `ClientFrame`, and of `reports` in `Report`.
_REPORT_KEY = number(49 << 3 | 2)
_ITEM_KEY = number(1 << 3 | 2)
_ID_KEY = number(1 << 3)

Answer = Callable[[Any], None]


class Broker:
    """The session. The driver sets the four callbacks."""

    def __init__(self, url: BrokerUrl, info: wire.WorkerInfo, instance: str, loop: Loop) -> None:
        self.url = url
        self.limits = wire.Limits()
        self.welcome: wire.Welcome | None = None
        self.on_connected: Callable[[bool, list[int]], None]
        self.on_disconnected: Callable[[], None]
        self.on_push: Callable[[Any], None]
        self.on_refused: Callable[[CeleriacError], None]
        self.heartbeat: Callable[[], wire.Heartbeat]
        self._info = info
        self._instance = instance
        self._loop = loop
        self._session_id = ""
        self._channel: Channel | None = None
        self._requests: dict[int, Answer] = {}
        self._last_id = 1
        self._opened: deque[Connected | CeleriacError] = deque()
        self._connector = Connector(url, self._done)
        self._connected_at = self._heartbeat_at = self._received_at = 0.0
        self._is_closed = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._channel is not None

    def start(self) -> None:
        """Begins to connect."""
        self._connector.start(self._hello(), has_lived=True)

    def request(self, body: Any, on_answer: Answer) -> None:
        """Sends a request. `on_answer` gets the answer, or None when the connection breaks before
        it. Without a connection nothing is sent, and `on_answer` gets None at once."""
        if self._channel is None:
            on_answer(None)
            return
        request_id = self._next_id(on_answer)
        self._send(wire.ClientFrame(request_id=request_id, body=body).encode())

    def report(self, reports: list[Encoded], on_answer: Answer) -> None:
        """Sends reports that are already encoded, as one request."""
        items: list[bytes] = []
        for report in reports:
            items += (_ITEM_KEY, number(len(report.data)), report.data)
        data = b"".join(items)
        request_id = self._next_id(on_answer)
        self._send(_ID_KEY, number(request_id), _REPORT_KEY, number(len(data)), data)

    def step(self, now: float) -> None:
        """Takes a new connection, and sends the heartbeat when it is due."""
        while self._opened:
            self._take(self._opened.popleft())
        if self._channel is None or self.welcome is None:
            return
        if now - self._received_at >= self.welcome.lease_ms / 1000:
            log.warning("The broker is silent; the worker opens a new connection.")
            self._lose()
        elif now >= self._heartbeat_at:
            self._heartbeat_at = now + self.welcome.heartbeat_ms / 1000
            self.request(self.heartbeat(), lambda _: None)

    def next_at(self) -> float:
        """When `step` has something to do."""
        return self._heartbeat_at if self._channel is not None else monotonic() + 60.0

    def close(self) -> None:
        """Ends the session without waiting. Its leases go back to their queues."""
        self._is_closed = True
        self._connector.stop()
        if self._channel is not None:
            self._loop.remove(self._channel)
            self._channel.close()
            self._channel = None

    def _next_id(self, on_answer: Answer) -> int:
        self._last_id += 1
        self._requests[self._last_id] = on_answer
        return self._last_id

    def _send(self, *parts: bytes) -> None:
        assert self._channel is not None
        try:
            self._channel.send(*parts)
        except ChannelClosed as closed:
            self._lose(str(closed))

    def _hello(self) -> wire.Hello:
        return wire.Hello(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            client_name="celeriac-worker-python",
            client_version=client_version(),
            token=self.url.token,
            instance_id=self._instance,
            session_id=self._session_id,
            worker=self._info,
        )

    def _done(self, outcome: Connected | CeleriacError) -> None:
        # On the connector's thread.
        self._opened.append(outcome)
        self._loop.wake()

    def _take(self, outcome: Connected | CeleriacError) -> None:
        if isinstance(outcome, CeleriacError):
            self.on_refused(outcome)
            return
        if self._is_closed:
            outcome.socket.close()
            return
        self.welcome = welcome = outcome.welcome
        self.limits = welcome.limits or wire.Limits()
        resumed = welcome.resumed and welcome.session_id == self._session_id
        self._session_id = welcome.session_id
        self._channel = Channel(outcome.socket, outcome.reader, outcome.tls)
        now = monotonic()
        self._connected_at = self._received_at = now
        self._heartbeat_at = now + welcome.heartbeat_ms / 1000
        self._loop.add(self._channel, self._on_readable)
        log.info("Connected to %s%s.", self.url.shown, "; the session goes on" if resumed else "")
        self.on_connected(resumed, welcome.leases)
        for frame in outcome.frames:
            self._on_frame(frame)

    def _on_readable(self) -> None:
        channel = self._channel
        assert channel is not None
        try:
            frames = channel.read()
            self._received_at = monotonic()
            for frame in frames:
                self._on_frame(frame)
                if self._channel is not channel:
                    return
            channel.flush()
        except (ChannelClosed, wire.DecodeError) as error:
            if self._channel is channel:
                self._lose(str(error))

    def _on_frame(self, data: bytes) -> None:
        frame = wire.ServerFrame.decode(data)
        body = frame.body
        if frame.request_id:
            on_answer = self._requests.pop(frame.request_id, None)
            if on_answer is not None:
                on_answer(body)
        elif isinstance(body, (wire.Error, wire.Closing)):
            error = body if isinstance(body, wire.Error) else body.error
            told = error.message if error is not None else ""
            if error is not None and error.code == wire.ErrorCode.SESSION_LOST:
                self._session_id = ""
            self._lose(f"the broker closes the connection: {told}")
        elif body is not None:
            self.on_push(body)

    def _lose(self, why: str = "") -> None:
        """The connection is gone: tells those that wait for answers, and opens another one."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        log.warning("The connection to the broker is lost%s.", f": {why}" if why else "")
        self._loop.remove(channel)
        channel.close()
        requests, self._requests = self._requests, {}
        # The newest first: reports that are put back in front then keep their order.
        for on_answer in reversed(requests.values()):
            on_answer(None)
        self.on_disconnected()
        if not self._is_closed:
            assert self.welcome is not None
            lived = monotonic() - self._connected_at
            has_lived = lived >= self.welcome.heartbeat_ms / 1000
            self._connector.start(self._hello(), has_lived=has_lived)


def worker_info(queues: dict[str, int], names: list[str], concurrency: int) -> wire.WorkerInfo:
    """What the broker learns of this worker."""
    return wire.WorkerInfo(
        queues=[wire.QueueSubscription(queue=name, weight=queues[name]) for name in queues],
        task_names=names,
        hostname=socket.gethostname()[:255],
        pid=os.getpid(),
        concurrency=concurrency,
    )
