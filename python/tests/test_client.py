"""`Client` against a real broker: each method, and its refusals."""

from __future__ import annotations

import math
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celeriac import _codec
from celeriac._calls import Call
from celeriac.cancel import CancelKind, CancelMode
from celeriac.client import Client
from celeriac.errors import (
    BatchFailed,
    ClientClosed,
    DeadlineExceeded,
    FrameTooLarge,
    InvalidArgument,
    NotFinished,
    NotFound,
    PayloadTooLarge,
    TaskExists,
    WrongType,
)
from celeriac.info import State, WaitingFor
from celeriac.listing import QueueSettings, TaskFilter
from celeriac.options import TaskOptions
from celeriac.scratch_broker import ScratchBroker
from celeriac.submission import Submission, SubmitKind
from celeriac.waiting import WaitMode


def new(prefix: str = "task") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def test_a_task_is_submitted_and_read(client: Client) -> None:
    eta = datetime.now(timezone.utc) + timedelta(hours=1)
    options = TaskOptions(
        queue=new("songs"), eta=eta, priority=7, tags=["t"], headers={"h": "v"}, shadow="shown"
    )
    submitted = client.submit("songs.cluster", b"[[1],{}]", options=options)
    assert (submitted.kind, submitted.generation) == (SubmitKind.CREATED, 1)
    assert submitted.state is State.SCHEDULED
    assert uuid.UUID(submitted.id).version == 7
    info = client.get(submitted.id, with_payload=True)
    assert (info.name, info.title, info.priority) == ("songs.cluster", "shown", 7)
    assert (info.payload, info.tags, info.headers) == (b"[[1],{}]", ("t",), {"h": b"v"})
    assert info.waiting_for is WaitingFor.TIME
    assert info.eta is not None
    assert abs(info.eta - eta) < timedelta(milliseconds=2)
    assert info.submitted_at is not None
    assert abs(info.submitted_at - datetime.now(timezone.utc)) < timedelta(seconds=20)
    assert info.is_known
    assert info.error is None


def test_an_id_that_does_not_exist_is_unknown(client: Client) -> None:
    info = client.get(new())
    assert info.state is State.UNKNOWN
    assert not info.is_known
    assert client.info([]) == []


def test_many_ids_are_read_in_their_order(client: Client) -> None:
    ids = [new() for _ in range(25)]
    client.submit_many(Submission("n", task_id=each) for each in ids[::2])
    infos = client.info(iter([*ids, ids[0]]))
    assert [info.id for info in infos] == [*ids, ids[0]]
    assert [info.is_known for info in infos[:4]] == [True, False, True, False]


def test_the_same_id_joins_or_is_refused(client: Client) -> None:
    task_id = new()
    assert client.submit("n", task_id=task_id).kind is SubmitKind.CREATED
    assert client.submit("n", task_id=task_id).kind is SubmitKind.JOINED
    with pytest.raises(TaskExists) as caught:
        client.submit("n", task_id=task_id, options=TaskOptions(on_conflict="REJECT"))
    assert not caught.value.retryable
    client.cancel(task_id)
    again = client.submit("n", task_id=task_id)
    assert (again.kind, again.generation) == (SubmitKind.NEW_GENERATION, 2)


def test_many_tasks_have_an_outcome_each(client: Client) -> None:
    known = new()
    client.submit("n", task_id=known)
    reject = TaskOptions(on_conflict="REJECT")
    outcomes = client.submit_many(
        [
            Submission("n"),
            Submission("", task_id=new()),
            Submission("n", task_id=known, options=reject),
            Submission("n", "no bytes"),  # type: ignore[arg-type]
            Submission("n", b"x" * (8 * 1024 * 1024 + 1)),
            ("n", b""),  # type: ignore[list-item]
            Submission("n"),
        ]
    )
    kinds = [type(outcome).__name__ for outcome in outcomes]
    assert kinds == [
        "Submitted",
        "InvalidArgument",
        "TaskExists",
        "WrongType",
        "PayloadTooLarge",
        "WrongType",
        "Submitted",
    ]
    assert client.submit_many([]) == []


def test_more_tasks_than_one_request_takes(client: Client) -> None:
    queue = new("many")
    options = TaskOptions(queue=queue)
    outcomes = client.submit_many(Submission("n", options=options) for _ in range(25_000))
    assert len(outcomes) == 25_000
    assert client.admin.queues(queue)[0].ready == 25_000
    ids = [outcome.id for outcome in outcomes if not isinstance(outcome, Exception)]
    assert sum(info.is_known for info in client.info(ids)) == 25_000
    assert len(client.cancel(ids)) == 25_000
    assert client.forget(ids) == [None] * 25_000


