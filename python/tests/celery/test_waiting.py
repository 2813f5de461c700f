"""Waiting for results: what is pushed, and what is watched at the broker."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.backends import asynchronous
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult, ResultSet
from running import HERE, WAIT, app_of, wait_until, worker_of

from celeriac import _codec as wire
from celeriac.scratch_broker import ScratchBroker
from celery import group

NAME = "results_subject"
knows_all_waiters = pytest.mark.skipif(
    not hasattr(asynchronous, "_waiting_on"),
    reason="Celery before 5.7 tells one result object for each id, and forgets it with any other",
)


@pytest.fixture(scope="module")
def broker():
    with ScratchBroker() as broker:
        yield broker


@pytest.fixture(scope="module")
def worked(broker):
    """The app, with a worker."""
    subject = app_of(NAME, broker.url)
    with worker_of(NAME, broker.url, "threads", 8):
        assert subject.echo.delay(1).get(timeout=WAIT) == 1
        yield subject
    subject.app.close()


@pytest.fixture
def subject(worked):
    """The app, whose backend has no watches before and after the test."""
    yield worked
    gc.collect()
    assert watches(worked) == 0


def watches(subject):
    """How many watches the backend's connection has at the broker."""
    return len(subject.app.backend.client._link.exchange.watches._parts)


def requests(subject, monkeypatch):
    """The kinds of the requests that the backend sends from now on."""
    sent = []
    exchange = subject.app.backend.client._link.exchange
    original = exchange._put

    def put(request_id, timeout, call):
        sent.append(call.kind)
        return original(request_id, timeout, call)

    monkeypatch.setattr(exchange, "_put", put)
    return sent


def test_sending_a_task_asks_the_backend_nothing(subject, monkeypatch):
    sent = requests(subject, monkeypatch)
    subject.echo.delay(1)
    group(subject.echo.s(number) for number in range(5))()
    assert sent == []


def test_a_get_is_one_request(subject, monkeypatch):
    result = subject.slow.delay(0.3, "value")
    sent = requests(subject, monkeypatch)
    assert result.get(timeout=WAIT) == "value"
    assert [kind for kind in sent if kind is not wire.Heartbeat] == [wire.Wait]


def test_a_get_of_every_change_is_one_watch(subject, monkeypatch):
    result = subject.slow.delay(0.3, "value")
    sent = requests(subject, monkeypatch)
    assert result.get(timeout=WAIT, on_message=lambda _: None) == "value"
    found = [kind for kind in sent if kind is not wire.Heartbeat]
    assert found == [wire.Watch, wire.Unwatch]


def test_a_get_without_time_is_one_watch_and_a_get_that_is_given_up_is_withdrawn(
    subject, monkeypatch
):
    result = subject.echo.apply_async((1,), queue="nobody")
    sent = requests(subject, monkeypatch)
    with pytest.raises(CeleryTimeout):
        result.get(timeout=0.1)
    with pytest.raises(CeleryTimeout):
        result.get(timeout=1.1)
    found = [kind for kind in sent if kind is not wire.Heartbeat]
    assert found == [wire.Watch, wire.Unwatch, wire.Wait, wire.Unwait]


def test_a_get_of_a_task_that_nobody_has_sent_yet_waits_for_it(subject, monkeypatch):
    name = f"later-{os.urandom(4).hex()}"
    sent = requests(subject, monkeypatch)
    found = []
    result = subject.app.AsyncResult(name)
    waiting = threading.Thread(target=lambda: found.append(result.get(timeout=WAIT)))
    waiting.start()
    wait_until(lambda: watches(subject) == 1)
    subject.echo.apply_async(("sent",), task_id=name)
    waiting.join(WAIT)
    assert found == ["sent"]
    kinds = [kind for kind in sent if kind is not wire.Heartbeat]
    assert kinds == [wire.Wait, wire.Watch, wire.Unwatch]


