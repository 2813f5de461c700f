"""Child processes that are copies of one that has imported the tasks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import handlers
import pytest
from observing import eventually, wait_for_state

from celeriac import State, TaskFailed
from celeriac.errors import InvalidArgument


@pytest.fixture
def start(run):
    return lambda **settings: run(pool="processes", start_method="forkserver", **settings)


def parent(pid: int) -> int:
    """The number of the process whose child this is."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_tasks_run_in_copies_of_one_process(app, start):
    start(concurrency=2)
    results = app.submit_many(handlers.deaf.submission((0.2,)) for _ in range(6))
    pids = {result.get(timeout=20) for result in results}
    assert len(pids) == 2
    assert os.getpid() not in pids
    (server,) = {parent(pid) for pid in pids}
    assert server != os.getpid()
    numbers = app.submit_many(handlers.add.submission((number,)) for number in range(2000))
    assert [result.get(timeout=20) for result in numbers] == list(range(1, 2001))
    asynchronous = app.submit_many(handlers.add_async.submission((number,)) for number in range(9))
    assert [result.get(timeout=20) for result in asynchronous] == list(range(1, 10))


def test_a_child_that_dies_is_replaced_and_its_task_runs_again(start):
    start(concurrency=1)
    assert handlers.die.apply_async((1,), max_attempts=3).get(timeout=20) == 2
    with pytest.raises(TaskFailed) as caught:
        handlers.die.apply_async((100,), max_attempts=2).get(timeout=20)
    assert caught.value.kind == "worker_lost"


def test_a_child_is_replaced_after_its_number_of_tasks(start):
    start(concurrency=1, max_tasks_per_child=2)
    pids = [handlers.pid.delay().get(timeout=20) for _ in range(20)]
    assert len(set(pids)) == 10
    eventually(lambda: not any(is_alive(pid) for pid in pids[:-2]))


def test_time_limits_reach_the_handler(start):
    start(concurrency=2)
    soft = handlers.soft_anywhere.apply_async(soft_time_limit=0.2)
    hard = handlers.deaf.apply_async((60,), time_limit=0.3, max_attempts=1)
    assert soft.get(timeout=20) == "soft limit"
    with pytest.raises(TaskFailed) as caught:
        hard.get(timeout=20)
    assert caught.value.kind == "time_limit"
    assert handlers.add.delay(1).get(timeout=20) == 2


def test_the_worker_goes_on_when_the_copied_process_is_killed(start):
    start(concurrency=2)
    first = handlers.pid.delay().get(timeout=20)
    os.kill(parent(first), signal.SIGKILL)
    eventually(lambda: handlers.pid.delay().get(timeout=20) != first)
    os.kill(handlers.pid.delay().get(timeout=20), signal.SIGKILL)
    assert handlers.add.delay(1).get(timeout=20) == 2


def test_no_process_is_left(command):
    for number, expected in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        worker = command("--start-method", "forkserver", "--concurrency", "1")
        pid = handlers.pid.delay().get(timeout=20)
        server = parent(pid)
        running = handlers.deaf.delay(0.5)
        wait_for_state(running, State.STARTED)
        worker.signal_all(number) if number == signal.SIGTERM else worker.signal(number)
        assert worker.wait() == expected
        if number == signal.SIGTERM:
            assert running.state is State.SUCCESS
        eventually(lambda pid=pid, server=server: not is_alive(pid) and not is_alive(server))


def test_modules_that_start_threads_are_not_copied(broker, tmp_path):
    import threaded

    log = tmp_path / "log"
    threaded.app.url = broker.url
    worker = threaded.app.worker(
        pool="processes", start_method="forkserver", concurrency=1, modules=["threaded"]
    )
    with open(log, "wb") as written:
        kept = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            worker.start()
            eventually(lambda: "choose --start-method spawn" in log.read_text(), 20)
        finally:
            worker.stop(now=True)
            worker.join()
            os.dup2(kept, 2)
            os.close(kept)
    threaded.app.close()


def test_a_plain_fork_is_refused(app):
    with pytest.raises(InvalidArgument, match="plain fork"):
        app.worker(start_method="fork")
