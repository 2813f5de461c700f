"""A conversation without a network: an exchange, and the frames of the broker that a test plays."""

from __future__ import annotations

import math
from typing import Any

from celeriac import _codec
from celeriac._calls import Call
from celeriac._codec import Message
from celeriac._exchange import Exchange
from celeriac.errors import ConnectError
from played_broker import WELCOME, framed

NOW = 1000.0


class Conversation:
    """An exchange, and the broker's side of it."""

    def __init__(self, *, is_worker: bool = False, welcome: Message | None = WELCOME) -> None:
        self.pushed: list[Message] = []
        worker = _codec.WorkerInfo(task_names=["a"]) if is_worker else None
        hello = _codec.Hello(protocol_min=1, protocol_max=1, token="s3cret", worker=worker)
        self.exchange = Exchange(hello, self.pushed.append)
        self.now = NOW
        self.connect(welcome)

    def connect(self, welcome: Message | None = WELCOME) -> list[Any]:
        """A new connection. Returns what the client sends after its Hello."""
        self.exchange.connected(self.now)
        first = self.sent()
        assert [type(frame.body) for frame in first] == [_codec.Hello]
        self.hello = first[0].body
        if welcome is not None:
            self.answer(1, welcome)
        return self.sent()

    def sent(self) -> list[Any]:
        """The frames that the client wants to write now."""
        data, frames = self.exchange.take_outgoing(), []
        while data:
            size = int.from_bytes(data[:4], "big")
            frames.append(_codec.ClientFrame.decode(data[4 : 4 + size]))
            data = data[4 + size :]
        return frames

    def answer(self, request_id: int, body: Message) -> None:
        frame = _codec.ServerFrame(request_id=request_id, body=body)  # type: ignore[arg-type]
        self.exchange.receive(framed(frame), self.now)

    def call(self, message: Message, deadline: float = math.inf, **settings: Any) -> Call:
        call = Call.of(message, deadline, **settings)
        self.exchange.send(call, self.now)
        return call

    def lose(self) -> None:
        self.exchange.disconnected(ConnectError("cut"), self.now)
