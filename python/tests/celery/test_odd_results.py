"""Results, errors and messages that cannot be stored as they are end their task, and no worker."""

from __future__ import annotations

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kit import WAIT, until, worker


@pytest.mark.parametrize(
    "kind", ["huge_result", "odd_result", "set_result", "big_error", "odd_error"]
)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_cannot_be_stored_fails_its_task_alone(apps, quick_broker, pool, kind):
    queue = f"odd-{pool}-{kind}"
    with worker(quick_broker, "-c", "1", "-P", pool, "-Q", queue):
        result = apps.odd.apply_async((kind,), queue=queue)
        until(lambda: result.state == "FAILURE", "the end")
        assert isinstance(result.result, Exception)
        assert apps.add.apply_async((1, 1), queue=queue).get(timeout=WAIT) == 2


def test_content_that_the_worker_does_not_accept_is_rejected(apps, quick_broker):
    with worker(quick_broker, "-c", "1", "-Q", "pickled") as running:
        result = apps.add.apply_async((1, 1), queue="pickled", serializer="pickle")
        until(lambda: result.state == "FAILURE", "the end")
        running.says("pickle")
        assert apps.add.apply_async((1, 1), queue="pickled").get(timeout=WAIT) == 2
