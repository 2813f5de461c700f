"""The subject of the conformance kit for the worker: takes orders on its standard input, and prints
what its handlers see. The kit's README says what each order and each handler does.

`CELERIAC_SUBJECT_POOL` names the pool. Handlers and orders meet in a folder, because handlers may
run in child processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celeriac import Celeriac, Context, Retry, SoftTimeLimitExceeded, TaskCancelled
from celeriac.errors import CeleriacError

FOLDER = Path(os.environ.setdefault("CELERIAC_SUBJECT_FOLDER", tempfile.mkdtemp()))
NAMES = ("echo", "fail", "later", "progress", "hold")


class FinalError(Exception):
    """The base class of the errors after which no attempt follows."""


app = Celeriac()


def say(**line: Any) -> None:
    # One write for each line, so that lines of several processes do not mix.
    os.write(1, json.dumps(line).encode() + b"\n")


def begun(context: Context) -> None:
    say(began=context.task_id, attempt=context.attempt)


@app.task(name="echo")
def echo(value: Any = None, *, context: Context) -> Any:
    begun(context)
    return value


@app.task(name="fail", no_retry_for=FinalError)
def fail(kind: str, message: str, final: bool = False, *, context: Context) -> None:
    begun(context)
    raise type(kind, (FinalError if final else Exception,), {})(message)


@app.task(name="later")
def later(after_ms: int, *, context: Context) -> None:
    begun(context)
    raise Retry(countdown=after_ms / 1000)


@app.task(name="progress")
def progress(meta: Any, *, context: Context) -> None:
    begun(context)
    context.progress("HALF", meta)


@app.task(name="hold")
def hold(context: Context) -> str:
    with witness(context.task_id):
        try:
            begun(context)
            wait_for_release(context)
        except (SoftTimeLimitExceeded, TaskCancelled):
            say(stopped=context.task_id)
            raise type("stopped", (Exception,), {})("the handler was told to stop") from None
    return "released"


def wait_for_release(context: Context) -> None:
    while not (FOLDER / context.task_id).exists():
        context.check()
        time.sleep(0.005)


#: Prints the second argument when the pipe of the first one ends without a byte.
WITNESS = "import os, sys; os.read(int(sys.argv[1]), 1) or os.write(1, sys.argv[2].encode())"


@contextmanager
def witness(task_id: str) -> Iterator[None]:
    """A child process that is killed cannot say that its handler was stopped. Another process says
    it, when the death closes their pipe."""
    if os.environ.get("CELERIAC_SUBJECT_POOL") != "processes":
        yield
        return
    reader, writer = os.pipe()
    words = json.dumps({"stopped": task_id}) + "\n"
    command = [sys.executable, "-c", WITNESS, str(reader), words]
    subprocess.Popen(command, pass_fds=[reader])
    os.close(reader)
    try:
        yield
    finally:
        os.write(writer, b"!")
        os.close(writer)


class Subject:
    """Begins what the kit orders."""

    def __init__(self) -> None:
        self.worker: Any = None
        self.ended = threading.Event()

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        threading.Thread(target=self._read, daemon=True).start()
        while not self.ended.wait(0.05):
            continue
        if self.worker is not None:
            try:
                self.worker.stop()
                self.worker.join()
            except CeleriacError as error:
                print("the broker does not take this worker:", error, file=sys.stderr)
        os._exit(0)

    def stop(self) -> None:
        if self.ended.is_set() and self.worker is not None:
            self.worker.stop(now=True)
        self.ended.set()

    def _read(self) -> None:
        told_to_stop = False
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "work":
                self._work(order)
            elif order["do"] == "release":
                (FOLDER / order["id"]).touch()
            elif order["do"] == "stop":
                told_to_stop = True
                self.stop()
        # The end of the input after `stop` is no second wish.
        if not told_to_stop:
            self.stop()

    def _work(self, order: dict[str, Any]) -> None:
        for name in set(NAMES) - set(order["names"]):
            app._tasks.pop(name, None)
        self.worker = app.worker(
            queues=order["queues"],
            concurrency=order.get("concurrency", 1),
            pool=os.environ.get("CELERIAC_SUBJECT_POOL", "threads"),
            modules=["subject"],
            grace=2,
        )
        self.worker.start()
        threading.Thread(target=self._join, daemon=True).start()

    def _join(self) -> None:
        try:
            self.worker.join()
        except CeleriacError as error:
            code = type(error).__name__
            name = "".join(f"_{each}" if each.isupper() else each for each in code)
            say(error=name.lstrip("_").upper(), retryable=error.retryable)
            return
        self.ended.set()


if __name__ == "__main__":
    # The child processes import this file by its name.
    sys.modules["subject"] = sys.modules["__main__"]
    Subject().run()
