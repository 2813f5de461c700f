"""The parts of the worker that need no broker: reports, leases, credit, settings, loading."""

from __future__ import annotations

import os

import pytest

from celeriac import _codec as wire
from celeriac.errors import InvalidArgument
from celeriac.worker.credit import Credit
from celeriac.worker.execution import TEXT_BYTES_MAX, task_error
from celeriac.worker.leases import RELEASE_UNBEGUN, Leases
from celeriac.worker.loading import LoadError, load
from celeriac.worker.reports import PROGRESS_INTERVAL, PendingReports, encoded
from celeriac.worker.settings import Settings
from celeriac.worker.shared import NO_LIMIT, Shared, shared_descriptor


def start(lease: int):
    return encoded(f"task-{lease}", lease, wire.Started())


def progress(lease: int, state: str):
    return encoded(f"task-{lease}", lease, wire.ProgressReport(state=state))


def complete(lease: int, result: bytes = b""):
    return encoded(f"task-{lease}", lease, wire.Complete(result=result))


def words(batch) -> list[str]:
    reports = [wire.TaskReport.decode(each.data) for each in batch]
    kinds = {wire.Started: "started", wire.Complete: "complete"}
    return [f"{each.lease} {kinds.get(type(each.report)) or each.report.state}" for each in reports]


@pytest.mark.parametrize("result", [b"", b"1", b"x" * 127, b"x" * 128, b"x" * 70_000])
@pytest.mark.parametrize("kind", ["", "application/json", "t" * 200])
@pytest.mark.parametrize("task_id", ["a", "ä" * 100])
def test_a_success_has_the_bytes_of_the_codec(result, kind, task_id):
    report = wire.Complete(result=result, content_type=kind)
    message = wire.TaskReport(id=task_id, lease=1 << 40, report=report)
    assert encoded(task_id, 1 << 40, report).data == message.encode()
    assert wire.TaskReport.decode(message.encode()) == message


def test_a_lease_keeps_the_order_of_its_reports():
    reports = PendingReports()
    reports.push_start(start(1))
    reports.push_progress(progress(1, "half"))
    reports.push_progress(progress(1, "nearly"))
    reports.push_start(start(2))
    reports.push_end(complete(1))
    batch = reports.take_batch(100, 1000, 0.0)
    assert words(batch) == ["1 started", "2 started", "1 nearly", "1 complete"]
    assert not reports


def test_progress_is_sent_at_most_once_per_interval_and_then_the_newest():
    reports = PendingReports()
    reports.push_progress(progress(1, "first"))
    assert words(reports.take_batch(100, 1000, 5.0)) == ["1 first"]
    for step in range(1000):
        reports.push_progress(progress(1, f"step {step}"))
    assert reports.take_batch(100, 1000, 5.0) == []
    assert reports
    assert reports.next_progress_at() == 5.0 + PROGRESS_INTERVAL
    assert words(reports.take_batch(100, 1000, 5.0 + PROGRESS_INTERVAL)) == ["1 step 999"]
    assert not reports


def test_a_batch_is_bounded_by_items_and_by_bytes():
    reports = PendingReports()
    for lease in (1, 2, 3):
        reports.push_end(complete(lease, bytes(100)))
    assert len(reports.take_batch(2, 1000, 0.0)) == 2
    reports.push_end(complete(4))
    assert words(reports.take_batch(100, 10, 0.0)) == ["3 complete"]
    assert words(reports.take_batch(100, 10, 0.0)) == ["4 complete"]


def test_reports_go_back_in_their_order_and_lost_leases_are_forgotten():
    reports = PendingReports()
    for lease in (1, 2, 3, 4):
        reports.push_start(start(lease))
    reports.put_back(reports.take_batch(3, 1000, 0.0))
    reports.forget(2)
    assert words(reports.take_batch(100, 1000, 0.0)) == ["1 started", "3 started", "4 started"]


@pytest.fixture
def leases():
    return Leases(lambda: None)


def delivery(lease: int) -> wire.Delivery:
    return wire.Delivery(id=f"task-{lease}", lease=lease, name="add")


def test_a_delivery_that_comes_again_is_the_same_delivery(leases):
    assert leases.deliver([delivery(1), delivery(2)]) == 2
    assert leases.deliver([delivery(2), delivery(3)]) == 1
    with leases.lock:
        taken = [leases.take() for _ in range(4)]
    assert [held and held.lease for held in taken] == [1, 2, 3, None]
    assert leases.deliver([delivery(1)]) == 0


