"""Watches without a network: they go on over lost connections, and show nothing twice."""

from __future__ import annotations

import math

from celeriac import _codec
from celeriac._watching import WatchedStates
from celeriac.errors import BrokerError, DeadlineExceeded
from conversation import NOW, Conversation


def info(task_id: str, version: int, state: int, generation: int = 1) -> _codec.TaskInfo:
    return _codec.TaskInfo(id=task_id, version=version, state=state, generation=generation)


def taken(states: WatchedStates) -> list[tuple[str, int]]:
    found = []
    while states.has_more:
        each = states.take()
        found.append((each.id, each.state))
    return found


def test_a_watch_goes_on_over_a_lost_connection_and_shows_nothing_twice() -> None:
    talk = Conversation()
    states = WatchedStates(["a", "b"])
    [call] = talk.exchange.watches.begin(states, NOW, math.inf)
    [frame] = talk.sent()
    known = [info("a", 1, 2), info("b", 1, 2)]
    talk.answer(frame.request_id, _codec.WatchReply(watch_id=7, tasks=known))
    assert call.done
    talk.answer(0, _codec.Transition(watch_id=7, task=info("a", 2, 3)))
    talk.answer(0, _codec.Transition(watch_id=8, task=info("a", 9, 6)))
    assert taken(states) == [("a", 2), ("b", 2), ("a", 3)]
    talk.lose()
    [frame] = talk.connect()
    known = [info("a", 2, 3), info("b", 4, 6)]
    talk.answer(frame.request_id, _codec.WatchReply(watch_id=1, tasks=known))
    assert taken(states) == [("b", 6)]
    assert not states.is_over
    talk.lose()
    [frame] = talk.connect()
    unknown = [_codec.TaskInfo(id="a"), info("b", 4, 6)]
    talk.answer(frame.request_id, _codec.WatchReply(watch_id=1, tasks=unknown))
    assert taken(states) == [("a", 0)]
    assert states.is_over, "a task that was forgotten meanwhile has reached its end"


def test_a_watch_that_was_not_answered_begins_once_on_the_next_connection() -> None:
    talk = Conversation()
    states = WatchedStates(["a"])
    [call] = talk.exchange.watches.begin(states, NOW, math.inf)
    talk.sent()
    for _ in range(2):
        talk.lose()
        frames = talk.connect()
        assert [type(frame.body) for frame in frames] == [_codec.Watch]
    talk.answer(frames[0].request_id, _codec.WatchReply(watch_id=1, tasks=[info("a", 1, 2)]))
    assert call.done
    # Now it has begun, and begins again by itself; also when the second answer never comes.
    for _ in range(3):
        talk.lose()
        frames = talk.connect()
        assert [type(frame.body) for frame in frames] == [_codec.Watch]


def test_states_that_had_no_room_are_asked_for() -> None:
    talk = Conversation()
    states = WatchedStates(["a", "b", "c"])
    talk.exchange.watches.begin(states, NOW, math.inf)
    request_id = talk.sent()[0].request_id
    reply = _codec.WatchReply(watch_id=1, tasks=[info("a", 1, 2)], left_out=[1, 2])
    talk.answer(request_id, reply)
    talk.answer(0, _codec.Transition(watch_id=1, task=info("b", 5, 4)))
    [get] = talk.sent()
    assert get.body.ids == ["b", "c"]
    talk.answer(get.request_id, _codec.GetReply(tasks=[info("b", 3, 2)], left_out=[1]))
    [get] = talk.sent()
    assert get.body.ids == ["c"]
    talk.answer(get.request_id, _codec.GetReply(tasks=[info("c", 1, 2)]))
    assert taken(states) == [("a", 2), ("b", 4), ("c", 2)]


def test_a_watch_that_nobody_follows_is_ended() -> None:
    talk = Conversation()
    states = WatchedStates(["a"])
    [call] = talk.exchange.watches.begin(states, NOW, NOW + 1)
    request_id = talk.sent()[0].request_id
    talk.exchange.abandon(call, NOW + 1)
    assert isinstance(call.error, DeadlineExceeded)
    talk.answer(request_id, _codec.WatchReply(watch_id=3))
    assert [frame.body for frame in talk.sent()] == [_codec.Unwatch(watch_id=3)]
    begun = WatchedStates(["a"])
    talk.exchange.watches.begin(begun, NOW, math.inf)
    talk.answer(talk.sent()[0].request_id, _codec.WatchReply(watch_id=4))
    talk.exchange.watches.end(begun)
    assert [frame.body for frame in talk.sent()] == [_codec.Unwatch(watch_id=4)]
    assert not talk.exchange.has_work


def test_a_watch_that_is_refused_ends_with_the_refusal() -> None:
    talk = Conversation()
    states = WatchedStates(["a"])
    [call] = talk.exchange.watches.begin(states, NOW, math.inf)
    talk.answer(talk.sent()[0].request_id, _codec.Error(code=8, message="no"))
    assert isinstance(call.error, BrokerError)
    assert states.is_over
    assert not talk.exchange.has_work


def test_many_states_that_nobody_takes_keep_the_latest_of_each_task() -> None:
    states = WatchedStates(["a", "b"])
    states.push(info("b", 1, 6))
    for version in range(1, 5000):
        states.push(info("a", version, 4))
    states.push(info("a", 5000, 6))
    found = taken(states)
    assert len(found) < 2000
    assert found[-1] == ("a", 6)
    assert ("b", 6) in found
    assert states.is_over


def test_an_unknown_state_is_not_the_end_of_a_watch() -> None:
    states = WatchedStates(["a"])
    states.push(info("a", 1, 2))
    states.push(info("a", 2, 1000))
    assert len(taken(states)) == 2
    assert not states.is_over
