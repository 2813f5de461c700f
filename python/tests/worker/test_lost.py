"""What happens to tasks whose process dies: a child process, or the worker itself."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter

import handlers
import pytest
from observing import eventually, wait_for_state

from celeriac import State, TaskFailed


def test_a_task_that_kills_its_child_runs_again_as_a_lost_one(run):
    run(pool="processes")
    result = handlers.die.apply_async((1,), max_attempts=3)
    assert result.get() == 2
    info = result.info()
    assert (info.attempts, [error.kind for error in info.errors]) == (2, ["worker_lost"])


def test_a_task_that_always_kills_its_child_has_an_end(run):
    run(pool="processes")
    result = handlers.die.apply_async((100,), max_attempts=2)
    with pytest.raises(TaskFailed) as caught:
        result.get()
    assert caught.value.kind == "worker_lost"
    assert handlers.add.delay(1).get() == 2


def test_the_other_tasks_of_a_child_that_dies_still_end(app, run):
    run(pool="processes")
    for result in app.submit_many(handlers.die.submission((0,)) for _ in range(200)):
        result.get()
    tasks = [handlers.add.submission((number,)) for number in range(200)]
    results = app.submit_many([*tasks[:100], handlers.die.submission((1,)), *tasks[100:]])
    values = [result.get() for result in results]
    assert values == [*range(1, 101), 2, *range(101, 201)]


def test_a_death_is_seen_although_another_process_holds_the_pipe(run):
    run(pool="processes", concurrency=1)
    begun = time.monotonic()
    assert handlers.die_with_a_child.delay().get() == 2
    assert time.monotonic() - begun < 15


def test_a_killed_child_is_replaced(run):
    run(pool="processes", concurrency=1)
    before = handlers.pid.delay().get()
    os.kill(before, signal.SIGKILL)
    after = handlers.pid.delay().get()
    assert after != before


def test_a_child_that_runs_nothing_counts_for_nobody(run):
    run(pool="processes", concurrency=1)
    pid = handlers.pid.delay().get()
    os.kill(pid, signal.SIGKILL)
    result = handlers.add.delay(1)
    assert result.get() == 2
    assert result.info().attempts == 1


def test_a_child_is_replaced_after_its_number_of_tasks(run):
    run(pool="processes", concurrency=1, max_tasks_per_child=3)
    pids = [handlers.pid.delay().get() for _ in range(9)]
    assert len(set(pids)) == 3
    assert all(pids.count(pid) == 3 for pid in pids)


def test_a_killed_worker_loses_its_tasks_to_another(command, tmp_path):
    first = command("--pool", "threads", "--concurrency", "1")
    notes = tmp_path / "notes"
    result = handlers.note_and_nap.delay(str(notes), 1.5)
    wait_for_state(result, State.STARTED)
    first.signal(signal.SIGKILL)
    command("--pool", "threads")
    result.get(timeout=20)
    assert notes.read_text().splitlines() == ["begun", "begun", "ended"]
    assert result.info().deliveries == 2


def test_children_end_with_a_killed_worker(command):
    worker = command("--pool", "processes", "--concurrency", "2")
    pid = handlers.pid.delay().get()
    busy = handlers.deaf.delay(60)
    wait_for_state(busy, State.STARTED)
    worker.signal(signal.SIGKILL)
    worker.wait()
    eventually(lambda: not _runs(pid), 5)
    busy.revoke(terminate=True, grace=0.1)


def test_two_workers_share_the_tasks(app, command):
    workers = [command("--pool", "processes", "--concurrency", "1") for _ in range(2)]
    for worker in workers:
        worker.wait_for("is ready")
    results = app.submit_many(handlers.nap.submission((0.05,)) for _ in range(40))
    pids = [result.get() for result in results]
    assert len(set(pids)) == 2
    assert min(pids.count(pid) for pid in set(pids)) >= 10


def test_an_idle_worker_gets_what_waits_behind_a_long_task(app, command):
    command("--pool", "threads", "--concurrency", "1", "--credit", "4")
    long = handlers.deaf.delay(4)
    wait_for_state(long, State.STARTED)
    short = app.submit_many(handlers.add.submission((number,)) for number in range(3))
    begun = time.monotonic()
    command("--pool", "threads", "--concurrency", "1")
    assert [result.get() for result in short] == [1, 2, 3]
    assert time.monotonic() - begun < 15
    assert not long.ready()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_that_are_killed_under_load_lose_nothing(app, run, tmp_path, method):
    run(pool="processes", concurrency=2, start_method=method)
    path = tmp_path / "numbers"
    tasks = [handlers.count.submission((str(path), number)) for number in range(1500)]
    results = app.submit_many(tasks)
    killed = 0
    for place in range(0, 1500, 150):
        with contextlib.suppress(ProcessLookupError):
            os.kill(results[place].get(timeout=30), signal.SIGKILL)
            killed += 1
    for result in results:
        result.get(timeout=60)
    runs = Counter(map(int, path.read_text().split()))
    infos = app.client.info([result.id for result in results])
    deliveries = {number: info.deliveries for number, info in enumerate(infos)}
    assert killed
    assert runs.keys() == deliveries.keys()
    # A task runs again only where the broker was told that its run was lost.
    assert all(runs[number] <= deliveries[number] for number in runs)


def test_a_child_that_is_stopped_keeps_at_most_what_it_runs(app, run):
    run(pool="processes", concurrency=2)
    children: set[int] = set()

    def has_found_both():
        both = app.submit_many(handlers.deaf.submission((0.1,)) for _ in range(2))
        children.update(result.get() for result in both)
        return len(children) == 2

    eventually(has_found_both, 20)
    # Texts that fill the pipe to the child. The first ones tell the worker that they are short.
    text = "x" * 200_000
    tasks = [handlers.length.submission((text,)) for _ in range(60)]
    assert [result.get() for result in app.submit_many(tasks)] == [200_000] * 60
    stopped = children.pop()
    os.kill(stopped, signal.SIGSTOP)
    try:
        results = app.submit_many(tasks)
        eventually(lambda: sum(result.ready() for result in results) >= 59, 20)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert [result.get() for result in results] == [200_000] * 60
    assert {info.deliveries for info in app.client.info([each.id for each in results])} == {1}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
