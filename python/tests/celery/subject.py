"""The app of the tests. The worker is a process of its own, as users run it."""

import json
import os
import signal
import time

from celery.app.backends import BACKEND_ALIASES
from celery.exceptions import Reject
from kombu.common import Broadcast

import celeriac._register  # noqa: F401 - the tests run without installing the package.
from celery import Celery

for scheme in ("celeriac", "celeriacs"):
    BACKEND_ALIASES[scheme] = "celeriac.celery.backend:CeleriacBackend"
URL = os.environ.get("CELERIAC_TEST_URL", "celeriac://127.0.0.1:1")
app = Celery("subject", broker=URL, backend=URL)
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = json.loads(os.environ.get("CELERIAC_TEST_OPTIONS", "{}"))
app.conf.update(json.loads(os.environ.get("CELERIAC_TEST_CONF", "{}")))
if "celeriac_test_broadcast" in app.conf:
    app.conf.task_queues = (Broadcast(app.conf["celeriac_test_broadcast"]),)


@app.task
def add(left, right):
    return left + right


@app.task
def fail():
    raise ValueError("the song has no end")


@app.task(bind=True, max_retries=2)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(bind=True, max_retries=1)
def again_soon(self):
    if self.request.retries:
        return self.request.retries
    raise self.retry(exc=ValueError("not yet"), countdown=3)


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def slow(seconds):
    time.sleep(seconds)
    return seconds


@app.task(track_started=True)
def slow_tracked(seconds):
    time.sleep(seconds)
    return seconds


@app.task(acks_late=True)
def slow_late(seconds):
    time.sleep(seconds)
    return seconds


@app.task(bind=True)
def replaced(self, number):
    raise self.replace(add.s(number, number))


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_late():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def die_early():
    os.kill(os.getpid(), signal.SIGKILL)


def mark(path):
    """Notes a run in a file, and counts the runs that it has seen."""
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)


@app.task(acks_late=True)
def mark_and_wait_once(path):
    runs = mark(path)
    if runs == 1:
        time.sleep(600)
    return runs


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_once_at(path, step):
    """The first run dies at a step of the backend that follows it."""
    if mark(path) == 1:
        setattr(app.backend, step, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    return 1


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def die_before_closing(self, path, bodies, runs):
    """The first run dies when it has sent the body of its chord, which has run so many times."""
    # A run before this one may have left it in this process.
    vars(app.backend).pop("_done", None)
    if mark(path) == 1:
        group, close = self.request.group, app.backend._done

        def die(closed, lease):
            if not closed.endswith(group):
                close(closed, lease)
                return
            while not (os.path.exists(bodies) and os.path.getsize(bodies) >= runs):
                time.sleep(0.01)
            # The worker reports the end of the body meanwhile.
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)

        app.backend._done = die
    return 1


@app.task
def note_error(path):
    mark(path)


@app.task
def note_body(numbers, path):
    mark(path)


@app.task(ignore_result=True)
def note_body_and_forget(numbers, path):
    mark(path)


@app.task(bind=True)
def note_body_and_retry(self, numbers, path):
    mark(path)
    raise self.retry(countdown=600)


@app.task(acks_late=True, reject_on_worker_lost=True)
def die_once(path):
    runs = mark(path)
    if runs == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return runs


@app.task(bind=True, acks_late=True)
def reject_once(self, path):
    runs = mark(path)
    if runs == 1:
        raise Reject("not now", requeue=True)
    return [runs, self.request.delivery_info["redelivered"]]


@app.task(acks_late=True)
def reject_for_good():
    raise Reject("never", requeue=False)


@app.task(acks_late=True)
def note(path, name):
    """Notes a run by its name in a file."""
    with open(path, "a") as file:
        file.write(f"{name}\n")
    time.sleep(0.01)


class OddError(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, one, two):
        super().__init__(one)
        self.two = two


@app.task
def odd(kind):
    """Ends in a way that a backend may not be able to store."""
    if kind == "big_result":
        return "x" * 900_000
    if kind == "huge_result":
        return "x" * 5_000_000
    if kind == "odd_result":
        return object()
    if kind == "set_result":
        return {1, 2}
    if kind == "big_error":
        raise ValueError("y" * 20_000_000)
    raise OddError("one", object())
