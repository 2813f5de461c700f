"""The backend for `django.tasks`."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone

import pytest
from catalog import django_tasks as tasks
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import (
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultMismatch,
)
from django.tasks.signals import task_enqueued, task_finished, task_started

from celeriac.django import TaskBackend
from celeriac.django.backend import rank_of
from celeriac.django.results import error_of
from celeriac.info import TaskError


def ended(result, seconds=10.0):
    until = time.monotonic() + seconds
    while not result.is_finished:
        assert time.monotonic() < until, result
        time.sleep(0.02)
        result.refresh()
    return result


def test_a_task_runs_and_returns_its_value(worker):
    result = tasks.price.enqueue("Dynamite", tax=2)
    assert result.status == TaskResultStatus.READY
    assert result.enqueued_at is not None
    ended(result)
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == {"title": "Dynamite", "price": 12}
    assert result.attempts == 1
    assert result.worker_ids == [worker.instance]
    assert result.started_at <= result.finished_at


def test_get_result_shows_the_arguments(worker):
    result = ended(tasks.price.enqueue("Hello", tax=1.5))
    found = tasks.price.get_result(result.id)
    assert (found.args, found.kwargs) == (["Hello"], {"tax": 1.5})
    assert found.task == tasks.price
    assert found.backend == "default"


def test_asyncio(worker, app):
    async def story():
        result = await tasks.slow_price.aenqueue("abc")
        for _ in range(500):
            result = await tasks.slow_price.aget_result(result.id)
            if result.is_finished:
                break
            await asyncio.sleep(0.02)
        await app.aclose()
        return result

    assert asyncio.run(story()).return_value == "cba"


def test_an_error_keeps_its_class(worker):
    result = ended(tasks.order.enqueue("Thriller"))
    assert result.status == TaskResultStatus.FAILED
    assert len(result.errors) == 1
    assert result.errors[0].exception_class is tasks.OutOfStock
    assert "Thriller is out of stock" in result.errors[0].traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_wrong_arguments_fail(worker):
    result = ended(tasks.price.enqueue())
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is TypeError


def test_a_task_has_one_attempt_unless_the_options_say_more(worker):
    once = ended(tasks.attempt.enqueue(2))
    assert (once.status, once.attempts) == (TaskResultStatus.FAILED, 1)
    thrice = ended(tasks.patient.enqueue(2), 30)
    assert thrice.status == TaskResultStatus.SUCCESSFUL
    assert (thrice.return_value, thrice.attempts, len(thrice.errors)) == (2, 2, 1)


def test_unknown_results_and_results_of_other_tasks(worker, app):
    with pytest.raises(TaskResultDoesNotExist):
        tasks.price.get_result("nobody-enqueued-this")
    native = app.send_task("os.getcwd", queue="nobody-serves-this")
    with pytest.raises(TaskResultDoesNotExist):
        tasks.price.get_result(native.id)
    result = tasks.order.enqueue("Hello")
    with pytest.raises(TaskResultMismatch):
        tasks.price.get_result(result.id)


def test_run_after_waits(app):
    at = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=1)
    result = tasks.price.using(run_after=at, priority=37, queue_name="low").enqueue("Later")
    info = app.result(result.id).info()
    assert (str(info.state), info.eta, info.priority, info.queue) == ("SCHEDULED", at, 6, "low")
    found = tasks.price.get_result(result.id)
    assert found.status == TaskResultStatus.READY
    assert found.worker_ids == []
    assert (found.task.run_after, found.task.priority) == (at, 37)


def test_a_revoked_task_has_failed(app):
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    result = tasks.price.using(run_after=at).enqueue("Never")
    app.result(result.id).revoke(reason="the user left")
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class.__name__ == "TaskRevoked"
    assert "the user left" in result.errors[0].traceback


def test_priorities_are_ranked():
    ranks = [rank_of(priority) for priority in range(-100, 101)]
    assert (ranks[0], ranks[100], ranks[200]) == (0, 4, 9)
    assert ranks == sorted(ranks)
    assert {ranks.count(rank) for rank in range(10)} == {20, 21}


def test_what_django_refuses(app):
    with pytest.raises(InvalidTask):
        tasks.price.using(priority=101)
    with pytest.raises(InvalidTask):
        tasks.price.using(queue_name="unknown")
    with pytest.raises(TypeError):
        tasks.price.enqueue({1, 2})


def test_wrong_options_of_the_backend():
    with pytest.raises(InvalidTaskBackend, match="priority"):
        TaskBackend("wrong", {"OPTIONS": {"priority": 3}})
    with pytest.raises(InvalidTaskBackend, match="max_attempts"):
        TaskBackend("wrong", {"OPTIONS": {"max_attempts": 0}})
    with pytest.raises(InvalidTaskBackend, match="colour"):
        TaskBackend("wrong", {"OPTIONS": {"colour": "red"}})


def test_the_backend_offers_all_that_django_asks_for():
    backend = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert backend.check() == []


def test_signals_are_sent(worker):
    heard = []

    def hear(signal, task_result, **_):
        heard.append((signal, task_result.id, str(task_result.status)))

    signals = [task_enqueued, task_started, task_finished]
    for signal in signals:
        signal.connect(hear)
    try:
        result = ended(tasks.price.enqueue("Hello"))
        ended(tasks.slow_price.enqueue("Hello"))
    finally:
        for signal in signals:
            signal.disconnect(hear)
    assert heard[0] == (task_enqueued, result.id, "READY")
    assert [each[0] for each in heard if each[1] == result.id] == signals
    assert heard[-1][0] is task_finished
    assert heard[-1][2] == "SUCCESSFUL"


def test_eager_tasks(app):
    with app.eager():
        result = tasks.price.enqueue("Hello")
        result.refresh()
    assert result.return_value == {"title": "Hello", "price": 10}


def test_errors_that_are_no_exceptions_of_the_task():
    lost = error_of(TaskError("worker_lost", "the worker is gone", "", None, 1))
    assert lost.exception_class.__name__ == "TaskFailed"
    assert "worker_lost: the worker is gone" in lost.traceback
    text = "Traceback (most recent call last):\nValueError\n"
    assert error_of(TaskError("ValueError", "", text, None, 1)).exception_class is ValueError
