"""The watches of one conversation: each goes on over lost connections until it is ended. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from celeriac import _codec
from celeriac._calls import Call, Watching
from celeriac._watching import WatchedStates
from celeriac.errors import CeleriacError

if TYPE_CHECKING:
    from celeriac._exchange import Exchange


class Watches:
    """Begins, shows and ends the watches of an exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._parts: dict[int, Watching] = {}
        """The parts that the broker shows now, by the ids that it gave them."""
        self._again: list[Watching] = []
        """The parts that the next connection begins."""

    @property
    def is_going_on(self) -> bool:
        """Whether some watch needs a connection."""
        return bool(self._parts or self._again)

    def begin(self, states: WatchedStates, now: float, deadline: float) -> list[Call]:
        """Begins a watch. The calls are done when it has begun."""
        states.is_registered = True
        size = self._exchange.limits.batch_items_max
        calls = []
        for at in range(0, len(states.ids), size):
            part = Watching(states, states.ids[at : at + size])
            calls.append(self._send(part, now, deadline))
        return calls

    def end(self, states: WatchedStates) -> None:
        """Ends a watch. Nothing more is shown."""
        states.is_registered = False
        self._again = [part for part in self._again if part.states is not states]
        for watch_id in [key for key, part in self._parts.items() if part.states is states]:
            self._unwatch(watch_id)

    def show(self, transition: _codec.Transition) -> None:
        """One change that the broker pushed."""
        part = self._parts.get(transition.watch_id)
        if part is not None and transition.task is not None:
            part.states.push(transition.task)

    def begun(self, call: Call, reply: _codec.WatchReply, now: float) -> None:
        """A part of a watch has begun."""
        part = call.watching
        assert part is not None, "the exchange gives only the calls of watches"
        if not part.states.is_registered or (call.done and not part.is_kept):
            self._unwatch(reply.watch_id)
            return
        part.is_kept = True
        self._parts[reply.watch_id] = part
        self._take(part, part.ids, reply.tasks, reply.left_out, now)
        call.finish(reply)

    def disconnected(self) -> None:
        """The connection is gone. All parts that have begun begin again on the next one."""
        self._again += self._parts.values()
        self._parts = {}

    def begin_again(self, now: float) -> None:
        """A new connection is open."""
        again, self._again = self._again, []
        for part in again:
            self._send(part, now, math.inf)

    def fail_all(self, error: CeleriacError) -> None:
        """Ends every watch with this error."""
        parts = [*self._parts.values(), *self._again]
        self._parts, self._again = {}, []
        for part in parts:
            part.states.is_registered = False
            part.states.end(error)

    def _send(self, part: Watching, now: float, deadline: float) -> Call:
        body = _codec.Watch(ids=part.ids, with_results=part.states.with_results)

        def done(call: Call) -> None:
            if call.error is not None:
                self._failed(part, call.error)

        call = Call.of(body, deadline, then=done)
        call.watching = part
        if part.is_kept:
            # Until the answer comes, a connection that breaks begins the part again.
            self._again.append(part)
        self._exchange.send(call, now)
        return call

    def _failed(self, part: Watching, error: CeleriacError) -> None:
        """The broker did not begin a part."""
        self.end(part.states)
        part.states.end(error)

    def _take(
        self,
        part: Watching,
        ids: list[str],
        tasks: list[_codec.TaskInfo],
        left_out: list[int],
        now: float,
    ) -> None:
        """Shows the first states, and asks for those that had no room in the answer. A transition
        may come before them: the older state is then not shown."""
        self._again = [other for other in self._again if other is not part]
        for info in tasks:
            part.states.push(info)
        rest = [ids[place] for place in left_out if place < len(ids)]
        if not rest or not tasks or not part.states.is_registered:
            return

        def answered(call: Call) -> None:
            if call.error is None:
                reply = call.result(_codec.GetReply)
                self._take(part, rest, reply.tasks, reply.left_out, now)

        body = _codec.Get(ids=rest, with_results=part.states.with_results)
        call = Call.of(body, then=answered)
        call.watching = part
        self._exchange.send(call, now)

    def _unwatch(self, watch_id: int) -> None:
        self._parts.pop(watch_id, None)
        self._exchange.tell(_codec.Unwatch(watch_id=watch_id))
