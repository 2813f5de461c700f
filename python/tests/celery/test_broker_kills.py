"""The broker is killed under load and starts again on its data. Every task runs once."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kit import until, worker

POLICY = {"max_retries": 100, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5}


class Load(threading.Thread):
    """Publishes tasks until it is told to stop, through every loss of the connection."""

    def __init__(self, apps, name, queue, marks):
        super().__init__(daemon=True)
        self.apps, self.prefix, self.queue, self.marks = apps, name, queue, marks
        self.published, self.errors, self.stopped = [], [], threading.Event()

    def run(self):
        number = 0
        while not self.stopped.is_set():
            number += 1
            name = f"{self.prefix}-{number}"
            try:
                self.apps.note.apply_async(
                    (str(self.marks), name), task_id=name, queue=self.queue, retry_policy=POLICY
                )
            except Exception as error:
                self.errors.append(error)
            else:
                self.published.append(name)
            time.sleep(0.01)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_every_task_runs_once(apps, quick_broker, tmp_path, pool):
    marks, queue = tmp_path / "marks", f"kills-{pool}"
    loads = [Load(apps, f"{pool}-{name}", queue, marks) for name in "ab"]
    options = ("-c", "2", "-P", pool, "-Q", queue)

    def runs():
        return Counter(marks.read_text().split()) if marks.exists() else Counter()

    with worker(quick_broker, *options) as first, worker(quick_broker, *options) as second:
        for load in loads:
            load.start()
        for _ in range(2):
            seen = len(runs())
            until(lambda seen=seen: len(runs()) > seen + 50, "further runs")
            said = [each.said() for each in (first, second)]
            quick_broker.kill()
            quick_broker.start()
            for each, before in zip((first, second), said, strict=True):
                each.is_back(quick_broker, before)
        for load in loads:
            load.stopped.set()
            load.join()
        published = {name for load in loads for name in load.published}
        until(lambda: published <= set(runs()), "every run", 60)
    assert [error for load in loads for error in load.errors] == []
    assert {name: count for name, count in runs().items() if count > 1} == {}
    states = {apps.app.AsyncResult(name).state for name in published}
    assert states == {"SUCCESS"}
