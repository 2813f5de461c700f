"""The app of `bench/with_celery.py`, for its producers and its workers. `BENCH_URL` names the
broker, and `BENCH_RESULTS` the place of the results."""

import json
import os

from celery.app.backends import BACKEND_ALIASES

import celeriac._register  # noqa: F401 - the bench runs without installing the package.
from celery import Celery

BACKEND_ALIASES["celeriac"] = "celeriac.celery.backend:CeleriacBackend"
app = Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_RESULTS"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    # Celeriac and Redis ignore the option of RabbitMQ. Without it a publish waits for nothing.
    broker_transport_options={
        "confirm_publish": True,
        **json.loads(os.environ.get("BENCH_OPTIONS", "{}")),
    },
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "64")),
)


@app.task(name="bench.nothing")
def nothing(text):
    """Does nothing."""
