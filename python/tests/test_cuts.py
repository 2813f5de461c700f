"""The connection breaks after each byte of a conversation, in each direction: every submit is
answered, and every task is there once, in its first generation."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from celeriac.aio import AsyncClient
from celeriac.client import Client
from celeriac.errors import ConnectError
from celeriac.info import State
from celeriac.options import TaskOptions
from celeriac.scratch_broker import ScratchBroker
from celeriac.submission import Submission, SubmitKind, Submitted
from cutting_proxy import CuttingProxy


def places(stop: int) -> list[int]:
    """Each of the first bytes would take long; these are enough to meet each field's edge."""
    return [*range(1, 12), *range(12, stop, 11)]


def converse(client: Client, queue: str) -> list[str]:
    """Submits in each way, and reads. Returns the ids."""
    options = TaskOptions(queue=queue)
    own = f"{queue}-own"
    ids = [client.submit("n", options=options).id]
    assert client.submit("n", task_id=own, options=options).kind is SubmitKind.CREATED
    outcomes = client.submit_many(Submission("n", options=options) for _ in range(5))
    with client.batch():
        batched = [client.submit("n", options=options) for _ in range(5)]
    for outcome in [*outcomes, *batched]:
        assert isinstance(outcome, Submitted), outcome
        assert outcome.kind is SubmitKind.CREATED
        ids.append(outcome.id)
    assert not client.wait(own, timeout=0.01).satisfied
    return [*ids, own]


def check(broker: ScratchBroker, queue: str, ids: list[str]) -> None:
    with Client(broker.url, timeout=10) as direct:
        assert len(set(ids)) == 12
        infos = direct.info(ids)
        assert {(info.state, info.generation) for info in infos} == {(State.QUEUED, 1)}
        assert [each.ready for each in direct.admin.queues(queue)] == [12]


def run_cut(broker: ScratchBroker, work: Callable[[str, str], list[str]], **cut: Any) -> int:
    """One conversation over a proxy. When the first connection was cut before it was open, the
    client says so, and the next call goes on."""
    queue = f"cuts-{uuid.uuid4().hex[:10]}"
    with CuttingProxy(broker.port, **cut) as proxy:
        ids = work(proxy.url, queue)
        check(broker, queue, ids)
        return proxy.cuts


def blocking(url: str, queue: str) -> list[str]:
    with Client(url, timeout=20) as client:
        try:
            client.connect()
        except ConnectError:
            client.connect()
        return converse(client, queue)


def with_asyncio(url: str, queue: str) -> list[str]:
    async def main() -> list[str]:
        options = TaskOptions(queue=queue)
        async with AsyncClient(url, timeout=20) as client:
            try:
                await client.connect()
            except ConnectError:
                await client.connect()
            submits = (client.submit("n", options=options) for _ in range(11))
            first = await asyncio.gather(*submits)
            own = await client.submit("n", task_id=f"{queue}-own", options=options)
            assert {each.kind for each in [*first, own]} == {SubmitKind.CREATED}
            return [each.id for each in [*first, own]]

    return asyncio.run(main())


@pytest.mark.parametrize("work", [blocking, with_asyncio])
def test_the_connection_breaks_on_the_way_to_the_broker(
    broker: ScratchBroker, work: Callable[[str, str], list[str]]
) -> None:
    assert sum(run_cut(broker, work, up=place) for place in places(700)) > 50


@pytest.mark.parametrize("work", [blocking, with_asyncio])
def test_the_connection_breaks_on_the_way_to_the_client(
    broker: ScratchBroker, work: Callable[[str, str], list[str]]
) -> None:
    assert sum(run_cut(broker, work, down=place) for place in places(260)) > 22
