"""Celery's side of the bench: the application of the worker, and what drives it.

`python bench_tasks.py WHAT OPTIONS OUTPUT` with options in JSON; the outcome goes to the file
OUTPUT, in seconds: {"elapsed": 1.5, "latencies": [0.002]}. The broker's port is in
BENCH_REDIS_PORT; the worker makes the file BENCH_READY. """

import json
import multiprocessing
import os
import sys
import time
from datetime import datetime, timezone

from celery import Celery
from celery.signals import worker_ready

SERVER = f"redis://127.0.0.1:{os.environ['BENCH_REDIS_PORT']}"
# Results are alone in their database, so that its size is their number.
app = Celery("bench_tasks", broker=f"{SERVER}/0", backend=f"{SERVER}/1")
app.conf.update(
    result_expires=3600,
    worker_prefetch_multiplier=64,
    # A task is not lost with the worker that has it, as with every other system here.
    task_acks_late=True,
    # Monitoring costs, and nobody looks.
    worker_send_task_events=False,
    task_send_sent_event=False,
)


@worker_ready.connect
def tell(**_):
    open(os.environ["BENCH_READY"], "w").close()


@app.task(name="work")
def work(payload, length):
    return "r" * length


@app.task(name="lateness")
def lateness(due):
    return max(0.0, time.time() - due)


def produce(barrier, outcome, options, count):
    """A producer: a process with one connection. If it fails, nobody waits for it."""
    try:
        outcome.put(send(barrier, options, count))
    except BaseException as error:
        barrier.abort()
        outcome.put(error)
        raise


def send(barrier, options, count):
    """Sends so many tasks in batches; returns when the last was sent and how long each batch
    took."""
    payload, batch = "p" * options["payload"], options["batch"]
    latencies = []
    with app.producer_pool.acquire(block=True) as producer:
        # Connections are opened before the time begins.
        producer.connection.default_channel.client.ping()
        app.backend.client.ping()
        barrier.wait()
        while count > 0:
            begun = time.monotonic()
            size = min(batch, count)
            if batch > 1:
                with producer.batch(size):
                    for _ in range(size):
                        work.apply_async((payload, options["result"]), producer=producer)
            else:
                work.apply_async((payload, options["result"]), producer=producer)
            count -= size
            latencies.append(time.monotonic() - begun)
    return time.monotonic(), latencies


def enqueue(options):
    """Producers alone; with `completed` until so many more results are there."""
    context = multiprocessing.get_context("fork")
    tasks, producers = options["tasks"], options["producers"]
    barrier, outcome = context.Barrier(producers + 1), context.Queue()
    for index in range(producers):
        share = tasks // producers + (index < tasks % producers)
        context.Process(target=produce, args=(barrier, outcome, options, share), daemon=True).start()
    before = app.backend.client.dbsize()
    barrier.wait()
    since, until, latencies = time.monotonic(), 0.0, []
    for _ in range(producers):
        sent = outcome.get()
        if isinstance(sent, BaseException):
            raise sent
        ended, taken = sent
        until, latencies = max(until, ended), latencies + taken
    if options.get("completed"):
        while app.backend.client.dbsize() - before < tasks:
            # Asking more often would only slow down whom it asks.
            time.sleep(0.002)
        until = time.monotonic()
        check_result(options["result"])
    return {"elapsed": until - since, "latencies": latencies}


def check_result(length):
    """A result is where its reader would look for it."""
    task_id = app.backend.client.randomkey().decode().removeprefix("celery-task-meta-")
    if len(app.AsyncResult(task_id).get(timeout=10)) != length:
        raise SystemExit("a result is not whole")


def roundtrip(options):
    latencies = []
    for task in range(options["tasks"] + 10):
        begun = time.monotonic()
        work.delay("p" * 200, 64).get(timeout=30)
        latencies.append(time.monotonic() - begun)
    # The first ones meet connections that are not yet open.
    latencies = latencies[10:]
    return {"elapsed": sum(latencies), "latencies": latencies}


def schedule(options):
    waiting, due, over = options["waiting"], options["due"], options["over"]
    later = datetime.fromtimestamp(time.time() + 7200, timezone.utc)
    with app.producer_pool.acquire(block=True) as producer:
        with producer.batch(100):
            for _ in range(waiting):
                lateness.apply_async((0,), eta=later, producer=producer)
        # The worker holds them in its memory, and takes what falls due only after them.
        while producer.connection.default_channel.client.llen("celery") > 0:
            # The worker alone says when it has them, by taking them.
            time.sleep(0.05)
        first = time.time() + 2 + due / 500
        results = []
        with producer.batch(100):
            for task in range(due):
                at = first + over * task / due
                eta = datetime.fromtimestamp(at, timezone.utc)
                results.append(lateness.apply_async((at,), eta=eta, producer=producer))
    since = time.monotonic()
    latencies = [result.get(timeout=60 + over) for result in results]
    return {"elapsed": time.monotonic() - since, "latencies": latencies}


if __name__ == "__main__":
    what, options, output = sys.argv[1:]
    outcome = {"enqueue": enqueue, "roundtrip": roundtrip, "schedule": schedule}[what](json.loads(options))
    with open(output, "w") as file:
        json.dump(outcome, file)
