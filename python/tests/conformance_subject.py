"""The subject of the conformance kit for producers: takes orders on its standard input and prints
what it sees. The kit's README says what each order means.

    celeriac-conformance --role producer -- python python/tests/conformance_subject.py

With `--blocking` each order runs in a thread with the blocking client. That client sends nothing
while nobody calls it, so the script `producer-heartbeats` is not for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from celeriac._codec import ErrorCode
from celeriac.aio import AsyncClient
from celeriac.cancel import CancelMode
from celeriac.client import Client
from celeriac.errors import BrokerError, CeleriacError
from celeriac.info import State, TaskInfo
from celeriac.options import TaskOptions
from celeriac.submission import Submission, Submitted

GRACE_SECONDS = 2.0
SPANS = {
    "countdown_ms": "countdown",
    "expires_in_ms": "expires",
    "result_ttl_ms": "result_ttl",
    "time_limit_ms": "time_limit",
    "soft_time_limit_ms": "soft_time_limit",
}


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def say_error(order: dict[str, Any], error: CeleriacError) -> None:
    """One line for each task of the order."""
    name: str | int = type(error).__name__
    if isinstance(error, BrokerError):
        known = error.code in ErrorCode.__members__.values()
        name = ErrorCode(error.code).name if known else error.code
    for each in order.get("tasks", [order]):
        say(id=each.get("id"), error=name, retryable=error.retryable)


def submission_of(order: dict[str, Any]) -> Submission:
    given = {}
    for name, value in order.get("options", {}).items():
        given[SPANS.get(name, name)] = value / 1000 if name in SPANS else value
    payload = json.dumps([order.get("args", []), order.get("kwargs", {})], allow_nan=False)
    return Submission(order["name"], payload.encode(), TaskOptions(**given), order["id"])


def seen_of(info: TaskInfo) -> dict[str, Any]:
    seen: dict[str, Any] = {"state": str(info.state)}
    if info.progress is not None:
        seen["progress"] = json.loads(info.progress.meta)
    return seen


def result_of(info: TaskInfo) -> dict[str, Any]:
    if info.state is State.SUCCESS:
        return {"result": json.loads(info.result)}
    if info.state is State.FAILURE and info.error is not None:
        return {"failed": info.error.kind, "message": info.error.message}
    if info.state is State.REVOKED:
        return {"revoked": info.revoked_reason}
    return {"state": str(info.state)}


class Orders:
    """Each method is an order."""

    def __init__(self, client: AsyncClient | InThreads) -> None:
        self._client: Any = client

    async def submit(self, order: dict[str, Any]) -> None:
        name, payload, options, task_id, content_type = submission_of(order)
        submitted = await self._client.submit(
            name, payload, options=options, task_id=task_id, content_type=content_type
        )
        assert submitted.kind is not None
        say(id=order["id"], submitted=submitted.kind.name)

    async def submit_many(self, order: dict[str, Any]) -> None:
        tasks = order["tasks"]
        outcomes = await self._client.submit_many([submission_of(each) for each in tasks])
        for task, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, Submitted):
                assert outcome.kind is not None
                say(id=task["id"], submitted=outcome.kind.name)
            else:
                say_error(task, outcome)

    async def get(self, order: dict[str, Any]) -> None:
        say(id=order["id"], **seen_of(await self._client.get(order["id"])))

    async def result(self, order: dict[str, Any]) -> None:
        seconds = order.get("timeout_ms", 30_000) / 1000
        waited = await self._client.wait(order["id"], timeout=seconds, with_results=True)
        say(id=order["id"], **result_of(waited.tasks[0]))

    async def watch(self, order: dict[str, Any]) -> None:
        last = ""
        async for info in self._client.watch(order["id"], timeout=math.inf):
            if info.state != last:
                last = str(info.state)
                say(id=order["id"], sees=last)

    async def cancel(self, order: dict[str, Any]) -> None:
        mode = CancelMode.FORCE if order.get("force") else CancelMode.COOPERATIVE
        [cancelled] = await self._client.cancel([order["id"]], mode=mode)
        say(id=order["id"], cancelled=cancelled.kind.name)

    async def forget(self, order: dict[str, Any]) -> None:
        [error] = await self._client.forget([order["id"]])
        if error is not None:
            raise error
        say(id=order["id"], forgotten=True)


class InThreads:
    """The blocking client with the methods of `AsyncClient`: each call has a thread."""

    def __init__(self) -> None:
        self._client = Client()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **settings: Any) -> Any:
            return await asyncio.to_thread(method, *args, **settings)

        return call

    async def watch(self, task_id: str, **settings: Any) -> AsyncIterator[TaskInfo]:
        states = self._client.watch(task_id, **settings)
        while (info := await asyncio.to_thread(next, states, None)) is not None:
            yield info

    async def __aenter__(self) -> InThreads:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()


async def carry_out(
    order: dict[str, Any], work: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    try:
        await work(order)
    except CeleriacError as error:
        say_error(order, error)


async def main() -> None:
    """Begins the orders in turn, and ends with the order `stop` or the end of the input."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, '{"do":"stop"}')

    threading.Thread(target=read, daemon=True).start()
    running: set[asyncio.Task[None]] = set()
    blocking = sys.argv[1:] == ["--blocking"]
    async with InThreads() if blocking else AsyncClient() as client:
        orders = Orders(client)
        while (order := json.loads(await lines.get()))["do"] != "stop":
            # With a connection, the orders are sent in the order in which they come.
            try:
                await client.connect()
            except CeleriacError as error:
                say_error(order, error)
                continue
            task = loop.create_task(carry_out(order, getattr(orders, order["do"])))
            running.add(task)
            task.add_done_callback(running.discard)
            if blocking:
                # A thread needs a moment to send its request.
                await asyncio.sleep(0.02)
        if running:
            await asyncio.wait(running, timeout=0.2)
        for task in running:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
