"""The broker is stopped, killed and started again while a client works."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pytest

from celeriac import _codec
from celeriac.client import Client
from celeriac.errors import ConnectError, DeadlineExceeded, Interrupted, TaskExists
from celeriac.info import State
from celeriac.options import TaskOptions
from celeriac.scratch_broker import ScratchBroker
from celeriac.submission import Submission, SubmitKind, Submitted
from played_broker import Peer, PlayedBroker


def restart_soon(broker: ScratchBroker, *, after: float, away: float) -> threading.Thread:
    """Kills the broker after some time, and starts it again after some more."""

    def work() -> None:
        time.sleep(after)
        broker.kill()
        time.sleep(away)
        broker.start()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_calls_go_on_over_a_restart(own_broker: ScratchBroker) -> None:
    with Client(own_broker.url, timeout=20) as client:
        first = client.submit("n")
        own_broker.kill()
        restarting = restart_soon(own_broker, after=0.0, away=0.3)
        second = client.submit("n")
        restarting.join()
        states = [info.state for info in client.info([first.id, second.id])]
        assert states == [State.QUEUED, State.QUEUED]
        own_broker.stop()
        own_broker.start()
        assert client.get(first.id).is_known


def test_without_a_broker_a_call_ends_with_its_deadline(own_broker: ScratchBroker) -> None:
    with Client(own_broker.url, timeout=20) as client:
        client.submit("n")
        own_broker.kill()
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="refused") as caught:
            client.submit("n", timeout=1.0)
        assert 0.9 < time.monotonic() - began < 15
        assert "the request was not sent" in str(caught.value)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.wait("a", timeout=0.1)
        assert time.monotonic() - began < 15
        with Client(own_broker.url) as fresh, pytest.raises(ConnectError):
            fresh.submit("n")
        own_broker.start()
        assert client.submit("n").kind is SubmitKind.CREATED


def test_a_wait_and_a_watch_go_on_over_a_restart(own_broker: ScratchBroker) -> None:
    with Client(own_broker.url, timeout=20) as client:
        task = client.submit("n", options=TaskOptions(expires=3))
        seen: list[State] = []
        follows = threading.Thread(
            target=lambda: seen.extend(info.state for info in client.watch(task.id, timeout=20))
        )
        follows.start()
        restarting = restart_soon(own_broker, after=0.3, away=0.2)
        waited = client.wait(task.id, timeout=20)
        restarting.join()
        follows.join(20)
        assert waited.satisfied
        assert waited.tasks[0].state is State.REVOKED
        assert seen == [State.QUEUED, State.REVOKED]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_run_twice_when_the_broker_is_killed_at_any_moment(
    own_broker: ScratchBroker, seed: int
) -> None:
    """Every task that was answered is there, in its first generation and once."""
    chance = random.Random(seed)
    accepted: list[str] = []
    chosen: list[str] = []
    stop = threading.Event()

    with Client(own_broker.url, timeout=30) as client:
        # Before its first connection a client does not wait for a broker.
        client.connect()

        def produce(number: int) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                if number % 2:
                    task_id = f"own-{seed}-{number}-{turn}"
                    assert client.submit("n", task_id=task_id).kind is SubmitKind.CREATED
                    chosen.append(task_id)
                else:
                    for outcome in client.submit_many([Submission("n")] * 30):
                        assert isinstance(outcome, Submitted), outcome
                        assert outcome.kind is SubmitKind.CREATED
                        assert outcome.generation == 1
                        accepted.append(outcome.id)

        failures: list[BaseException] = []

        def guarded(number: int) -> None:
            try:
                produce(number)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            time.sleep(chance.uniform(0.05, 0.4))
            own_broker.kill()
            own_broker.start()
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join(40)
        assert not failures, failures[0]
        ids = accepted + chosen
        assert len(set(ids)) == len(ids)
        infos = client.info(ids)
        assert Counter((info.state, info.generation) for info in infos) == {
            (State.QUEUED, 1): len(ids)
        }
        ready = sum(queue.ready for queue in client.admin.queues())
        # A task whose answer never came may be there too, as a copy that was not confirmed.
        assert len(ids) <= ready <= len(ids) + 4 * 30 * 4


class Again:
    """A broker that closes after the first submit, and then sees what comes."""

    def __init__(self, *, known: _codec.TaskInfo | None = None, exists: bool = False) -> None:
        self.known = known
        self.exists = exists
        self.submits: list[_codec.Task] = []
        self.asked: list[str] = []

    def first(self, peer: Peer) -> None:
        peer.greet()
        self.submits += peer.expect(_codec.Submit).tasks
        peer.cut()

    def second(self, peer: Peer) -> None:
        peer.greet()
        while True:
            try:
                body = peer.read().body
            except (EOFError, OSError):
                return
            if isinstance(body, _codec.Get):
                self.asked += body.ids
                info = self.known or _codec.TaskInfo(id=body.ids[0])
                peer.answer(_codec.GetReply(tasks=[info]))
            elif isinstance(body, _codec.Submit):
                self.submits += body.tasks
                outcome = _codec.SubmitOutcome(kind=1, generation=1, state=2)
                if self.exists:
                    outcome = _codec.SubmitOutcome(kind=4, error=_codec.Error(code=12, message="x"))
                peer.answer(_codec.SubmitReply(outcomes=[outcome]))
            elif isinstance(body, _codec.Goodbye):
                peer.answer(_codec.Done())


SENT_AT = 1_790_000_000_000


def test_a_task_with_a_minted_id_is_sent_again_with_reject(played: PlayedBroker) -> None:
    again = Again()
    played.play(again.first, again.second)
    with Client(played.url, timeout=5) as client:
        assert client.submit("n").kind is SubmitKind.CREATED
    assert [task.on_conflict for task in again.submits] == [0, 1]
    assert again.submits[0].id == again.submits[1].id
    assert again.asked == []


def test_a_minted_id_that_exists_was_accepted_the_first_time(played: PlayedBroker) -> None:
    known = _codec.TaskInfo(id="x", state=6, generation=1, submitted_at_ms=SENT_AT)
    again = Again(exists=True, known=known)
    played.play(again.first, again.second)
    with Client(played.url, timeout=5) as client:
        submitted = client.submit("n")
    assert submitted.kind is SubmitKind.CREATED
    assert again.asked == [submitted.id]


@pytest.mark.parametrize(
    ("info", "on_conflict", "sent", "kind"),
    [
        # Nobody has the task: it is sent again.
        (_codec.TaskInfo(id="own"), 0, 2, SubmitKind.CREATED),
        # The first copy made it, and it has ended already: it must not run twice.
        (
            _codec.TaskInfo(id="own", state=6, generation=1, submitted_at_ms=SENT_AT + 5000),
            0,
            1,
            SubmitKind.CREATED,
        ),
        (
            _codec.TaskInfo(id="own", state=2, generation=3, submitted_at_ms=SENT_AT + 5000),
            2,
            1,
            SubmitKind.NEW_GENERATION,
        ),
        # An older task that ended since then was joined by the first copy.
        (
            _codec.TaskInfo(
                id="own",
                state=6,
                generation=1,
                submitted_at_ms=SENT_AT - 60_000,
                finished_at_ms=SENT_AT + 5000,
            ),
            0,
            1,
            SubmitKind.JOINED,
        ),
        # An older task that ended before says nothing: the task is sent again.
        (
            _codec.TaskInfo(
                id="own",
                state=6,
                generation=1,
                submitted_at_ms=SENT_AT - 60_000,
                finished_at_ms=SENT_AT - 50_000,
            ),
            0,
            2,
            SubmitKind.CREATED,
        ),
        # With REJECT nobody can tell whose task it is.
        (
            _codec.TaskInfo(id="own", state=2, generation=1, submitted_at_ms=SENT_AT + 5000),
            1,
            2,
            SubmitKind.CREATED,
        ),
    ],
)
def test_a_task_with_a_chosen_id_is_asked_for_first(
    played: PlayedBroker,
    info: _codec.TaskInfo,
    on_conflict: int,
    sent: int,
    kind: SubmitKind,
) -> None:
    from celeriac.options import OnConflict

    again = Again(known=info)
    played.play(again.first, again.second)
    options = TaskOptions(on_conflict=OnConflict(on_conflict))
    with Client(played.url, timeout=5) as client:
        submitted = client.submit("n", task_id="own", options=options)
    assert submitted.kind is kind
    assert len(again.submits) == sent
    assert again.asked == ["own"]
    assert {task.on_conflict for task in again.submits} == {on_conflict}


def test_a_task_of_another_with_a_chosen_id_and_reject_is_refused(played: PlayedBroker) -> None:
    again = Again(exists=True)
    played.play(again.first, again.second)
    with Client(played.url, timeout=5) as client, pytest.raises(TaskExists):
        client.submit("n", task_id="own", options=TaskOptions(on_conflict="reject"))


def test_a_request_that_must_not_be_sent_twice_is_interrupted(played: PlayedBroker) -> None:
    def cut(peer: Peer) -> None:
        peer.greet()
        peer.expect(_codec.PurgeQueue)
        peer.cut()

    played.play(cut)
    with Client(played.url, timeout=5) as client:
        with pytest.raises(Interrupted, match="may have been carried out") as caught:
            client.admin.purge("q")
        assert not caught.value.retryable


def test_a_client_reconnects_no_sooner_than_the_broker_asks(played: PlayedBroker) -> None:
    times: list[float] = []

    def closing(peer: Peer) -> None:
        peer.greet()
        peer.expect(_codec.Get)
        error = _codec.Error(code=19, message="soon back", retryable=True, retry_after_ms=600)
        peer.push(_codec.Closing(error=error))
        times.append(time.monotonic())
        peer.cut()

    def back(peer: Peer) -> None:
        times.append(time.monotonic())
        peer.greet()
        peer.expect(_codec.Get)
        peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id="a")]))
        peer.wait_for_end()

    played.play(closing, back)
    with Client(played.url, timeout=10) as client:
        client.get("a")
    played.finish()
    assert 0.55 < times[1] - times[0] < 3


def test_a_connection_that_ended_in_a_pause_is_noticed_before_the_next_call(
    played: PlayedBroker,
) -> None:
    seen: list[str] = []

    def idle(peer: Peer) -> None:
        peer.greet()
        peer.expect(_codec.Get)
        peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id="a")]))
        peer.cut()

    def next_one(peer: Peer) -> None:
        peer.greet()
        seen.append(peer.expect(_codec.Submit).tasks[0].id)
        outcome = _codec.SubmitOutcome(kind=1, generation=1, state=2)
        peer.answer(_codec.SubmitReply(outcomes=[outcome]))
        peer.wait_for_end()

    played.play(idle, next_one)
    with Client(played.url, timeout=5) as client:
        client.get("a")
        time.sleep(1.2)
        assert client.submit("n", task_id="own").kind is SubmitKind.CREATED
    # Nothing was written into the connection that had ended, so no question was needed.
    assert seen == ["own"]


def test_a_client_that_was_idle_for_longer_than_all_limits_goes_on() -> None:
    with (
        ScratchBroker("--lease-ms", "600", "--heartbeat-ms", "100") as broker,
        Client(broker.url, timeout=10) as client,
    ):
        task_id = client.submit("bench.idle").id
        # No thread sends heartbeats meanwhile. The broker ends no session that has no leases.
        time.sleep(1.5)
        assert client.get(task_id).state is State.QUEUED
        assert not client.wait([task_id], timeout=1.5).satisfied
        outcomes = client.submit_many([Submission("bench.idle")] * 100)
        assert all(isinstance(each, Submitted) for each in outcomes)
