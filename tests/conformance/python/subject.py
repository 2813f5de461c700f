"""The subject of the conformance kit: takes orders on its standard input and prints what it sees.
See the kit's README."""

import json
import os
import queue
import signal
import sys
import threading
import time

from celeriac.v1 import task_pb2
from celeriac_client import CeleriacError, Failure, Later, Producer, Worker, ended, make_task, read_json, state_name

GRACE_SECONDS = 2
printing = threading.Lock()


def say(**line):
    with printing:
        print(json.dumps(line), flush=True)


def say_error(id, error):
    named = {} if id is None else {"id": id}
    say(**named, error=error.name, retryable=error.retryable)


class Handlers:
    """The handlers that a worker of the kit may have. `hold` waits for the order `release`."""

    NAMES = ("echo", "fail", "later", "progress", "hold")

    def __init__(self):
        self._lock = threading.Lock()
        self._released = {}

    def of(self, names):
        return {name: self._announced(getattr(self, name)) for name in names if name in self.NAMES}

    def release(self, id):
        """The order may come before the handler begins."""
        self._release_of(id).set()

    def echo(self, _context, value=None):
        return value

    def fail(self, _context, kind, message, final=False):
        raise Failure(kind, message, final)

    def later(self, _context, after_ms):
        raise Later(after_ms)

    def progress(self, context, meta):
        context.progress(meta, state="HALF")

    def hold(self, context):
        released = self._release_of(context.id)
        while not released.wait(0.01):
            if context.is_told_to_stop:
                say(stopped=context.id)
                raise Failure("stopped", "the handler was told to stop")
        return "released"

    def _release_of(self, id):
        with self._lock:
            return self._released.setdefault(id, threading.Event())

    def _announced(self, handler):
        def announced(context, *args, **kwargs):
            say(began=context.id, attempt=context.attempt)
            return handler(context, *args, **kwargs)

        return announced


class Orders:
    """Each method begins an order. One thread begins them, in turn; one thread tells what came of
    them.

    What comes is told in the order in which it came: the thread that reads puts it into `tells`.
    """

    def __init__(self, ends):
        self.handlers = Handlers()
        self.worker = None
        self.producer = None
        self._ends = ends
        self._begun = queue.SimpleQueue()
        self._tells = queue.SimpleQueue()
        self._short = []
        self._beginner = threading.Thread(target=self._begin_all, daemon=True)
        self._teller = threading.Thread(target=self._tell_all, daemon=True)
        self._beginner.start()
        self._teller.start()

    def begin(self, order):
        self._begun.put(order)

    def finish(self, seconds):
        """Gives what was begun some time to be answered, but for what may take any time."""
        until = time.monotonic() + seconds
        self._begun.put(None)
        self._beginner.join(seconds)
        for thread in self._short:
            thread.join(max(0, until - time.monotonic()))
        self._tells.put(None)
        self._teller.join(max(0, until - time.monotonic()))

    def _begin_all(self):
        while order := self._begun.get():
            try:
                getattr(self, "do_" + order["do"])(order)
            except CeleriacError as error:
                for id in ids_of(order):
                    say_error(id, error)

    def _tell_all(self):
        while tell := self._tells.get():
            tell()

    def _follow(self, order, pending, tell):
        """Tells when the answer comes. The thread is there for the answer that does not come in
        time."""

        def told():
            try:
                tell(pending.result())
            except CeleriacError as error:
                for id in ids_of(order):
                    say_error(id, error)

        pending.then(lambda: self._tells.put(told))
        waits = threading.Thread(target=pending.wait, daemon=True)
        waits.start()
        if order["do"] != "result":
            self._short.append(waits)

    def _client(self):
        self.producer = self.producer or Producer()
        return self.producer

    def do_submit(self, order):
        pending = self._client().submit(task_of(order))
        self._follow(order, pending, lambda kind: say(id=order["id"], submitted=kind))

    def do_submit_many(self, order):
        def tell(outcomes):
            for id, outcome in zip(ids_of(order), outcomes):
                if isinstance(outcome, CeleriacError):
                    say_error(id, outcome)
                else:
                    say(id=id, submitted=outcome)

        self._follow(order, self._client().submit_many([task_of(task) for task in order["tasks"]]), tell)

    def do_get(self, order):
        pending = self._client().get([order["id"]])
        self._follow(order, pending, lambda infos: say(id=order["id"], **state_and_progress(infos[0])))

    def do_result(self, order):
        pending = self._client().wait([order["id"]], order.get("timeout_ms", 30_000) / 1000)
        self._follow(order, pending, lambda reply: say(id=order["id"], **result_of(reply[1][0])))

    def do_watch(self, order):
        last = None

        def tell():
            nonlocal last
            try:
                info = next(states)
            except CeleriacError as error:
                say_error(order["id"], error)
                return
            if state_name(info.state) != last:
                last = state_name(info.state)
                say(id=order["id"], sees=last)
            if ended(info.state):
                states.close()

        states = iter(self._client().watch(order["id"], told=lambda: self._tells.put(tell)))

    def do_cancel(self, order):
        pending = self._client().cancel([order["id"]], force=order.get("force", False))
        self._follow(order, pending, lambda kinds: say(id=order["id"], cancelled=kinds[0]))

    def do_forget(self, order):
        def tell(errors):
            if errors[0]:
                raise errors[0]
            say(id=order["id"], forgotten=True)

        self._follow(order, self._client().forget([order["id"]]), tell)

    def do_work(self, order):
        handlers = self.handlers.of(order["names"])
        self.worker = Worker(handlers, order["queues"], order.get("concurrency", 1), grace=GRACE_SECONDS).start()
        threading.Thread(target=self._end_with, args=(self.worker,), daemon=True).start()

    def _end_with(self, worker):
        try:
            worker.join()
            self._ends.put("the worker has ended, perhaps by an order of the broker")
        except CeleriacError as error:
            say_error(None, error)


