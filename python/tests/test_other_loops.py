"""gevent and uvloop, where they are installed: each in a process of its own, because they change
the whole process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from celeriac.scratch_broker import ScratchBroker

GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, os, sys, time
from celeriac import Client, Submission

with Client(sys.argv[1], timeout=20) as client:
    task = client.submit("n")
    waits = gevent.spawn(client.wait, task.id, timeout=10)
    follows = gevent.spawn(lambda: [str(info.state) for info in client.watch(task.id, timeout=10)])
    many = [gevent.spawn(client.submit, "n") for _ in range(200)]
    gevent.joinall(many)
    assert all(each.value.kind for each in many)
    late = 0
    for turn in range(60):
        try:
            with gevent.Timeout(0.0001 + turn * 0.0001):
                client.submit_many([Submission("n")] * 200)
        except gevent.Timeout:
            late += 1
        assert client.submit("n").kind
    assert late, "no timeout came within a call"
    client.cancel(task.id)
    assert waits.get().satisfied
    assert follows.get() == ["QUEUED", "REVOKED"]
    child = os.fork()
    if not child:
        os._exit(0 if client.submit("n").kind else 1)
    assert os.waitpid(child, 0)[1] == 0
print("good")
"""

UVLOOP = """
import asyncio, sys
import uvloop
from celeriac import AsyncClient, Submission

async def main():
    async with AsyncClient(sys.argv[1], timeout=20) as client:
        many = await asyncio.gather(*(client.submit("n") for _ in range(500)))
        waits = asyncio.ensure_future(client.wait(many[0].id, timeout=10))
        async def follow():
            return [str(info.state) async for info in client.watch(many[0].id, timeout=10)]
        follows = asyncio.ensure_future(follow())
        await asyncio.sleep(0.1)
        await client.cancel(many[0].id)
        assert (await waits).satisfied
        assert await follows == ["QUEUED", "REVOKED"]
        assert len(await client.submit_many([Submission("n")] * 5000)) == 5000

uvloop.run(main())
print("good")
"""


@pytest.mark.parametrize(("name", "program"), [("gevent", GEVENT), ("uvloop", UVLOOP)])
def test_the_client_works_with_another_loop(broker: ScratchBroker, name: str, program: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", path + program, broker.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "good\n", done.stderr[-3000:]
