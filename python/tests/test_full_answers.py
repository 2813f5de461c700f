"""Answers that end where their frame is full, and lists that need several requests."""

from __future__ import annotations

import pytest

from celeriac import _codec
from celeriac.client import Client
from celeriac.errors import InvalidArgument
from celeriac.info import State
from celeriac.submission import Submission
from celeriac.waiting import WaitMode
from played_broker import WELCOME, Peer, PlayedBroker


def known(task_id: str) -> _codec.TaskInfo:
    return _codec.TaskInfo(id=task_id, state=6, generation=1, version=3, result=task_id.encode())


def answer_half(peer: Peer, body: _codec.Get | _codec.Wait) -> None:
    """Answers with each second task, and leaves out the others."""
    tasks = [known(each) for each in body.ids[::2]]
    left_out = list(range(1, len(body.ids), 2))
    if isinstance(body, _codec.Wait):
        peer.answer(_codec.WaitReply(satisfied=True, tasks=tasks, left_out=left_out))
    else:
        peer.answer(_codec.GetReply(tasks=tasks, left_out=left_out))


def test_what_an_answer_leaves_out_is_asked_for(played: PlayedBroker) -> None:
    asked: list[int] = []

    def script(peer: Peer) -> None:
        peer.greet()
        while True:
            body = peer.read().body
            if not isinstance(body, (_codec.Get, _codec.Wait)):
                return
            asked.append(len(body.ids))
            answer_half(peer, body)

    played.play(script)
    ids = [f"task-{number}" for number in range(20)]
    with Client(played.url, timeout=5) as client:
        infos = client.info(ids, with_results=True)
        assert [(info.id, info.result) for info in infos] == [(each, each.encode()) for each in ids]
        waited = client.wait(ids, timeout=5, with_results=True)
        assert waited.satisfied
        assert [info.id for info in waited.tasks] == ids
    played.finish()
    assert asked == [20, 10, 5, 2, 1] * 2


def test_lists_are_split_as_the_limits_of_the_broker_ask(played: PlayedBroker) -> None:
    limits = _codec.Limits(batch_items_max=3, frame_bytes_max=4096, payload_bytes_max=1000)
    sizes: dict[str, list[int]] = {}

    def script(peer: Peer) -> None:
        peer.greet(_codec.Welcome(protocol=1, lease_ms=WELCOME.lease_ms, limits=limits))
        while True:
            body = peer.read().body
            if isinstance(body, _codec.Goodbye) or body is None:
                return
            if isinstance(body, _codec.Unwatch):
                peer.answer(_codec.Done())
                continue
            given = body.tasks if isinstance(body, _codec.Submit) else body.ids  # type: ignore[union-attr]
            sizes.setdefault(type(body).__name__, []).append(len(given))
            peer.answer(reply_to(body))

    def reply_to(body: _codec.Message) -> _codec.Message:
        if isinstance(body, _codec.Submit):
            return _codec.SubmitReply(
                outcomes=[_codec.SubmitOutcome(kind=1, generation=1, state=2) for _ in body.tasks]
            )
        if isinstance(body, _codec.Cancel):
            return _codec.CancelReply(outcomes=[_codec.CancelOutcome(kind=1) for _ in body.ids])
        if isinstance(body, _codec.Forget):
            return _codec.ForgetReply(outcomes=[0] * len(body.ids))
        if isinstance(body, _codec.Watch):
            tasks = [known(each) for each in body.ids]
            return _codec.WatchReply(watch_id=len(sizes["Watch"]), tasks=tasks)
        assert isinstance(body, (_codec.Get, _codec.Wait))
        tasks = [known(each) for each in body.ids]
        if isinstance(body, _codec.Wait):
            return _codec.WaitReply(satisfied=True, tasks=tasks)
        return _codec.GetReply(tasks=tasks)

    played.play(script)
    ids = [f"task-{number}" for number in range(8)]
    with Client(played.url, timeout=5) as client:
        assert len(client.submit_many(Submission("n", task_id=each) for each in ids)) == 8
        assert len(client.info(ids)) == 8
        assert client.wait(ids, timeout=5).satisfied
        assert [info.id for info in client.watch(ids, timeout=5)] == ids
        # The broker may leave the ids out of its outcomes: they stand in the order of the request.
        assert [each.id for each in client.cancel(ids)] == ids
        assert client.forget(ids) == [None] * 8
        outcomes = client.submit_many([Submission("n", b"x" * 1001), Submission("n", b"x" * 1000)])
        assert type(outcomes[0]).__name__ == "PayloadTooLarge"
        with pytest.raises(InvalidArgument, match="any of 8"):
            client.wait(ids, timeout=5, mode=WaitMode.ANY)
        with client.batch():
            for each in ids:
                client.submit("n", task_id=each)
    played.finish()
    assert {name: set(each) for name, each in sizes.items()} == {
        "Submit": {3, 2, 1},
        "Get": {3, 2},
        "Wait": {3, 2},
        "Watch": {3, 2},
        "Cancel": {3, 2},
        "Forget": {3, 2},
    }


def test_more_ids_than_a_request_takes(client: Client) -> None:
    outcomes = client.submit_many(Submission("n") for _ in range(10_500))
    ids = [outcome.id for outcome in outcomes if not isinstance(outcome, Exception)]
    assert not client.wait(ids, timeout=0.05).satisfied
    watch = client.watch(ids, timeout=30)
    seen = [next(watch).state for _ in range(10_500)]
    assert set(seen) == {State.QUEUED}
    client.cancel(ids)
    last = {info.id: info.state for info in watch}
    assert set(last.values()) == {State.REVOKED}
    assert len(last) == 10_500
    assert client.wait(ids, timeout=10).satisfied