def test_a_get_of_an_id_with_progress_alone_waits_for_its_end(subject):
    name = f"progress-{os.urandom(4).hex()}"
    backend = subject.app.backend
    backend.store_result(name, {"done": 1}, "HALF")
    found = []
    result = subject.app.AsyncResult(name)
    waiting = threading.Thread(target=lambda: found.append(result.get(timeout=WAIT)))
    waiting.start()
    wait_until(lambda: watches(subject) == 1)
    backend.store_result(name, "all", "SUCCESS")
    waiting.join(WAIT)
    assert found == ["all"]


@knows_all_waiters
def test_who_wants_every_change_hears_of_it_beside_one_who_waits_for_the_end(subject):
    name = f"token-{os.urandom(4).hex()}"
    found, seen = [], []
    first, second = subject.app.AsyncResult(name), subject.app.AsyncResult(name)
    subject.slow.apply_async((2.0, "value"), task_id=name, countdown=1)
    waiting = threading.Thread(target=lambda: found.append(first.get(timeout=WAIT)))
    waiting.start()
    wait_until(lambda: name in subject.app.backend.result_consumer._watched)
    with pytest.raises(CeleryTimeout):
        second.get(timeout=0.1)
    assert second.get(timeout=WAIT, on_message=seen.append) == "value"
    waiting.join(WAIT)
    assert found == ["value"]
    assert seen[-1]["status"] == "SUCCESS"


def test_a_get_is_woken_by_the_result_and_never_sleeps(subject, monkeypatch):
    slept = []
    monkeypatch.setattr(asynchronous, "sleep", slept.append)
    assert subject.slow.delay(0.3, "value").get(timeout=WAIT) == "value"
    assert group(subject.echo.s(number) for number in range(3))().get(timeout=WAIT) == [0, 1, 2]
    assert slept == []


def test_a_group_is_one_watch_and_is_not_polled(subject, monkeypatch):
    result = group(subject.slow.s(0.2 * number, number) for number in range(8))()
    sent = requests(subject, monkeypatch)
    assert result.get(timeout=WAIT) == list(range(8))
    assert sent.count(wire.Watch) == 1
    assert sent.count(wire.Get) == 0


def test_members_of_a_group_come_as_they_end(subject):
    result = group(subject.slow.s(1.5, "late"), subject.echo.s("soon"))()
    began = [meta["result"] for _, meta in result.iter_native(timeout=WAIT)]
    assert began == ["soon", "late"]


def test_a_set_of_results_and_a_nested_group(subject):
    results = ResultSet([subject.echo.delay(number) for number in range(4)])
    assert sorted(meta["result"] for _, meta in results.iter_native(timeout=WAIT)) == [0, 1, 2, 3]
    nested = group(subject.echo.s(1), group(subject.echo.s(2), subject.echo.s(3)))()
    assert nested.get(timeout=WAIT) == [1, [2, 3]] or nested.get(timeout=WAIT) == [1, 2, 3]


def test_join_native(subject):
    result = group(subject.echo.s(number) for number in range(20))()
    assert result.join_native(timeout=WAIT) == list(range(20))


def test_a_failed_member_is_raised(subject):
    result = group(subject.echo.s(1), subject.fail.s("a member"))()
    with pytest.raises(ValueError, match="a member"):
        result.get(timeout=WAIT)
    result.forget()


def test_a_result_that_is_there_already(subject):
    result = subject.echo.delay("there")
    wait_until(lambda: result.state == "SUCCESS")
    assert subject.app.AsyncResult(result.id).get(timeout=WAIT) == "there"


@knows_all_waiters
def test_then_is_called_by_who_waits_for_another_result(subject):
    called = []
    first = subject.echo.delay("first")
    first.then(lambda result: called.append(result.result))
    wait_until(lambda: subject.app.AsyncResult(first.id).state == "SUCCESS")
    assert subject.slow.delay(0.3, "second").get(timeout=WAIT) == "second"
    assert called == ["first"]


