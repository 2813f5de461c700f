"""Results of tasks: each pool, both kinds of acknowledgement, with the hook and without it."""

import os

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

import celery.worker.request
from billiard.exceptions import WorkerLostError
from celery.exceptions import TimeLimitExceeded
from running import WAIT, app_of, wait_until, worker_of

from celeriac.app import Celeriac
from celeriac.client import Client
from celeriac.info import State
from celeriac.payload import NotDecodable
from celeriac.scratch_broker import ScratchBroker
from celery import chord, group

NAME = "results_subject"
KINDS = {
    "prefork": {},
    "prefork late": {"CELERIAC_TEST_LATE": "1"},
    "prefork without hook": {"CELERIAC_TEST_NO_HOOK": "1"},
    "threads": {},
    "threads late": {"CELERIAC_TEST_LATE": "1"},
    "solo": {},
    "gevent": {},
    "prefork compressed": {"CELERIAC_TEST_COMPRESSION": "gzip"},
    "prefork extended": {"CELERIAC_TEST_EXTENDED": "1"},
}


@pytest.fixture(scope="module")
def broker():
    with ScratchBroker() as broker:
        yield broker


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    if "gevent" in request.param:
        pytest.importorskip("gevent")
    return request.param


@pytest.fixture(scope="module")
def notes(kind, tmp_path_factory):
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def subject(broker, kind, notes):
    settings = {"CELERIAC_TEST_NOTES": str(notes), **KINDS[kind]}
    settings.pop("CELERIAC_TEST_NO_HOOK", None)
    made = app_of(NAME, broker.url, **settings)
    pool = kind.split()[0]
    with worker_of(
        NAME, broker.url, pool, **{**KINDS[kind], "CELERIAC_TEST_NOTES": str(notes)}
    ) as process:
        assert made.echo.delay("ready").get(timeout=WAIT) == "ready"
        made.process = process
        yield made
    made.app.close()


@pytest.fixture
def only_prefork(kind):
    if not kind.startswith("prefork"):
        pytest.skip("the process of the worker would die with its task")


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_values(subject):
    for value in (None, 0, "text", [1, {"a": None}], 1.5, "x" * 70_000):
        assert subject.echo.delay(value).get(timeout=WAIT) == value


def test_many_results_at_once(subject):
    results = [subject.echo.delay(number) for number in range(200)]
    assert [result.get(timeout=WAIT) for result in results] == list(range(200))


