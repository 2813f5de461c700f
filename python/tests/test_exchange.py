"""The conversation without a network: the cases of `proto/vectors/receive.txt`, and the rules of
PROTOCOL.md for handshakes, answers, heartbeats, lost connections and watches."""

from __future__ import annotations

import math
from typing import Any

import pytest

import vectors
from celeriac import _codec
from celeriac._calls import Call
from celeriac._codec import Message
from celeriac._exchange import Exchange
from celeriac._watching import WatchedStates
from celeriac.errors import (
    BrokerError,
    CeleriacError,
    ClientClosed,
    ConnectError,
    DeadlineExceeded,
    FrameTooLarge,
    Interrupted,
    ProtocolError,
    TaskExists,
)
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


CASES = vectors.read("receive.txt")
CLIENT = {case.name: case for case in vectors.read("client.txt")}
BROKER = {case.name: case for case in vectors.read("broker.txt")}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_a_client_must_survive(case: vectors.Vector) -> None:
    is_open = case.about["when"] == "open"
    talk = Conversation(is_worker=True, welcome=WELCOME if is_open else None)
    call, states = say_what_was_given(talk, case)
    talk.pushed.clear()
    talk.sent()
    before = BROKER.get(case.about["then"].removeprefix("same as "))
    talk.exchange.receive(case.data, talk.now)
    if case.name == "framing/cut-short":
        talk.exchange.receive(b"", talk.now)
    check_then(talk, case.about["then"], call, states, before)


def say_what_was_given(
    talk: Conversation, case: vectors.Vector
) -> tuple[Call | None, WatchedStates | None]:
    call, states = None, None
    for part in filter(None, case.about.get("given", "").split(", ")):
        side, name = part.split(": ")
        if side == "B":
            talk.exchange.receive(BROKER[name].data, talk.now)
            continue
        frame = _codec.ClientFrame.decode(CLIENT[name].frame)
        talk.exchange._request_id = frame.request_id - 1
        if isinstance(frame.body, _codec.Watch):
            states = WatchedStates(frame.body.ids)
            call = talk.exchange.watches.begin(states, talk.now, math.inf)[0]
        else:
            assert frame.body is not None
            call = talk.call(frame.body)
    return call, states


def check_then(
    talk: Conversation,
    then: str,
    call: Call | None,
    states: WatchedStates | None,
    same: vectors.Vector | None,
) -> None:
    exchange = talk.exchange
    if then.startswith(("reconnect", "give up")):
        check_end(talk, then)
        return
    assert exchange.fault is None
    if same is not None:
        expected = _codec.ServerFrame.decode(same.frame)
        if isinstance(expected.body, _codec.Welcome):
            assert exchange.is_open
        elif isinstance(expected.body, _codec.Transition):
            assert states is not None
            assert [states.take().state for _ in range(2)] == [2, 4]
        elif expected.request_id:
            assert call is not None
            assert call.answer == expected.body
        else:
            assert talk.pushed == [expected.body]
    elif then == "ignore":
        assert not exchange.has_outgoing
        assert states is None or not states.is_over
        assert [type(each) for each in talk.pushed if not is_workers(each)] == []
    elif then.startswith("fail the request"):
        assert call is not None
        assert isinstance(call.error, CeleriacError)
        assert call.error.retryable == ("retryable" in then)
    elif then == "fail the item" or then.startswith("take"):
        assert exchange.is_open
        assert call is None or call.done
    else:
        raise AssertionError(f"the test does not know {then!r}")


def is_workers(message: Message) -> bool:
    """Whether the worker, and not the exchange, decides what to ignore."""
    return isinstance(message, (_codec.CancelSignal, _codec.Deliver, _codec.Order))


def check_end(talk: Conversation, then: str) -> None:
    """The connection is over. What follows depends on the reason."""
    exchange = talk.exchange
    fault = exchange.fault
    assert fault is not None
    waiting = talk.call(_codec.Get(ids=["a"]))
    exchange.disconnected(fault, talk.now)
    if then == "give up":
        assert waiting.error is fault
        return
    assert not waiting.done
    pause = exchange.retry_at - talk.now
    least = int(then.split()[2]) / 1000 if "after" in then else 0.02
    assert least <= pause <= least + 1
    assert _codec.Get in [type(frame.body) for frame in talk.connect()]
    has_session = "without the session" not in then
    assert talk.hello.session_id == ("session-1" if has_session else "")


