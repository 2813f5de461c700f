"""The conversation without a network: the cases of `proto/vectors/receive.txt`, and the rules of
PROTOCOL.md for handshakes, answers, heartbeats, lost connections and watches."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

import vectors
from celeriac import _codec, _reading
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
from celeriac.info import State
from celeriac.waiting import WaitMode
from conversation import NOW, Conversation
from played_broker import WELCOME

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
        talk.exchange._ids = itertools.count(frame.request_id)
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


def test_only_a_worker_names_its_session_again() -> None:
    for is_worker, session_id in ((True, "session-1"), (False, "")):
        talk = Conversation(is_worker=is_worker)
        talk.lose()
        talk.connect()
        assert talk.hello.session_id == session_id


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


def test_a_wait_has_one_second_more_than_its_time_for_its_answer() -> None:
    exchange = Conversation().exchange
    flow = _reading.wait(
        exchange, ["a"], 8, 30, mode=WaitMode.ALL, until=State.SUCCESS, with_results=True
    )
    call = next(flow).post[0]
    assert call.waits_until is not None
    assert call.deadline - call.waits_until == pytest.approx(1)


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
