"""A task that does what no task should: it ends with a report, and the others go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

from celeriac import TaskFailed

POOLS = ("threads", "asyncio", "processes")
ERRORS = (
    "SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "MemoryError",
    "StopIteration", "Odd", "ExitsWhenShown", "FailsWhenShown", "HoldsALock", "endless cause",
    "long chain",
)  # fmt: skip

#: What each task ends with: the kind of the error, or the value.
FAILURES = [
    *((hostile.raises, (kind,), kind.replace("endless cause", "ValueError")) for kind in ERRORS),
    *((hostile.raises_async, (kind,), kind) for kind in ERRORS if kind != "StopIteration"),
    (hostile.raises_async, ("StopIteration",), "RuntimeError"),
    *(
        (hostile.returns, (kind,), "invalid_result")
        for kind in ("a generator", "NaN", "a circle", "bytes", "a lock")
    ),
    (hostile.returns_much, (100_000_000,), "result_too_large"),
    (hostile.endless_recursion, (), "RecursionError"),
    (hostile.closes_its_streams, (), "ValueError"),
]
OWN_KINDS = {"long chain": "ValueError", "endless cause": "ValueError"}


@pytest.fixture(params=POOLS)
def pool(request, broker, tmp_path):
    """A worker in a process of its own, with two places."""
    hostile.app.url = broker.url
    environment = {
        **os.environ,
        "CELERIAC_URL": broker.url,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-m", "celeriac.worker.command", "hostile"]
    log = tmp_path / "log"
    with open(log, "wb") as written:
        worker = subprocess.Popen(
            [*command, "--pool", request.param, "--concurrency", "2"],
            cwd=Path(__file__).parent, env=environment, stdout=written, stderr=written,
        )  # fmt: skip
    yield request.param
    worker.terminate()
    code = worker.wait(20)
    hostile.app.close()
    assert code == 0, log.read_text(errors="replace")[-4000:]


def check_that_others_go_on():
    results = [task.delay() for task in (hostile.well, hostile.well_async) for _ in range(2)]
    assert [result.get(timeout=20) for result in results] == ["well"] * 4


def test_every_failure_is_reported(pool):
    for task, args, kind in FAILURES:
        with pytest.raises(TaskFailed) as caught:
            task.delay(*args).get(timeout=20)
        assert caught.value.kind == OWN_KINDS.get(kind, kind)
        check_that_others_go_on()


def test_a_process_that_a_handler_forked_does_not_report(pool):
    for task in (hostile.forks, hostile.forks_async):
        assert task.delay().get(timeout=20) == "the parent"
        check_that_others_go_on()


def test_a_handler_that_breaks_its_event_loop_breaks_no_other(pool):
    for task, value in (
        (hostile.stops_its_loop, "went on"),
        (hostile.exits_beside, "went on True"),
    ):
        for _ in range(2):
            result = task.delay()
            if pool == "processes":
                # The loop was of this task alone.
                with pytest.raises(TaskFailed):
                    result.get(timeout=20)
            else:
                assert result.get(timeout=20) == value
            check_that_others_go_on()


def test_what_a_handler_leaves_behind_keeps_no_worker_alive(pool):
    hostile.leaves_a_thread.delay().get(timeout=20)
    if pool == "processes":
        hostile.ignores_signals.delay().get(timeout=20)
    check_that_others_go_on()