def test_a_failure_has_its_exception_and_traceback(subject):
    result = subject.fail.delay("the song has no end")
    with pytest.raises(ValueError, match="the song has no end"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE"
    assert "ValueError: the song has no end" in result.traceback
    with pytest.raises(ValueError, match="the song has no end"):
        subject.app.AsyncResult(result.id).get(timeout=WAIT)


def test_the_broker_shows_the_error_of_a_failure(subject, broker):
    result = subject.fail.delay("as listed")
    assert isinstance(result.get(timeout=WAIT, propagate=False), ValueError)
    with Client(broker.url) as client:
        info = client.get(result.id)
    assert info.state is State.FAILURE
    assert (info.errors[-1].kind, info.errors[-1].message) == ("ValueError", "as listed")


def test_retries_and_replacement(subject):
    assert subject.again.delay().get(timeout=WAIT) == 2
    assert subject.replaced.delay("other").get(timeout=WAIT) == "other"


def test_ignored_results_are_not_kept(subject, notes):
    result = subject.ignored.delay("ignored")
    wait_until(lambda: lines(notes / "ignored"))
    subject.echo.delay(1).get(timeout=WAIT)
    wait_until(lambda: result.state == "PENDING")


def test_ignore_leaves_no_state(subject):
    result = subject.ignores.delay()
    subject.echo.delay(1).get(timeout=WAIT)
    wait_until(lambda: result.state == "PENDING")


def test_reject(subject, kind):
    if "without" in kind and not hasattr(celery.worker.request.Request, "_success_was_stored"):
        pytest.skip("Celery before 5.7 tells nobody of a rejection")
    result = subject.rejects.delay()
    wait_until(lambda: result.state == "FAILURE")


def test_reject_with_requeue(subject):
    assert subject.rejects_once.delay().get(timeout=WAIT) == "the second time"


def test_a_failure_that_is_not_acknowledged_keeps_its_result(subject):
    result = subject.fails_without_ack.delay()
    with pytest.raises(ValueError, match="not acknowledged"):
        result.get(timeout=WAIT)


def test_a_callback_finds_the_result_of_its_parent(subject):
    parent = subject.echo.s(1).set(task_id=f"parent-{os.urandom(4).hex()}")
    parent.link(subject.state_of.s(parent.options["task_id"]))
    result = parent.delay()
    result.get(timeout=WAIT)
    assert result.children[0].get(timeout=WAIT) == "SUCCESS"


def test_an_errback_finds_the_failure(subject, notes):
    result = subject.fail.apply_async(("told",), link_error=subject.note_failure.s())
    with pytest.raises(ValueError, match="told"):
        result.get(timeout=WAIT)
    wait_until(lambda: lines(notes / "errback"))
    assert lines(notes / "errback")[-1] == "FAILURE ValueError('told')"


def test_a_task_reads_its_own_result_at_its_end(subject, notes):
    first, second = subject.noted.delay(1), subject.ends.delay("live")
    first.get(timeout=WAIT)
    second.get(timeout=WAIT)
    wait_until(lambda: f"{first.id} SUCCESS" in lines(notes / "postrun"))
    wait_until(lambda: f"{second.id} SUCCESS" in lines(notes / "on_success"))


def test_progress_is_seen_before_the_end(subject, notes):
    name = f"progress-{os.urandom(4).hex()}"
    result = subject.progress.delay(name)
    wait_until(lambda: result.state == "HALF")
    assert result.info == {"done": 1}
    (notes / name).touch()
    assert result.get(timeout=WAIT) == "all"


def test_a_progress_that_is_told_once_stays_until_the_end(subject, notes):
    for _ in range(10):
        name = f"progress-{os.urandom(4).hex()}"
        result = subject.progress_once.delay(name)
        wait_until(lambda result=result: result.state == "HALF")
        seen = {result.state for _ in range(20)}
        (notes / name).touch()
        assert result.get(timeout=WAIT) == "all"
        assert seen == {"HALF"}


def test_chords_and_groups_and_chains(subject):
    header = [subject.echo.s(number) for number in range(5)]
    assert chord(header)(subject.total.s()).get(timeout=WAIT) == 10
    assert group(header)().get(timeout=WAIT) == [0, 1, 2, 3, 4]
    failing = chord([subject.echo.s(1), subject.fail.s("in a chord")])(subject.total.s())
    with pytest.raises(Exception, match="in a chord"):
        failing.get(timeout=WAIT)
    chain = (subject.fail.s("in a chain") | subject.echo.s())()
    with pytest.raises(ValueError, match="in a chain"):
        chain.get(timeout=WAIT)


def test_a_reused_id_shows_the_new_run(subject):
    name = f"token-{os.urandom(4).hex()}"
    for number in range(3):
        result = subject.echo.apply_async((number,), task_id=name)
        assert result.get(timeout=WAIT) == number


def test_soft_time_limit(subject, only_prefork):
    assert subject.too_long.delay().get(timeout=WAIT) == "cut short"


def test_hard_time_limit(subject, only_prefork):
    result = subject.far_too_long.delay()
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=WAIT)


def test_an_early_acknowledged_task_whose_process_dies_is_a_failure(subject, only_prefork):
    with pytest.raises(WorkerLostError):
        subject.dies.delay().get(timeout=WAIT)


def test_a_late_acknowledged_task_whose_process_dies_runs_again(subject, notes, only_prefork):
    name = f"dies-{os.urandom(4).hex()}"
    assert subject.dies_once.delay(name).get(timeout=WAIT) == "the second time"
    assert len(lines(notes / name)) == 2


