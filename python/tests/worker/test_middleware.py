"""Hooks around the runs of a worker."""

from __future__ import annotations

import handlers
import pytest
from observing import eventually, wait_for_state

from celeriac import RetryPolicy, State

POOLS = ("threads", "asyncio", "processes")
SUCCESS = ["before", "success True", "after"]
RETRY = ["before", "retry Retry", "after"]

CASES = [
    (handlers.add, (1,), SUCCESS),
    (handlers.add_async, (1,), SUCCESS),
    (handlers.ignore, (), SUCCESS),
    (handlers.again, (), RETRY + SUCCESS),
    (handlers.fail_until, (2,), ["before", "retry OSError", "after", *SUCCESS]),
    (handlers.fail, ("no",), ["before", "retry ValueError", "after"] * 3
     + ["before", "failure ValueError", "after"]),
    (handlers.picky, ("value",), ["before", "failure ValueError", "after"]),
    (handlers.reject, (), ["before", "failure Reject", "after"]),
    (handlers.unwritable, (), ["before", "failure NotEncodable", "after"]),
    (handlers.large, (2_000_000,), ["before", "failure ResultTooLarge", "after"]),
]  # fmt: skip


@pytest.mark.parametrize("pool", [*POOLS, "eager"])
def test_the_hooks_say_how_each_run_ended(app, run, tmp_path, pool):
    if pool != "eager":
        run(pool=pool)
        submit_all(tmp_path)
        return
    with app.eager():
        submit_all(tmp_path)


def submit_all(folder):
    results = []
    for place, (task, args, expected) in enumerate(CASES):
        path = folder / str(place)
        headers = {"notes": str(path).encode()}
        retry = RetryPolicy(max_attempts=4, delay=0.01)
        results.append((task.apply_async(args, retry=retry, headers=headers), path, expected))
    for result, path, expected in results:
        # The hooks come before the report. A task that is ignored leaves no record of its end.
        eventually(lambda asked=result: asked.ready() or asked.state is State.UNKNOWN, 15)
        assert lines(path) == expected


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_a_run_that_is_given_up_is_dropped(run, tmp_path, pool):
    run(pool=pool)
    task = handlers.nap if pool == "threads" else handlers.nap_async
    path = tmp_path / "notes"
    result = task.apply_async((60,), headers={"notes": str(path).encode()})
    wait_for_state(result, State.STARTED)
    result.revoke(terminate=True, grace=0)
    eventually(lambda: lines(path) == ["before", "drop", "after"], 15, path.read_text)


def lines(path):
    return path.read_text().splitlines()