def test_a_timeout_leaves_no_watch(subject):
    result = subject.echo.apply_async((1,), queue="nobody")
    began = time.monotonic()
    with pytest.raises(CeleryTimeout):
        result.get(timeout=0.2)
    assert time.monotonic() - began >= 0.2
    assert watches(subject) == 0
    assert not subject.app.backend._pending_results.concrete
    many = group(subject.echo.s(number).set(queue="nobody") for number in range(3))()
    with pytest.raises(CeleryTimeout):
        many.get(timeout=0.2)
    assert watches(subject) == 0


def test_a_result_may_be_waited_for_again_after_a_timeout(subject):
    result = subject.slow.delay(1.0, "late")
    with pytest.raises(CeleryTimeout):
        result.get(timeout=0.1)
    assert result.get(timeout=WAIT) == "late"
    many = group(subject.slow.s(1.0, number) for number in range(3))()
    with pytest.raises(CeleryTimeout):
        many.get(timeout=0.1)
    assert many.get(timeout=WAIT) == [0, 1, 2]


@knows_all_waiters
def test_forget_and_garbage_leave_nothing(subject):
    consumer = subject.app.backend.result_consumer
    result = subject.echo.apply_async((1,), queue="nobody")
    result.then(lambda _: None)
    assert result.id in consumer._wanted
    result.forget()
    assert result.id not in consumer._wanted
    dropped = subject.echo.apply_async((1,), queue="nobody")
    dropped.then(lambda _: None, weak=True)
    name = dropped.id
    del dropped
    gc.collect()
    assert name not in consumer._wanted


def test_a_watch_ends_when_its_result_is_collected_while_another_waits(subject):
    name = f"unseen-{os.urandom(4).hex()}"
    backend = subject.app.backend
    unseen = AsyncResult(name, app=subject.app)
    unseen.then(lambda _: None, weak=True)
    waiting = threading.Thread(target=lambda: subject.slow.delay(2.0).get(timeout=WAIT))
    waiting.start()
    wait_until(lambda: name in backend.result_consumer._watched)
    del unseen
    gc.collect()
    assert name not in backend.result_consumer._watched
    waiting.join(WAIT)


def test_twelve_threads_wait_on_one_backend(subject):
    found, wrong = [], []

    def wait(number):
        try:
            for round_ in range(20):
                value = [number, round_]
                found.append(subject.echo.delay(value).get(timeout=WAIT) == value)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT * 2)
    assert not wrong
    assert found == [True] * 240


@knows_all_waiters
def test_threads_wait_for_the_same_result(subject):
    result = subject.slow.delay(1.0, "shared")
    found = []

    def wait():
        found.append(subject.app.AsyncResult(result.id).get(timeout=WAIT))

    threads = [threading.Thread(target=wait) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert found == ["shared"] * 6


def test_a_thread_that_gives_up_does_not_end_the_waiting_of_another(subject):
    result = subject.slow.delay(1.5, "value")
    found = []
    waiting = threading.Thread(target=lambda: found.append(result.get(timeout=WAIT)))
    waiting.start()
    with pytest.raises(CeleryTimeout):
        result.get(timeout=0.3)
    waiting.join(WAIT)
    assert found == ["value"]


def test_on_message_hears_of_progress(subject, tmp_path):
    seen = []
    result = subject.slow.delay(0.5, 1)
    result.get(timeout=WAIT, on_message=lambda meta: seen.append(meta["status"]))
    assert seen[-1] == "SUCCESS"


def test_on_interval_is_called(subject):
    called = []
    subject.slow.delay(1.5).get(timeout=WAIT, on_interval=lambda: called.append(1))
    assert called


def test_a_chosen_id_shows_the_run_that_was_sent_last(subject):
    name = f"token-{os.urandom(4).hex()}"
    for number in range(5):
        subject.echo.apply_async((number,), task_id=name)
        assert subject.app.AsyncResult(name).get(timeout=WAIT) == number


def test_a_forked_child_waits_on_a_connection_of_its_own(subject):
    result = subject.slow.delay(0.5, "parent")
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if subject.echo.delay("child").get(timeout=WAIT) == "child" else 1)
        finally:
            os._exit(2)
    assert result.get(timeout=WAIT) == "parent"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@knows_all_waiters
