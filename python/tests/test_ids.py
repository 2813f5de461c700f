"""Ids are UUIDs of version 7: all different, and in the order of time."""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from celeriac import _ids


def test_ids_are_of_version_7_and_rise() -> None:
    made = [_ids.make_id() for _ in range(50_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    for text in made[::5000]:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert str(parsed) == text


def test_ids_rise_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5_000_000_000, 4_000_000_000, 5_000_000_000, 6_000_000_000, 1_000_000_000])
    mint = _ids._Mint()
    monkeypatch.setattr(_ids.time, "time_ns", lambda: next(times))
    made = [mint() for _ in range(5)]
    assert made == sorted(set(made))


def test_the_counter_does_not_run_over() -> None:
    mint = _ids._Mint()
    before = mint()
    mint._count = _ids._COUNTS_MAX - 1
    last, first = mint(), mint()
    assert before < last < first
    assert uuid.UUID(last).variant == uuid.UUID(first).variant == uuid.RFC_4122


def test_threads_make_different_ids() -> None:
    made: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        mine = [_ids.make_id() for _ in range(5000)]
        with lock:
            made.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 40_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    _ids.make_id()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, "\n".join(_ids.make_id() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    of_child = os.read(reader, 65536).decode().split()
    os.close(reader)
    os.close(writer)
    assert len(of_child) == 100
    assert set(of_child).isdisjoint(_ids.make_id() for _ in range(1000))
