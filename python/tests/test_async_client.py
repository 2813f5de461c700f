"""`AsyncClient` against a real broker, and against peers that answer wrongly or not at all."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from celeriac import _codec
from celeriac.admin import Admin, AsyncAdmin
from celeriac.aio import AsyncClient
from celeriac.cancel import CancelKind
from celeriac.client import Client
from celeriac.errors import (
    BatchFailed,
    ClientClosed,
    ConnectError,
    DeadlineExceeded,
    InvalidArgument,
    NotABroker,
    TaskExists,
)
from celeriac.info import State, TaskInfo
from celeriac.listing import QueueSettings, TaskFilter
from celeriac.options import TaskOptions
from celeriac.scratch_broker import ScratchBroker
from celeriac.submission import Submission, SubmitKind
from celeriac.waiting import Waited, WaitMode
from played_broker import Peer, PlayedBroker


def new(prefix: str = "task") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def run(url: str, work: Callable[[AsyncClient], Awaitable[Any]], **settings: Any) -> Any:
    """Runs the work with a client in a loop of its own."""

    async def main() -> Any:
        async with AsyncClient(url, **{"timeout": 10, **settings}) as client:
            return await asyncio.wait_for(work(client), 50)

    return asyncio.run(main())


def parameters(method: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Admin, AsyncAdmin)])
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    names = [name for name in vars(one) if not name.startswith("_")]
    assert names == [name for name in vars(other) if not name.startswith("_")]
    assert len(names) > 10
    for name in names:
        if callable(getattr(one, name)):
            assert parameters(getattr(one, name)) == parameters(getattr(other, name)), name
            assert inspect.getdoc(getattr(other, name)), name


def test_tasks_are_submitted_read_cancelled_and_forgotten(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        task_id = new()
        assert (await client.submit("n", task_id=task_id)).kind is SubmitKind.CREATED
        assert (await client.get(task_id)).state is State.QUEUED
        reject = TaskOptions(on_conflict="reject")
        with pytest.raises(TaskExists):
            await client.submit("n", task_id=task_id, options=reject)
        with pytest.raises(InvalidArgument):
            await client.get("")
        outcomes = await client.submit_many(Submission("n") for _ in range(2500))
        assert len(outcomes) == 2500
        [cancelled] = await client.cancel(task_id)
        assert cancelled.kind is CancelKind.REVOKED
        assert await client.forget([task_id]) == [None]
        assert len(await client.info([task_id, new()])) == 2

    run(broker.url, work)


def test_many_tasks_of_a_loop_share_the_client(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        submitted = await asyncio.gather(*(client.submit("n") for _ in range(2000)))
        assert len({each.id for each in submitted}) == 2000
        waits = [client.wait(each.id, timeout=20) for each in submitted[:50]]
        cancels = client.cancel([each.id for each in submitted[:50]])
        *waited, _ = await asyncio.gather(*waits, cancels)
        assert all(isinstance(each, Waited) and each.satisfied for each in waited)

    run(broker.url, work)


async def submit_in_a_batch(client: AsyncClient, task_id: str, options: TaskOptions) -> None:
    async with client.batch():
        await client.submit("n", task_id=task_id, options=options)


async def fail_in_a_batch(client: AsyncClient, task_id: str) -> None:
    async with client.batch():
        await client.submit("n", task_id=task_id)
        raise ZeroDivisionError


def test_a_batch_belongs_to_its_block(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        known = new()
        await client.submit("n", task_id=known)
        async with client.batch():
            first = await client.submit("n")
            assert first.kind is None
            await client.flush()
            assert first.kind is SubmitKind.CREATED
            more = [await client.submit("n") for _ in range(350)]
        assert {each.kind for each in more} == {SubmitKind.CREATED}
        reject = TaskOptions(on_conflict="reject")
        with pytest.raises(BatchFailed, match=known):
            await submit_in_a_batch(client, known, reject)
        kept = new()
        with pytest.raises(ZeroDivisionError):
            await fail_in_a_batch(client, kept)
        assert (await client.get(kept)).is_known
        assert (await client.submit("n")).kind is SubmitKind.CREATED

    run(broker.url, work)


async def skip_one(states: AsyncIterator[TaskInfo]) -> AsyncIterator[TaskInfo]:
    await anext(states)
    async for info in states:
        yield info


def test_a_watch_shows_each_state(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        task_id = new()
        seen = []
        options = TaskOptions(countdown=0.3, expires=0.8)
        async for info in client.watch(task_id, timeout=20):
            seen.append(info.state)
            if info.state is State.UNKNOWN:
                await client.submit("n", task_id=task_id, options=options)
        assert seen == [State.UNKNOWN, State.SCHEDULED, State.QUEUED, State.REVOKED]
        with pytest.raises(DeadlineExceeded):
            await anext(skip_one(client.watch(new(), timeout=0.3)))
        # The generator that was left in the middle ends its watch when it is closed.
        assert not client._link.exchange.watches.is_going_on

    run(broker.url, work)


def test_waits_end_with_their_time_or_their_tasks(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        first, second = new(), new()
        await client.submit_many([Submission("n", task_id=first), Submission("n", task_id=second)])
        began = time.monotonic()
        assert not (await client.wait([first, second], timeout=0.3)).satisfied
        assert time.monotonic() - began < 15
        waiting = asyncio.ensure_future(
            client.wait([first, second], timeout=math.inf, mode=WaitMode.ANY)
        )
        await asyncio.sleep(0.1)
        await client.cancel(second)
        waited = await waiting
        assert [info.state for info in waited.tasks] == [State.QUEUED, State.REVOKED]

    run(broker.url, work)


def test_a_wait_that_is_cancelled_is_taken_back(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        task = await client.submit("n")
        waiting = asyncio.ensure_future(client.wait(task.id, timeout=30))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not client._link.exchange.has_work
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.wait(task.id, timeout=30), 0.1)
        assert (await client.submit("n")).kind is SubmitKind.CREATED

    run(broker.url, work)


def test_a_call_that_is_cancelled_at_any_moment_leaves_nothing(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        ids = [(await client.submit("n")).id for _ in range(3)]

        async def batch() -> None:
            async with client.batch():
                for _ in range(5):
                    await client.submit("n")

        async def watch() -> None:
            async for _ in client.watch(ids, timeout=0.5):
                pass

        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.submit("n"),
            lambda: client.submit_many([Submission("n")] * 1500),
            lambda: client.info(ids),
            lambda: client.wait(ids, timeout=0.05),
            lambda: client.cancel(["unknown"]),
            lambda: client.admin.queues(),
            batch,
            watch,
        ]
        for call in calls:
            for steps in (*range(25), 50, 100, 200):
                task = asyncio.ensure_future(call())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert (await client.get(ids[0])).state is State.QUEUED
        exchange = client._link.exchange
        while exchange.has_work:
            await asyncio.sleep(0.01)
        assert not exchange._pending

    run(broker.url, work)


def test_a_first_call_that_is_cancelled_while_it_connects_leaves_nothing(
    broker: ScratchBroker,
) -> None:
    async def work(_: AsyncClient) -> None:
        for steps in range(0, 40, 2):
            async with AsyncClient(broker.url, timeout=20) as fresh:
                task = asyncio.ensure_future(fresh.submit("n"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert (await fresh.submit("n")).kind is SubmitKind.CREATED

    run(broker.url, work)


def test_operators_requests(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        name, admin = new("queue"), client.admin
        await admin.configure_queue(name, QueueSettings(tasks_max=5))
        options = TaskOptions(queue=name)
        await client.submit_many([Submission("n", options=options)] * 3)
        found = [info.name async for info in admin.tasks(TaskFilter(queue=name))]
        assert found == ["n"] * 3
        assert [info async for info in admin.dead(name)] == []
        await admin.pause(name)
        assert (await admin.queues(name))[0].paused
        await admin.resume(name)
        assert await admin.purge(name) == 3
        assert await admin.replay(new()) == 0
        assert await admin.workers() == []
        assert (await admin.broker_info()).connections >= 1
        assert [queue.name for queue in (await admin.stats(name)).queues] == [name]
        assert await admin.log_filter() == await admin.log_filter()

    run(broker.url, work)


def test_calls_and_watches_go_on_over_a_restart(own_broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        task = await client.submit("n", options=TaskOptions(expires=3))
        seen: list[State] = []

        async def follow() -> None:
            async for info in client.watch(task.id, timeout=20):
                seen.append(info.state)

        following = asyncio.ensure_future(follow())
        await asyncio.sleep(0.2)
        own_broker.kill()
        restarting = threading.Timer(0.3, own_broker.start)
        restarting.start()
        assert (await client.submit("n")).kind is SubmitKind.CREATED
        assert (await client.wait(task.id, timeout=20)).satisfied
        await following
        restarting.join()
        assert seen == [State.QUEUED, State.REVOKED]

    run(own_broker.url, work)


def test_nothing_listens_or_another_program_does(played: PlayedBroker) -> None:
    def http(peer: Peer) -> None:
        peer.expect(_codec.Hello)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.wait_for_end()

    async def work(client: AsyncClient) -> None:
        began = time.monotonic()
        with pytest.raises((ConnectError, NotABroker)) as caught:
            await client.get("a")
        assert time.monotonic() - began < 15
        assert "s3cret" not in str(caught.value)

    run("celeriac://:s3cret@127.0.0.1:9", work)
    run("celeriac://no-such-host.invalid", work)
    played.play(http, Peer.wait_for_end, Peer.cut)
    run(played.url, work)
    run(played.url, work, connect_timeout=0.3)
    run(played.url, work)


def test_an_answer_that_never_comes(played: PlayedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac._reading._WAIT_MARGIN", 0.3)

    def script(peer: Peer) -> None:
        peer.greet()
        peer.wait_for_end()

    async def work(client: AsyncClient) -> None:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await client.submit("n", timeout=0.3)
        with pytest.raises(DeadlineExceeded):
            await client.wait("a", timeout=0.1)
        assert time.monotonic() - began < 15

    played.play(script)
    run(played.url, work)


def test_an_idle_client_sends_heartbeats_and_notices_silence(played: PlayedBroker) -> None:
    quick = _codec.Welcome(protocol=1, heartbeat_ms=50, lease_ms=300)
    beats: list[float] = []

    def script(peer: Peer) -> None:
        peer.greet(quick)
        for _ in range(5):
            assert isinstance(peer.read().body, _codec.Heartbeat)
            beats.append(time.monotonic())
            peer.answer(_codec.HeartbeatReply())
        peer.wait_for_end()

    async def work(client: AsyncClient) -> None:
        await client.connect()
        await asyncio.sleep(0.5)
        assert client._link.exchange.is_open
        await asyncio.sleep(0.6)
        assert not client._link.exchange.is_open

    played.play(script)
    run(played.url, work)
    played.finish()
    assert 0.15 < beats[-1] - beats[0] < 1


def test_a_client_may_be_used_in_one_loop_after_the_other(broker: ScratchBroker) -> None:
    client = AsyncClient(broker.url, timeout=10)
    for _ in range(3):
        assert asyncio.run(client.submit("n")).kind is SubmitKind.CREATED
    asyncio.run(client.close())
    with pytest.raises(ClientClosed):
        asyncio.run(client.submit("n"))


def test_a_client_of_another_threads_loop_is_refused(broker: ScratchBroker) -> None:
    async def work(client: AsyncClient) -> None:
        await client.submit("n")
        caught: list[BaseException] = []

        def other() -> None:
            try:
                asyncio.run(client.submit("n"))
            except ClientClosed as error:
                caught.append(error)

        await asyncio.to_thread(other)
        assert "another thread" in str(caught[0])

    run(broker.url, work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_opens_its_own_connection(broker: ScratchBroker) -> None:
    client = AsyncClient(broker.url, timeout=10)

    async def parent() -> None:
        await client.submit("n")
        child = os.fork()
        if not child:
            code = 1
            try:
                # The child is within the loop of its parent, and needs one of its own.
                thread = threading.Thread(target=lambda: asyncio.run(client.submit("n")))
                thread.start()
                thread.join(20)
                code = int(thread.is_alive())
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        await client.submit("n")
        await client.close()

    asyncio.run(parent())


def test_closing_ends_the_calls_that_wait(broker: ScratchBroker) -> None:
    async def main() -> None:
        client = AsyncClient(broker.url)
        task = await client.submit("n")
        waiting = asyncio.ensure_future(client.wait(task.id, timeout=30))
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises(ClientClosed):
            await waiting
        with pytest.raises(ClientClosed):
            await client.get("a")

    asyncio.run(main())