def test_an_unknown_outcome_is_never_taken_for_accepted() -> None:
    """The cases `fail the item` of receive.txt, as the client shows them."""
    from celeriac._reading import _refusal
    from celeriac._submitting import Batch

    assert isinstance(_refusal("a", 1000), BrokerError)
    batch = Batch(math.inf)
    for name in "abc":
        batch.add(_codec.Task(id=name, name="n").encode(), submitted_of(name), is_minted=False)
    talk = Conversation()
    talk.exchange.send(batch.begin(), talk.now)
    kinds = [1, 1000, 4]
    outcomes = [_codec.SubmitOutcome(kind=kind, generation=1, state=2) for kind in kinds]
    talk.answer(talk.sent()[0].request_id, _codec.SubmitReply(outcomes=outcomes))
    assert list(batch.finish(talk.exchange)) == []
    first, second, third = batch.submitted
    assert first.kind is not None
    assert first.error is None
    assert isinstance(second.error, ProtocolError)
    assert isinstance(third.error, BrokerError)
    assert second.kind is third.kind is None


def submitted_of(task_id: str) -> Any:
    from celeriac.submission import Submitted

    return Submitted(task_id)


def test_nothing_is_sent_before_welcome_and_then_all_in_order() -> None:
    talk = Conversation(welcome=None)
    calls = [talk.call(_codec.Get(ids=[name])) for name in "abc"]
    assert talk.sent() == []
    talk.answer(1, WELCOME)
    assert [frame.body.ids for frame in talk.sent()] == [["a"], ["b"], ["c"]]
    assert not any(call.done for call in calls)


def test_the_token_stands_in_the_first_bytes_of_hello() -> None:
    worker = _codec.WorkerInfo(task_names=["x" * 255] * 100)
    hello = _codec.Hello(client_name="n" * 255, token="s3cret", worker=worker)
    exchange = Exchange(hello)
    exchange.connected(NOW)
    assert b"s3cret" in exchange.take_outgoing()[:4096]


def test_answers_overtake_each_other() -> None:
    talk = Conversation()
    first, second = (talk.call(_codec.Get(ids=[name])) for name in "ab")
    ids = [frame.request_id for frame in talk.sent()]
    talk.answer(ids[1], _codec.GetReply(left_out=[1]))
    talk.answer(ids[0], _codec.GetReply(left_out=[0]))
    assert first.result(_codec.GetReply).left_out == [0]
    assert second.result(_codec.GetReply).left_out == [1]


def test_a_client_keeps_below_the_unanswered_requests_that_are_allowed() -> None:
    limits = _codec.Limits(requests_in_flight_max=20)
    talk = Conversation(welcome=_codec.Welcome(protocol=1, limits=limits))
    calls = [talk.call(_codec.Get(ids=["a"])) for _ in range(50)]
    sent = talk.sent()
    assert len(sent) == 12
    for _ in range(4):
        talk.call(_codec.Wait(ids=["a"]), waits_until=NOW + 1)
    assert len(talk.sent()) == 0, "what came first goes first"
    seen = 0
    while sent:
        seen += len(sent)
        for frame in sent:
            talk.answer(frame.request_id, _codec.GetReply())
        sent = [frame for frame in talk.sent() if isinstance(frame.body, _codec.Get)]
    assert seen == 50
    assert all(call.done for call in calls)


def test_a_frame_over_the_limit_is_refused_here() -> None:
    limits = _codec.Limits(frame_bytes_max=100)
    talk = Conversation(welcome=_codec.Welcome(protocol=1, limits=limits))
    call = talk.call(_codec.Get(ids=["x" * 100]))
    assert isinstance(call.error, FrameTooLarge)
    assert talk.sent() == []
    assert not talk.call(_codec.Get(ids=["x" * 50])).done


def test_heartbeats_come_in_time_and_silence_ends_the_connection() -> None:
    talk = Conversation()
    assert talk.exchange.next_tick() == NOW + 5
    talk.exchange.tick(NOW + 4.9)
    assert talk.sent() == []
    talk.exchange.tick(NOW + 5)
    [beat] = talk.sent()
    assert isinstance(beat.body, _codec.Heartbeat)
    talk.now = NOW + 6
    talk.answer(beat.request_id, _codec.HeartbeatReply(server_time_ms=5_000_000))
    assert talk.exchange.broker_ms(NOW + 8) == 5_002_000
    for seconds in (10, 15, 20):
        talk.exchange.tick(NOW + seconds)
        assert talk.exchange.fault is None
    talk.exchange.tick(NOW + 25)
    assert isinstance(talk.exchange.fault, ConnectError)


def test_what_may_be_sent_twice_is_sent_again_and_the_rest_is_interrupted() -> None:
    talk = Conversation()
    get = talk.call(_codec.Get(ids=["a"]))
    submit = talk.call(_codec.Submit(tasks=[_codec.Task(id="a", name="n")]))
    purge = talk.call(_codec.PurgeQueue(queue="q"))
    forget = talk.call(_codec.Forget(ids=["b"]))
    talk.sent()
    talk.lose()
    assert isinstance(submit.error, Interrupted)
    assert isinstance(purge.error, Interrupted)
    late = talk.call(_codec.Get(ids=["c"]))
    assert [type(frame.body).__name__ for frame in talk.connect()] == ["Get", "Forget", "Get"]
    assert not get.done
    assert not forget.done
    assert not late.done