def test_long_payloads_are_split_by_their_bytes(client: Client) -> None:
    payload = b"x" * (3 * 1024 * 1024)
    outcomes = client.submit_many(Submission("n", payload) for _ in range(8))
    ids = [outcome.id for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(ids) == 8
    infos = client.info(ids, with_payloads=True)
    assert [len(info.payload) for info in infos] == [len(payload)] * 8
    with pytest.raises(PayloadTooLarge, match="8388609"):
        client.submit("n", b"x" * (8 * 1024 * 1024 + 1))


def test_a_batch_is_sent_together_and_answered_at_its_end(client: Client) -> None:
    with client.batch():
        first = client.submit("n")
        assert first.kind is None
        client.flush()
        assert first.kind is SubmitKind.CREATED
        more = [client.submit("n") for _ in range(350)]
    assert {each.kind for each in more} == {SubmitKind.CREATED}
    assert client.submit("n").kind is SubmitKind.CREATED


def test_a_batch_says_which_tasks_were_refused(client: Client) -> None:
    known = new()
    client.submit("n", task_id=known)
    options = TaskOptions(on_conflict="REJECT")
    block = client.batch()
    block.__enter__()
    good = client.submit("n")
    bad = client.submit("n", task_id=known, options=options)
    with pytest.raises(WrongType):
        client.submit("n", 5)  # type: ignore[arg-type]
    with pytest.raises(BatchFailed, match=known) as caught:
        block.__exit__(None, None, None)
    assert [(each, type(error)) for each, error in caught.value.failures] == [(known, TaskExists)]
    assert good.kind is SubmitKind.CREATED
    assert isinstance(bad.error, TaskExists)


def test_what_a_batch_had_before_an_error_is_submitted(client: Client) -> None:
    task_id = new()

    def block() -> None:
        with client.batch():
            client.submit("n", task_id=task_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert client.get(task_id).is_known


def test_a_batch_belongs_to_its_thread_and_may_be_nested(client: Client) -> None:
    kinds: list[Any] = []
    with client.batch():
        thread = threading.Thread(target=lambda: kinds.append(client.submit("n").kind))
        thread.start()
        thread.join()
        outer = client.submit("n")
        with client.batch():
            inner = client.submit("n")
        assert inner.kind is SubmitKind.CREATED
        assert outer.kind is None
    assert kinds == [SubmitKind.CREATED]
    assert outer.kind is SubmitKind.CREATED


def test_a_wait_ends_with_the_time_or_with_the_tasks(client: Client) -> None:
    first, second = new(), new()
    client.submit_many([Submission("n", task_id=first), Submission("n", task_id=second)])
    began = time.monotonic()
    waited = client.wait([first, second], timeout=0.3)
    assert 0.2 < time.monotonic() - began < 15
    assert not waited.satisfied
    assert [info.state for info in waited.tasks] == [State.QUEUED, State.QUEUED]
    assert client.wait(first, timeout=5, until=State.QUEUED).satisfied
    threading.Timer(0.2, lambda: client.cancel(first)).start()
    waited = client.wait([first, second], timeout=math.inf, mode=WaitMode.ANY)
    assert waited.satisfied
    assert [info.state for info in waited.tasks] == [State.REVOKED, State.QUEUED]
    assert client.wait(new(), timeout=5).satisfied, "there is nothing to wait for"
    assert client.wait([], timeout=5).satisfied


def test_a_watch_shows_each_state_and_ends_with_the_tasks(client: Client) -> None:
    task_id = new()
    seen = []
    options = TaskOptions(countdown=0.3, expires=0.8)
    for info in client.watch(task_id, timeout=20):
        seen.append(info.state)
        if info.state is State.UNKNOWN:
            client.submit("n", task_id=task_id, options=options)
    assert seen == [State.UNKNOWN, State.SCHEDULED, State.QUEUED, State.REVOKED]
    assert client.get(task_id).revoked_reason == "expired"
    assert list(client.watch([])) == []


def test_a_watch_that_is_left_is_ended_at_the_broker(client: Client) -> None:
    task_id = new()
    client.submit("n", task_id=task_id)
    watch = client.watch(task_id)
    assert next(watch).state is State.QUEUED
    watch.close()  # type: ignore[attr-defined]
    client.cancel(task_id)
    assert not client._link.exchange.watches.is_going_on
    with pytest.raises(DeadlineExceeded):
        list(client.watch(new(), timeout=0.3))


def test_tasks_are_cancelled_by_id_tree_and_tag(client: Client) -> None:
    root, tag = new("root"), new("tag")
    client.submit("n", task_id=root)
    child = client.submit("n", options=TaskOptions(root_id=root)).id
    tagged = client.submit("n", options=TaskOptions(tags=[tag])).id
    outcomes = client.cancel_tree(root, reason="no more needed")
    assert {(each.id, each.kind) for each in outcomes} == {
        (root, CancelKind.REVOKED),
        (child, CancelKind.REVOKED),
    }
    assert client.get(child).revoked_reason == "no more needed"
    [outcome] = client.cancel_tagged(tag, mode=CancelMode.FORCE, grace=1)
    assert outcome.id == tagged
    kinds = [each.kind for each in client.cancel([root, new()], mode=CancelMode.WAITING)]
    assert kinds == [CancelKind.ALREADY_ENDED, CancelKind.NOT_FOUND]


def test_ended_tasks_are_forgotten(client: Client) -> None:
    ended, waiting = new(), new()
    client.submit_many([Submission("n", task_id=ended), Submission("n", task_id=waiting)])
    client.cancel(ended)
    outcomes = client.forget([ended, waiting, new()])
    assert outcomes[0] is None
    assert isinstance(outcomes[1], NotFinished)
    assert isinstance(outcomes[2], NotFound)
    assert outcomes[1].retryable
    assert not client.get(ended).is_known


BAD_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("get", (5,), {}),
    ("get", ("",), {}),
    ("info", (5,), {}),
    ("info", (["a", 5],), {}),
    ("info", (["x" * 256],), {}),
    ("wait", ("a",), {"timeout": -1}),
    ("wait", ("a",), {"timeout": math.nan}),
    ("wait", ("a",), {"timeout": "5"}),
    ("wait", ("a",), {"until": "QUEUED?"}),
    ("watch", (b"a",), {}),
    ("cancel", ("a",), {"mode": "force"}),
    ("cancel", ("a",), {"grace": -1}),
    ("cancel_tree", ("",), {}),
    ("cancel_tagged", (5,), {}),
    ("forget", ([""],), {}),
    ("submit", (5,), {}),
    ("submit", ("n",), {"task_id": ""}),
    ("submit", ("n",), {"task_id": 5}),
    ("submit", ("n",), {"content_type": "x" * 256}),
    ("submit", ("n",), {"timeout": True}),
]


@pytest.mark.parametrize(("method", "args", "settings"), BAD_CALLS)
def test_a_wrong_argument_is_refused_before_anything_is_sent(
    client: Client, method: str, args: tuple[Any, ...], settings: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        list(getattr(client, method)(*args, **settings))


def test_the_end_of_a_call_comes_with_its_deadline(client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        client.submit("n", timeout=0)
    assert client.submit("n").kind is SubmitKind.CREATED


def test_a_request_that_no_frame_holds_is_refused_here(client: Client) -> None:
    client.connect()
    body = _codec.ListQueues(queues=["x" * 255] * 70_000)
    call = Call.of(body, time.monotonic() + 5)
    client._link.post([call])
    client._link.run([call])
    assert isinstance(call.error, FrameTooLarge)
    assert client.submit("n").kind is SubmitKind.CREATED


def test_a_client_that_is_closed_refuses_calls(broker: ScratchBroker) -> None:
    client = Client(broker.url)
    client.submit("n")
    client.close()
    client.close()
    for _ in range(2):
        with pytest.raises(ClientClosed):
            client.submit("n")
    with pytest.raises(ClientClosed):
        list(client.watch("a"))
    never = Client(broker.url)
    never.close()
    with pytest.raises(ClientClosed):
        never.get("a")


def test_the_text_of_a_client_does_not_show_the_token() -> None:
    client = Client("celeriac://:s3cret@127.0.0.1:1")
    assert "s3cret" not in repr(client)
    assert "127.0.0.1:1" in repr(client)
    assert "s3cret" not in repr(client.url)


def test_monitors_see_the_counters_of_queues_and_of_the_broker(client: Client) -> None:
    name, other = new("queue"), new("queue")
    client.submit("n", task_id=new(), options=TaskOptions(queue=name))
    client.submit("n", task_id=new(), options=TaskOptions(queue=other))
    ended = client.submit("n", task_id=new(), options=TaskOptions(queue=name))
    client.cancel(ended.id)
    stats = client.admin.stats(name)
    [queue] = stats.queues
    assert (queue.name, queue.ready, queue.waiting_no_worker) == (name, 1, 1)
    assert (queue.counters.submitted, queue.counters.revoked) == (2, 1)
    assert queue.oldest_ready_at is not None
    assert queue.counters.wait.count == 0
    assert len(queue.counters.wait.counts) == len(queue.counters.wait.bounds) + 1
    broker = stats.broker
    assert broker is not None
    assert broker.commit.count >= 1
    assert broker.commit.sum > timedelta(0)
    assert list(broker.commit.bounds) == sorted(broker.commit.bounds)
    assert 1 <= broker.connections <= broker.connections_max
    assert broker.data is not None
    assert not broker.data.disk_is_low
    with pytest.raises(TaskExists):
        client.submit("n", task_id=ended.id, options=TaskOptions(on_conflict="REJECT"))
    again = client.admin.stats()
    assert {name, other} <= {queue.name for queue in again.queues}
    assert again.broker is not None
    assert again.broker.refused["task_exists"] > broker.refused.get("task_exists", 0)
    assert client.admin.stats(new("queue")).queues == ()


def test_operators_see_the_broker(client: Client) -> None:
    name = new("queue")
    client.submit("n", task_id=new(), options=TaskOptions(queue=name))
    broker = client.admin.broker_info()
    assert broker.ready >= 1
    assert 1 <= broker.connections <= broker.connections_max
    assert broker.queues >= 2
    assert broker.data is not None
    assert 0 < broker.data.disk_free_bytes <= broker.data.disk_bytes
    assert not broker.data.disk_is_low
    assert broker.limits.lease >= 2 * broker.limits.heartbeat
    assert client.admin.broker_info().uptime >= broker.uptime


def test_o21_operators_see_and_change_the_filter_of_the_log(client: Client) -> None:
    first = client.admin.log_filter()
    try:
        assert client.admin.log_filter("warn,celeriac_broker=info") == "warn,celeriac_broker=info"
        assert client.admin.log_filter() == "warn,celeriac_broker=info"
        with pytest.raises(InvalidArgument, match="`loud` is no level"):
            client.admin.log_filter("loud")
        with pytest.raises(InvalidArgument, match="filter must be a str"):
            client.admin.log_filter(7)  # type: ignore[arg-type]
        assert client.admin.log_filter() == "warn,celeriac_broker=info"
    finally:
        client.admin.log_filter(first)


def test_o22_operators_drain_a_broker(own_broker: ScratchBroker) -> None:
    with Client(own_broker.url) as client:
        client.admin.drain()
        assert client.admin.broker_info().draining
        client.submit("n")
        client.admin.end_drain()
        assert not client.admin.broker_info().draining


def test_operators_see_and_change_queues(client: Client) -> None:
    name = new("queue")
    admin = client.admin
    admin.configure_queue(name, QueueSettings(tasks_max=2, result_ttl=60))
    [queue] = admin.queues(name)
    assert queue.settings.tasks_max == 2
    assert queue.settings.result_ttl == timedelta(seconds=60)
    options = TaskOptions(queue=name)
    outcomes = client.submit_many(Submission("n", options=options) for _ in range(3))
    assert type(outcomes[2]).__name__ == "QueueFull"
    admin.pause(name)
    assert admin.queues([name])[0].paused
    admin.resume([name])
    assert not admin.queues([name])[0].paused
    assert admin.purge(name) == 2
    assert admin.delete_queue(name) == 0
    with pytest.raises(NotFound):
        admin.purge(new("none"))
    assert [each.name for each in admin.queues()] == sorted(each.name for each in admin.queues())
    assert admin.queues(new("none")) == []


def test_operators_list_tasks_page_by_page(client: Client) -> None:
    name = new("listed")
    options = TaskOptions(queue=name)
    client.submit_many(Submission("n", options=options) for _ in range(2500))
    selected = TaskFilter(queue=name, states=[State.QUEUED, "SCHEDULED"])
    found = list(client.admin.tasks(selected))
    assert len({info.id for info in found}) == 2500
    newest = client.admin.task_page(selected, limit=1, newest_first=True)
    assert newest.newest_first
    assert len(newest.tasks) == 1
    older = client.admin.task_page(selected, cursor=newest.cursor, newest_first=True)
    assert newest.tasks[0].id not in [each.id for each in older.tasks]
    page = client.admin.task_page(selected, limit=10)
    assert not page.newest_first
    assert len(page.tasks) <= 10
    assert page.cursor
    assert list(client.admin.tasks(TaskFilter(queue=name, states="FAILURE"))) == []
    assert list(client.admin.dead(name)) == []
    for wrong in (TaskFilter(states=["LOST"]), TaskFilter(tag="x" * 256)):
        with pytest.raises(InvalidArgument):
            client.admin.task_page(wrong)
    with pytest.raises(InvalidArgument, match="limit"):
        client.admin.task_page(limit=0)


def test_operators_requests_that_select_wrongly_are_refused(client: Client) -> None:
    admin = client.admin
    assert admin.replay(new()) == 0
    assert admin.discard([new()]) == 0
    assert admin.discard(selected=TaskFilter(queue=new())) == 0
    assert admin.workers() == []
    assert admin.order_workers("quiet") == 0
    calls: list[Any] = [
        lambda: admin.replay(),
        lambda: admin.replay("a", selected=TaskFilter()),
        lambda: admin.discard(),
        lambda: admin.discard("a", all_dead=True),
        lambda: admin.discard(selected=TaskFilter()),
        lambda: admin.order_workers("dance"),
        lambda: admin.backup(""),
        lambda: admin.backup("relative/folder"),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument):
            call()