def test_a_success_outlives_the_process_that_dies_after_it(subject, notes, only_prefork):
    result = subject.ends.delay("die")
    assert result.get(timeout=WAIT) == "die"

    def noted():
        return [line for line in lines(notes / "on_success") if result.id in line]

    # The task leaves its note after the result, and dies then.
    wait_until(noted)
    subject.echo.delay(1).get(timeout=WAIT)
    assert noted() == [f"{result.id} SUCCESS"]


def test_extended_results(subject, kind):
    if "extended" not in kind:
        pytest.skip("only with result_extended")
    result = subject.echo.delay(7)
    result.get(timeout=WAIT)
    assert (result.name, result.args) == (f"{NAME}.echo", [7])


def test_a_program_without_celery_reads_results_of_celery(subject, broker, kind):
    result = subject.echo.delay({"song": [1, None]})
    result.get(timeout=WAIT)
    app = Celeriac(broker.url)
    found = app.result(result.id)
    if "compressed" in kind:
        with pytest.raises(NotDecodable, match="result_compression; read it in that app"):
            found.get(timeout=WAIT)
    else:
        assert found.get(timeout=WAIT) == {"song": [1, None]}
    app.close()


@pytest.mark.parametrize("has_hook", [True, False])
def test_a_process_of_the_pool_needs_no_connection_for_its_results(broker, has_hook):
    settings = {} if has_hook else {"CELERIAC_TEST_NO_HOOK": "1"}
    with ScratchBroker() as own:
        subject = app_of(NAME, own.url)
        with worker_of(NAME, own.url, "prefork", 1, **settings):
            found = [subject.has_connection.delay().get(timeout=WAIT) for _ in range(3)]
        subject.app.close()
    assert found == ([False] * 3 if has_hook else [False, True, True])


def test_a_killed_worker_fails_its_early_task_and_gives_back_its_late_one():
    quick = ("--lease-ms", "4000", "--heartbeat-ms", "1000")
    with ScratchBroker(*quick) as own, Client(own.url) as client:
        subject = app_of(NAME, own.url)
        with worker_of(NAME, own.url, "prefork", 2) as process:
            early = subject.slow.delay(8)
            late = subject.slow_late.delay(8)
            for result in (early, late):
                wait_until(lambda name=result.id: client.get(name).state is State.STARTED)
            process.kill()
            process.wait()
        with pytest.raises(WorkerLostError):
            early.get(timeout=WAIT)
        with worker_of(NAME, own.url, "prefork", 1):
            assert late.get(timeout=WAIT) == 8
        subject.app.close()


def test_results_and_failures_expire_by_their_own_times(broker):
    settings = {"CELERIAC_TEST_EXPIRES": "3600", "CELERIAC_TEST_FAILURE_EXPIRES": "1"}
    with ScratchBroker() as own:
        subject = app_of(NAME, own.url, **settings)
        with worker_of(NAME, own.url, "prefork", 1, **settings):
            kept, gone = subject.echo.delay(1), subject.fail.delay("for a second")
            assert kept.get(timeout=WAIT) == 1
            with pytest.raises(ValueError, match="for a second"):
                gone.get(timeout=WAIT)
            wait_until(lambda: subject.app.AsyncResult(gone.id).state == "PENDING")
            assert subject.app.AsyncResult(kept.id).state == "SUCCESS"
        subject.app.close()


def test_results_go_to_another_broker_than_the_tasks():
    with ScratchBroker() as tasks, ScratchBroker() as results:
        environment = {"CELERIAC_TEST_RESULTS": results.url}
        subject = app_of(NAME, tasks.url, **environment)
        # A result object keeps what it has read.
        read = subject.app.AsyncResult
        with worker_of(NAME, tasks.url, "prefork", 1, **environment):
            for number in range(3):
                subject.echo.apply_async((number,), task_id="token")
                wait_until(lambda number=number: read("token").result == number)
        subject.app.close()
