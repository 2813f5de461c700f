"""The app of the load under which a broker is killed. Each run says that it begins.

`CELERIAC_TEST_RUNS` is the address that hears of each run, in one line: the id and the lease that
the broker gave it, and the id, the name and the retries that Celery knows. The run goes on when the
answer is there, so that what hears of it knows the order.
"""

import json
import os
import socket
import threading
import time

from celery.app.backends import BACKEND_ALIASES
from celery.signals import task_prerun

import celeriac._register  # noqa: F401 - the tests run without installing the package.
from celeriac.celery.envelope import RUN
from celery import Celery

BACKEND_ALIASES["celeriac"] = "celeriac.celery.backend:CeleriacBackend"
URL = os.environ["CELERIAC_TEST_URL"]
app = Celery("load", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    # The broker is away for seconds, and a publish goes on until it is back.
    task_publish_retry_policy={
        "max_retries": 200,
        "interval_start": 0.05,
        "interval_step": 0.05,
        "interval_max": 0.3,
    },
)
heard = threading.local()


@task_prerun.connect
def tell(task, **_):
    """Says that a run begins, through a connection of this process and thread."""
    if getattr(heard, "pid", None) != os.getpid():
        host, _, port = os.environ["CELERIAC_TEST_RUNS"].rpartition(":")
        heard.pid, heard.line = os.getpid(), socket.create_connection((host, int(port)))
    request = task.request
    run = [*request.properties[RUN], request.id, task.name, request.retries]
    heard.line.sendall(json.dumps(run).encode() + b"\n")
    assert heard.line.recv(1) == b"\n"


@app.task
def early(number):
    """Acknowledged before it runs, as Celery does by default."""
    time.sleep(0.002)
    return number


@app.task(acks_late=True)
def late(number):
    """Acknowledged after it has run."""
    time.sleep(0.002)
    return number


@app.task(acks_late=True)
def long_late(number):
    """Runs while the broker is away."""
    time.sleep(0.5)
    return number


@app.task
def long_early(number):
    """As `long_late`, acknowledged before it runs."""
    time.sleep(0.5)
    return number


@app.task(bind=True, max_retries=3)
def again(self, number):
    """Asks for two more runs."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return number


@app.task(bind=True, max_retries=3, acks_late=True)
def again_late(self, number):
    """Asks for one more run at once."""
    if self.request.retries < 1:
        raise self.retry(countdown=0)
    return number


@app.task(bind=True)
def replaced(self, number):
    """Another task takes its id and its place."""
    raise self.replace(late.s(number))


@app.task
def fails(number):
    """Ends with an error."""
    raise ValueError(f"the song {number} has no end")


@app.task
def plus(left, right):
    """A step of a chain."""
    return left + right


@app.task
def total(numbers):
    """The body of a chord."""
    return sum(numbers)
