"""The app of the tests of results, for the tests and for the workers that they start."""

import os
import signal
import time
from pathlib import Path

from celery.app.backends import BACKEND_ALIASES
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import task_postrun

import celeriac._register
from celery import Celery

# The tests run without installing the package.
assert celeriac._register
BACKEND_ALIASES["celeriac"] = "celeriac.celery.backend:CeleriacBackend"
URL = os.environ.get("CELERIAC_TEST_URL", "celeriac://127.0.0.1:1")
NOTES = Path(os.environ.get("CELERIAC_TEST_NOTES", "/nonexistent"))
app = Celery("results", broker=URL, backend=os.environ.get("CELERIAC_TEST_RESULTS", URL))
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    result_extended=bool(os.environ.get("CELERIAC_TEST_EXTENDED")),
    result_compression=os.environ.get("CELERIAC_TEST_COMPRESSION"),
    result_expires=float(os.environ.get("CELERIAC_TEST_EXPIRES", 3600)),
    result_failure_expires=float(os.environ.get("CELERIAC_TEST_FAILURE_EXPIRES", 3600)),
    task_acks_late=bool(os.environ.get("CELERIAC_TEST_LATE")),
)
if os.environ.get("CELERIAC_TEST_NO_HOOK"):
    import celeriac.celery.hook

    celeriac.celery.hook.install = lambda: None


def note(name, text):
    """Leaves a line for the test."""
    with open(NOTES / name, "a") as file:
        file.write(f"{text}\n")


@task_postrun.connect
def read_own_result(task_id, task, **_):
    if task.name == "noted":
        note("postrun", f"{task_id} {app.AsyncResult(task_id).state}")


@app.task
def echo(value):
    return value


@app.task
def fail(text):
    raise ValueError(text)


@app.task(name="noted")
def noted(value):
    return value


@app.task(ignore_result=True)
def ignored(name):
    note(name, "ran")
    return "nobody reads this"


@app.task(bind=True, max_retries=2)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return self.request.retries


@app.task(bind=True)
def replaced(self, value):
    raise self.replace(echo.s(value))


@app.task
def ignores():
    raise Ignore


@app.task
def rejects():
    raise Reject("no", requeue=False)


@app.task(bind=True, acks_late=True)
def rejects_once(self):
    if not self.request.delivery_info["redelivered"]:
        raise Reject("later", requeue=True)
    return "the second time"


@app.task(soft_time_limit=1)
def too_long():
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "cut short"


@app.task(time_limit=1)
def far_too_long():
    time.sleep(30)


@app.task(acks_late=True, acks_on_failure_or_timeout=False)
def fails_without_ack():
    raise ValueError("not acknowledged")


@app.task(acks_late=False)
def dies():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True)
def dies_once(name):
    first = not (NOTES / name).exists()
    note(name, "ran")
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    return "the second time"


@app.task
def state_of(_, task_id):
    until = time.monotonic() + 15
    while app.AsyncResult(task_id).state == "PENDING" and time.monotonic() < until:
        time.sleep(0.02)
    return app.AsyncResult(task_id).state


@app.task
def note_failure(task_id):
    result = app.AsyncResult(task_id)
    note("errback", f"{result.state} {result.result!r}")


class _Ends(app.Task):
    def on_success(self, retval, task_id, args, kwargs):
        note("on_success", f"{task_id} {app.AsyncResult(task_id).state}")
        if args[0] == "die":
            os.kill(os.getpid(), signal.SIGKILL)


@app.task(base=_Ends, acks_late=True)
def ends(value):
    return value


@app.task
def long_text(size):
    return "x" * size


@app.task(bind=True)
def progress(self, name):
    while not (NOTES / name).exists():
        self.update_state(state="HALF", meta={"done": 1})
        time.sleep(0.05)
    return "all"


@app.task(bind=True)
def progress_once(self, name):
    self.update_state(state="HALF", meta={"done": 1})
    while not (NOTES / name).exists():
        time.sleep(0.02)
    return "all"


@app.task
def has_connection():
    """Whether the backend of this process has had to open a connection."""
    return app.backend.client._link._socket is not None


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def slow(seconds, value=None):
    time.sleep(seconds)
    return value


@app.task(acks_late=True)
def slow_late(seconds):
    time.sleep(seconds)
    return seconds