def test_deliveries_that_are_given_back_wait_in_front_in_their_order(leases):
    leases.deliver([delivery(lease) for lease in range(1, 6)])
    with leases.lock:
        taken = [leases.take() for _ in range(4)]
    assert leases.lose(2) is taken[1]
    with leases.lock:
        leases.give_back(taken[1:])
    assert [held.lease for held in leases.waiting] == [3, 4, 5]


def test_nothing_is_reported_of_a_lost_lease(leases):
    leases.deliver([delivery(1)])
    with leases.lock:
        held = leases.take()
    leases.progress(1, "HALF", b"1")
    assert leases.lose(1) is held
    assert not leases.end(held, wire.Complete())
    leases.progress(1, "HALF", b"1")
    assert leases.is_settled()


def test_a_resumed_session_keeps_its_leases_and_the_reports_of_others(leases):
    leases.deliver([delivery(lease) for lease in (1, 2, 3)])
    with leases.lock:
        first, second = leases.take(), leases.take()
    leases.end(first, wire.Complete())
    assert leases.retain([3]) == [second]
    assert sorted(leases.held) == [1, 3]
    assert words(leases.reports.take_batch(10, 1000, 0.0)) == ["1 complete"]


def test_an_end_is_reported_once(leases):
    leases.deliver([delivery(1)])
    with leases.lock:
        held = leases.take()
    assert leases.end(held, wire.Complete())
    assert not leases.end(held, RELEASE_UNBEGUN)


def test_the_worker_looks_ahead_only_while_tasks_are_short():
    credit = Credit(4)
    assert credit.wanted == 4
    assert not credit.adjust(0, 0.0, 0.0)
    assert credit.wanted == 4
    # Tasks of 10 ms: four places work on 40 of them in 100 ms.
    credit.adjust(20, 0.2, 0.0)
    assert credit.wanted == 4 + 40
    # The same tasks, and a broker that answers slowly.
    credit.adjust(1, 0.01, 0.0)
    assert credit.wanted == 4 + 40
    credit.adjust(1000, 0.01, 0.0)
    assert credit.wanted == 4 + 5000
    # Tasks of one second: the credit falls step by step.
    credit.adjust(4, 4.0, 0.0)
    assert credit.wanted == 5004 * 3 // 4
    assert credit.adjust(0, 0.0, 0.5)
    assert credit.wanted == 4


def test_a_credit_that_the_user_has_set_stays():
    credit = Credit(4, 20)
    assert not credit.adjust(1000, 0.1, 5.0)
    assert credit.wanted == 20


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pool": "gevent"}, "processes, threads, asyncio"),
        ({"concurrency": 0}, "1 to 10,000"),
        ({"concurrency": 1.5}, "a whole number"),
        ({"queues": "songs"}, "a list of names"),
        ({"queues": {"songs": 0}}, "the weight of 'songs'"),
        ({"grace": -1}, "a number of seconds"),
        ({"credit": 20_000}, "1 to 10,000"),
        ({"max_tasks_per_child": 0}, "1 to"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, words):
    with pytest.raises(InvalidArgument, match=words):
        Settings(**settings)


def test_an_error_whose_text_fails_is_still_reported():
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    told = task_error(Broken())
    assert (told.kind, told.message) == (
        "Broken",
        "(the error cannot be shown: its __str__ failed)",
    )


def test_long_texts_of_errors_are_cut():
    def deep(levels: int) -> None:
        if not levels:
            raise ValueError("ä" * 100_000 + "\ud800")
        deep(levels - 1)

    try:
        deep(200)
    except ValueError as error:
        told = task_error(error)
    assert len(told.message.encode()) <= TEXT_BYTES_MAX
    assert len(told.traceback.encode()) <= TEXT_BYTES_MAX


def test_modules_that_cannot_be_imported_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_module.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "two_apps.py").write_text(
        "from celeriac import Celeriac\nfirst, second = Celeriac(), Celeriac()\n"
    )
    for name, words in [
        ("no_such_module", "There is no module 'no_such_module'"),
        ("broken_module", "no_such_package_at_all"),
        ("broken_module.py", "Write the name of its module: broken_module."),
        ("two_apps", "more than one app"),
        ("two_apps:third", "has no app named 'third'"),
    ]:
        with pytest.raises(LoadError, match=words):
            load([name])
    assert load(["two_apps:second"]) is not load(["two_apps:first"])


def test_both_sides_see_the_same_numbers():
    descriptor = shared_descriptor()
    parent, child = Shared(descriptor), Shared(descriptor)
    os.close(descriptor)
    assert (child.begun, child.limit) == (0, 0)
    for number in (1, 255, 256, NO_LIMIT):
        child.begun = number
        parent.limit = number
        assert (parent.begun, child.limit) == (number, number)
    parent.close()
    assert child.begun == NO_LIMIT
    child.close()
