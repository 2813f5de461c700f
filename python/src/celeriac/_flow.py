"""How the methods of a client are written once for blocking calls and for asyncio: as flows. A flow
is a generator. It yields a `Step` for what is to be sent and waited for; the driver does that, and
goes on with the flow. No I/O."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from celeriac._calls import Call
from celeriac._codec import Message
from celeriac._exchange import Exchange

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)


class Step(NamedTuple):
    """What a flow wants next."""

    post: Sequence[Call]
    """These are sent."""
    wait: Sequence[Call]
    """The flow goes on when these are done, each by its answer or by its deadline."""


Flow = Generator[Step, None, _T]


class Blocking(Protocol):
    """A link with blocking calls."""

    def post(self, calls: Sequence[Call]) -> None: ...

    def run(self, calls: Sequence[Call]) -> None: ...


def drive(link: Blocking, flow: Flow[_T]) -> _T:
    """Runs a flow with blocking calls."""
    try:
        step = next(flow)
        while True:
            if step.post:
                link.post(step.post)
            if step.wait:
                link.run(step.wait)
            step = flow.send(None)
    except StopIteration as end:
        value: _T = end.value
        return value


def ask(message: Message, kind: type[_M], deadline: float) -> Flow[_M]:
    """Sends one request. The flow's value is the answer."""
    call = Call.of(message, deadline)
    yield Step([call], [call])
    return call.result(kind)


def opened(exchange: Exchange, deadline: float) -> Flow[None]:
    """Waits until the limits of the broker are known."""
    if exchange.welcome is None:
        call = Call.opening(deadline)
        yield Step([call], [call])
        if call.error is not None:
            raise call.error


def parts(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    """The items in parts of at most this many; one empty part when there are none."""
    return [items[at : at + size] for at in range(0, len(items), size)] or [items]