def test_pauses_grow_and_begin_short_again_after_a_good_connection() -> None:
    talk = Conversation()
    pauses = []
    for _ in range(12):
        talk.exchange.connected(talk.now)
        talk.lose()
        pauses.append(talk.exchange.retry_at - talk.now)
    assert pauses[0] <= 0.05
    assert 2.5 <= pauses[-1] <= 5
    talk.connect()
    talk.lose()
    assert talk.exchange.retry_at - talk.now > 1, "a short life is no good connection"
    talk.connect()
    talk.now += 5
    talk.lose()
    assert talk.exchange.retry_at - talk.now <= 0.05


def test_a_refusal_for_a_moment_is_tried_again_until_the_deadline() -> None:
    talk = Conversation()
    call = talk.call(_codec.Get(ids=["a"]), NOW + 1)
    overloaded = _codec.Error(code=18, message="read first", retryable=True)
    for _ in range(3):
        [frame] = talk.sent()
        talk.answer(frame.request_id, overloaded)
        assert not call.done
        talk.now = talk.exchange.next_tick()
        assert talk.now <= NOW + 1
        talk.exchange.tick(talk.now)
    talk.now = NOW + 0.95
    talk.answer(talk.sent()[0].request_id, overloaded)
    assert isinstance(call.error, BrokerError)
    submit = talk.call(_codec.Submit(tasks=[_codec.Task(id="a", name="n")]), NOW + 9)
    talk.answer(talk.sent()[0].request_id, overloaded)
    assert submit.done, "the caller of a submit sees that a limit is reached"


def test_the_end_of_the_time_leaves_nothing_behind() -> None:
    talk = Conversation()
    wait = talk.call(_codec.Wait(ids=["a"]), NOW + 1, waits_until=NOW + 1)
    [frame] = talk.sent()
    assert frame.timeout_ms == 1000
    talk.exchange.abandon(wait, NOW + 1)
    [unwait] = talk.sent()
    assert unwait.body.request_ids == [frame.request_id]
    assert isinstance(wait.error, DeadlineExceeded)
    talk.answer(frame.request_id, _codec.WaitReply())
    assert talk.exchange.fault is None
    assert not talk.exchange.has_work


def test_a_wait_that_is_sent_again_has_the_rest_of_its_time() -> None:
    talk = Conversation()
    talk.call(_codec.Wait(ids=["a"]), waits_until=NOW + 10)
    assert talk.sent()[0].timeout_ms == 10_000
    talk.lose()
    talk.now += 4
    [frame] = talk.connect()
    assert frame.timeout_ms == 6000


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


def test_after_the_goodbye_every_call_fails() -> None:
    talk = Conversation()
    waiting = talk.call(_codec.Get(ids=["a"]))
    talk.sent()
    talk.exchange.goodbye()
    [frame] = talk.sent()
    assert isinstance(frame.body, _codec.Goodbye)
    talk.answer(frame.request_id, _codec.Done())
    assert isinstance(talk.exchange.fault, ClientClosed)
    talk.exchange.fail_all(talk.exchange.fault)
    assert isinstance(waiting.error, ClientClosed)
    assert isinstance(talk.call(_codec.Get(ids=["a"])).error, ClientClosed)


@pytest.mark.parametrize("code", [*range(1, 23), 1000])
@pytest.mark.parametrize("retryable", [True, False])
def test_every_code_has_its_class_and_the_brokers_word_counts(code: int, retryable: bool) -> None:
    talk = Conversation()
    call = talk.call(_codec.PurgeQueue(queue="q"), NOW + 0.01)
    error = _codec.Error(code=code, message="no", retryable=retryable, retry_after_ms=1500)
    talk.answer(talk.sent()[0].request_id, error)
    assert isinstance(call.error, BrokerError)
    assert (call.error.code, call.error.retryable, call.error.retry_after) == (code, retryable, 1.5)
    assert (type(call.error) is BrokerError) == (code == 1000)


def test_the_classes_of_errors_say_the_same_as_the_table_of_the_protocol() -> None:
    lines = (vectors.FOLDER / "errors.tsv").read_text("utf-8").splitlines()[1:]
    seen = 0
    for line in lines:
        name, number, retryable, _ = line.split("\t")
        if number == "0":
            continue
        seen += 1
        error = BrokerError.of(int(number), "no")
        assert error.retryable == (retryable == "yes"), name
        assert type(error) is not BrokerError, name
    assert seen >= 22
    assert BrokerError.by_code[12] is TaskExists
