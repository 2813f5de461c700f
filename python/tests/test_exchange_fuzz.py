"""Conversations by chance: whatever a broker sends and whenever the connection breaks, the exchange
raises nothing, keeps its promises to its callers, and sends only what the protocol allows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import vectors
from celeriac import _codec
from celeriac._calls import REPLIES, Call
from celeriac._codec import Message
from celeriac._exchange import Exchange
from celeriac._watching import WatchedStates
from celeriac.errors import CeleriacError, ClientClosed, ConnectError
from played_broker import framed

FRAMES = [_codec.ServerFrame.decode(case.frame) for case in vectors.read("broker.txt")]
BODIES = [frame.body for frame in FRAMES if frame.body is not None]
REQUESTS: list[Callable[[], Message]] = [
    lambda: _codec.Get(ids=["a", "b"]),
    lambda: _codec.Wait(ids=["a"]),
    lambda: _codec.Submit(tasks=[_codec.Task(id="a", name="n")]),
    lambda: _codec.Forget(ids=["a"]),
    lambda: _codec.PurgeQueue(queue="q"),
    lambda: _codec.ListTasks(limit=5),
]


class Chance:
    """One conversation, step by step."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 100.0
        hello = _codec.Hello(protocol_min=1, protocol_max=1)
        self.exchange = Exchange(hello, lambda _: None)
        self.is_connected = False
        self.calls: list[Call] = []
        self.ends: Counter[int] = Counter()
        self.states: list[WatchedStates] = []
        self.unanswered: dict[int, type[Message]] = {}
        """The requests that the broker has read, and their kinds."""
        self.buffer = b""

    def step(self) -> None:
        self.now += self.random.choice([0.0, 0.001, 0.3, 6.0])
        often = [self.send, self.answer, self.answer, self.tick, self.connect]
        seldom = [self.watch, self.push, self.garbage, self.abandon, self.unwatch, self.lose]
        self.random.choice(often if self.random.random() < 0.85 else seldom)()
        self.read()
        if self.exchange.fault is not None and self.is_connected:
            self.lose(self.exchange.fault)

    def send(self) -> None:
        deadline = self.now + self.random.choice([0.01, 5, 1e9])
        waits = self.now + 1 if self.random.random() < 0.2 else None
        body = self.random.choice(REQUESTS)()
        call = Call.of(body, deadline, then=self.ended, waits_until=waits)
        self.calls.append(call)
        self.exchange.send(call, self.now)

    def ended(self, call: Call) -> None:
        self.ends[id(call)] += 1
        assert (call.answer is None) != (call.error is None)
        assert call.error is None or isinstance(call.error, CeleriacError)
        assert call.answer is None or type(call.answer) is call.reply

    def watch(self) -> None:
        states = WatchedStates([self.random.choice("abc")])
        self.states.append(states)
        self.calls += self.exchange.watches.begin(states, self.now, self.now + 5)

    def unwatch(self) -> None:
        if self.states:
            self.exchange.watches.end(self.states.pop(self.random.randrange(len(self.states))))

    def abandon(self) -> None:
        for call in self.calls:
            if call.deadline <= self.now:
                self.exchange.abandon(call, self.now)

    def tick(self) -> None:
        self.exchange.tick(self.now)

    def connect(self) -> None:
        if not self.is_connected and not self.exchange.is_closed:
            self.exchange.connected(self.now)
            self.is_connected = True
            self.unanswered = {}
            self.buffer = b""
            if self.random.random() < 0.8:
                self.receive(1, _codec.Welcome(protocol=1, limits=self.limits()))

    def limits(self) -> _codec.Limits:
        return _codec.Limits(
            batch_items_max=self.random.choice([1, 10_000]),
            requests_in_flight_max=self.random.choice([10, 12, 1024]),
        )

    def lose(self, reason: CeleriacError | None = None) -> None:
        if self.is_connected:
            self.is_connected = False
            self.exchange.disconnected(reason or ConnectError("cut"), self.now)

    def answer(self) -> None:
        request_id = self.random.choice([*self.unanswered, 999])
        wanted = REPLIES.get(self.unanswered.get(request_id, Message), _codec.Done)
        fitting = [body for body in BODIES if type(body) is wanted]
        is_right = fitting and self.random.random() < 0.9
        self.receive(request_id, self.random.choice(fitting if is_right else BODIES))

    def push(self) -> None:
        self.receive(0, self.random.choice(BODIES))

    def receive(self, request_id: int, body: Any) -> None:
        if self.is_connected and self.exchange.fault is None:
            self.unanswered.pop(request_id, None)
            frame = _codec.ServerFrame(request_id=request_id, body=body)
            self.exchange.receive(framed(frame), self.now)

    def garbage(self) -> None:
        if self.is_connected and self.exchange.fault is None and self.random.random() < 0.2:
            self.exchange.receive(self.random.randbytes(self.random.randint(0, 30)), self.now)

    def read(self) -> None:
        """Checks what the client wants to write."""
        self.buffer += self.exchange.take_outgoing()
        while self.buffer:
            size = int.from_bytes(self.buffer[:4], "big")
            frame = _codec.ClientFrame.decode(self.buffer[4 : 4 + size])
            self.buffer = self.buffer[4 + size :]
            assert frame.request_id not in self.unanswered, "an id is used twice at once"
            assert frame.body is not None
            assert isinstance(frame.body, _codec.Hello) == (frame.request_id == 1)
            assert self.exchange.is_open or frame.request_id == 1
            self.unanswered[frame.request_id] = type(frame.body)

    def finish(self) -> None:
        self.exchange.goodbye()
        self.exchange.fail_all(ClientClosed("the client is closed"))
        assert [call.kind for call in self.calls if not call.done] == []
        assert all(count == 1 for count in self.ends.values())
        assert not self.exchange.has_work


@pytest.mark.parametrize("part", range(8))
def test_conversations_by_chance(part: int) -> None:
    answered = 0
    for seed in range(part * 100, part * 100 + 100):
        chance = Chance(seed)
        for _ in range(120):
            chance.step()
        chance.finish()
        answered += sum(call.answer is not None for call in chance.calls)
    assert answered > 300, "hardly a call was answered, so the test says little"