def ids_of(order):
    return [task["id"] for task in order["tasks"]] if "tasks" in order else [order.get("id")]


def task_of(order):
    return make_task(order["name"], order.get("args", ()), order.get("kwargs"), order["id"], **order.get("options", {}))


def state_and_progress(info):
    seen = {"state": state_name(info.state)}
    if info.HasField("progress"):
        seen["progress"] = read_json(info.progress.meta)
    return seen


def result_of(info):
    if info.state == task_pb2.TASK_STATE_SUCCESS:
        return {"result": read_json(info.result, info.result_content_type)}
    if info.state == task_pb2.TASK_STATE_FAILURE:
        error = info.errors[-1] if info.errors else task_pb2.TaskError()
        return {"failed": error.kind, "message": error.message}
    if info.state == task_pb2.TASK_STATE_REVOKED:
        return {"revoked": info.revoked_reason}
    return {"state": state_name(info.state)}


def read_orders(orders, ends):
    """Orders that need the broker wait for their turn; those that end something are heard at
    once."""
    told_to_stop = False
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "release":
            orders.handlers.release(order["id"])
        elif order["do"] == "stop":
            told_to_stop = True
            ends.put("the order stop")
        else:
            orders.begin(order)
    # The end of the input after `stop` is no second wish.
    if not told_to_stop:
        ends.put("the end of the input")


def stop(worker, ends):
    """A second SIGTERM hands back at once what still runs."""
    worker.stop()
    threading.Thread(target=lambda: (ends.get(), worker.stop(grace=0)), daemon=True).start()
    try:
        worker.join()
    except CeleriacError as error:
        print("the broker does not take this worker:", error, file=sys.stderr)


def main():
    # SimpleQueue.put may be called by a handler of signals; an Event's set may not.
    ends = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: ends.put("SIGTERM"))
    orders = Orders(ends)
    threading.Thread(target=read_orders, args=(orders, ends), daemon=True).start()
    ends.get()
    orders.finish(GRACE_SECONDS)
    if orders.worker:
        stop(orders.worker, ends)
    if orders.producer:
        orders.producer.close()
    sys.stdout.flush()
    # A usual exit would wait for the thread that reads the input.
    os._exit(0)


if __name__ == "__main__":
    main()