def test_waiting_goes_on_over_a_restart_of_the_broker():
    with ScratchBroker() as broker:
        subject = app_of(NAME, broker.url)
        name = "over-a-restart"
        found = []
        result = subject.app.AsyncResult(name)
        many = group(subject.echo.s(number) for number in range(3))
        waiting = threading.Thread(target=lambda: found.append(result.get(timeout=WAIT)))
        assert result.state == "PENDING"
        waiting.start()
        wait_until(lambda: watches(subject) == 1)
        broker.stop()
        broker.start()
        with worker_of(NAME, broker.url, "solo", 1):
            subject.echo.apply_async(("told",), task_id=name)
            waiting.join(WAIT)
            assert found == ["told"]
            assert many().get(timeout=WAIT) == [0, 1, 2]
        subject.app.close()


def test_the_first_connection_may_take_longer_than_a_look_at_the_interval():
    with ScratchBroker() as broker:
        subject = app_of(NAME, broker.url)
        result = subject.echo.apply_async((1,), queue="nobody")
        result.revoke()
        other = app_of(NAME, broker.url)
        os.kill(broker.pid, signal.SIGSTOP)
        # The time is what the test is about: the waiting looks up every second.
        going_on = threading.Timer(1.5, os.kill, (broker.pid, signal.SIGCONT))
        going_on.start()
        try:
            with pytest.raises(TaskRevokedError):
                other.app.AsyncResult(result.id).get(timeout=WAIT)
        finally:
            going_on.join()
        subject.app.close()
        other.app.close()


def test_an_end_while_the_connection_is_lost_is_not_missed():
    with ScratchBroker() as broker:
        subject = app_of(NAME, broker.url)
        other = app_of(NAME, broker.url)
        name = "missed"
        result = subject.app.AsyncResult(name)
        with pytest.raises(CeleryTimeout):
            result.get(timeout=0.2)
        found = []
        waiting = threading.Thread(target=lambda: found.append(result.get(timeout=WAIT)))
        waiting.start()
        link = subject.app.backend.client._link
        wait_until(lambda: name in subject.app.backend.result_consumer._watched)
        link._socket.shutdown(2)
        other.app.backend.store_result(name, "stored meanwhile", "SUCCESS")
        waiting.join(WAIT)
        assert found == ["stored meanwhile"]


def test_no_broker_is_an_error_and_no_hang():
    with ScratchBroker() as broker:
        url = broker.url
    subject = app_of(NAME, url)
    with pytest.raises(ConnectionError):
        subject.app.AsyncResult("nothing").get(timeout=WAIT)


def test_greenlets_wait(broker, worked):
    pytest.importorskip("gevent")
    script = """
from gevent import monkey; monkey.patch_all()
import gevent, results_subject as subject
from celery import group
jobs = [gevent.spawn(lambda n=n: subject.slow.delay(0.2, n).get(timeout=60)) for n in range(12)]
gevent.joinall(jobs, timeout=60)
assert [job.value for job in jobs] == list(range(12)), [job.exception for job in jobs]
assert group(subject.echo.s(n) for n in range(5))().get(timeout=60) == list(range(5))
called = []
subject.slow.delay(0.3, "then").then(lambda result: called.append(result.result))
with gevent.Timeout(60):
    while not called:
        gevent.sleep(0.02)
assert called == ["then"]
try:
    subject.echo.apply_async((1,), queue="nobody").get(timeout=0.3)
except Exception as error:
    assert "timed out" in str(error)
print("all came")
"""
    environment = {**os.environ, "CELERIAC_TEST_URL": broker.url}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    environment["PYTHONPATH"] = os.pathsep.join((str(HERE.parent.parent / "src"), str(HERE)))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT * 2,
        check=False,
    )
    assert done.stdout == "all came\n", done.stderr
