"""The tasks of the worker's tests. Child processes and workers of their own import this module."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from celeriac import (
    Celeriac,
    Context,
    Ignore,
    Middleware,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskCancelled,
    current_context,
    shared_task,
)


class Notes(Middleware):
    """Writes a line for each hook into the file that the header `notes` of the task names."""

    def before(self, context: Context) -> None:
        self._note(context, "before")

    def after_success(self, context: Context, elapsed: float) -> None:
        self._note(context, f"success {elapsed < 60}")

    def after_failure(self, context: Context, error: BaseException, elapsed: float) -> None:
        self._note(context, f"failure {type(error).__name__}")

    def after_retry(self, context: Context, error: BaseException, elapsed: float) -> None:
        self._note(context, f"retry {type(error).__name__}")

    def after_drop(self, context: Context, elapsed: float) -> None:
        self._note(context, "drop")

    def after(self, context: Context, elapsed: float) -> None:
        self._note(context, "after")

    @staticmethod
    def _note(context: Context, text: str) -> None:
        if "notes" in context.headers:
            assert current_context() is context
            with open(context.headers["notes"], "a") as notes:
                notes.write(text + "\n")


class Faulty(Middleware):
    """Its hooks fail for tasks with the header `notes`."""

    def before(self, context: Context) -> None:
        if "notes" in context.headers:
            raise OSError("a hook of the tests")

    def after(self, context: Context, elapsed: float) -> None:
        if "notes" in context.headers:
            sys.exit(1)


app = Celeriac(queue="tests", middleware=[Faulty(), Notes()])


@app.task(name="add")
def add(left: int, right: int = 1) -> int:
    return left + right


@app.task(name="add_async")
async def add_async(left: int, right: int = 1) -> int:
    await asyncio.sleep(0)
    return left + right


@shared_task(name="library.double")
def double(number: int) -> int:
    return 2 * number


@app.task(name="nap")
def nap(seconds: float, context: Context) -> int:
    """Sleeps in small steps, until it is told to stop."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        context.check()
        time.sleep(0.005)
    return os.getpid()


@app.task(name="nap_async")
async def nap_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@app.task(name="deaf")
def deaf(seconds: float) -> int:
    """Sleeps and hears nothing."""
    time.sleep(seconds)
    return os.getpid()


@app.task(name="note_and_nap")
def note_and_nap(path: str, seconds: float) -> None:
    """Writes a line at its begin and at its end, so that a test sees how often it ran."""
    with open(path, "a") as notes:
        notes.write("begun\n")
    time.sleep(seconds)
    with open(path, "a") as notes:
        notes.write("ended\n")


@app.task(name="count")
def count(path: str, number: int) -> int:
    """Writes its number, so that a test sees which tasks ran and how often."""
    with open(path, "a") as numbers:
        numbers.write(f"{number}\n")
    time.sleep(0.002)
    return os.getpid()


@app.task(name="stoppable")
def stoppable(context: Context) -> str:
    try:
        for _ in range(1000):
            context.check()
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "soft limit"
    except TaskCancelled:
        return "stopped by itself"
    return "went on"


@app.task(name="soft_anywhere")
def soft_anywhere() -> str:
    try:
        time.sleep(10)
    except SoftTimeLimitExceeded:
        return "soft limit"
    return "went on"


@app.task(name="stoppable_async")
async def stoppable_async() -> str:
    try:
        await asyncio.sleep(10)
    except SoftTimeLimitExceeded:
        return "soft limit"
    return "went on"


@app.task(name="fail")
def fail(message: str) -> None:
    raise ValueError(message)


@app.task(name="fail_until", max_attempts=5)
def fail_until(attempt: int, context: Context) -> int:
    if context.attempt < attempt:
        raise OSError("not yet")
    return context.attempt


@app.task(name="picky", max_attempts=5, retry_for=OSError, no_retry_for=FileNotFoundError)
def picky(kind: str) -> None:
    raise {"os": OSError, "missing": FileNotFoundError, "value": ValueError}[kind](kind)


@app.task(name="again")
def again(context: Context) -> int:
    if context.attempt == 1:
        raise Retry("later", countdown=0.05)
    return context.attempt


@app.task(name="reject")
def reject() -> None:
    raise Reject("never")


@app.task(name="ignore")
def ignore() -> None:
    raise Ignore


@app.task(name="leave")
def leave() -> None:
    sys.exit(3)


@app.task(name="report")
def report(context: Context) -> None:
    for step in range(200):
        context.progress("COUNTING", {"step": step})


@app.task(name="report_then_nap")
def report_then_nap(context: Context) -> None:
    context.progress("FIRST", 1)
    context.progress("SECOND", 2)
    time.sleep(1)


@app.task(name="large")
def large(size: int) -> str:
    return "x" * size


@app.task(name="length")
def length(text: str) -> int:
    return len(text)


@app.task(name="cleans_up_async")
async def cleans_up_async() -> str:
    try:
        await asyncio.sleep(10)
    except SoftTimeLimitExceeded:
        # The clean-up itself is not disturbed again.
        await asyncio.sleep(0.3)
    return "cleaned up"


@app.task(name="unwritable")
def unwritable() -> object:
    return {"a": [1, {2, 3}]}


@app.task(name="reverse", codec="bytes")
def reverse(data: bytes) -> bytes:
    return data[::-1]


class UpperCodec:
    """A codec of a user: a call is a text in capitals."""

    content_type = "text/x-upper"

    def encode_call(self, args, kwargs) -> bytes:
        return args[0].upper().encode()

    def decode_call(self, data: bytes):
        if data != data.upper():
            raise KeyError("small letters")
        return (data.decode(),), {}

    def encode_result(self, value) -> bytes:
        return value.encode()

    def decode_result(self, data: bytes) -> str:
        return data.decode()


@app.task(name="upper", codec=UpperCodec())
def upper(text: str) -> str:
    return text + "!"


@app.task(name="family")
def family(context: Context) -> dict[str, str]:
    child = add.apply_async((1,), queue=context.queue)
    return {"child": child.id, "root": context.root_id}


@app.task(name="about")
def about(context: Context) -> dict[str, object]:
    return {
        "task_id": context.task_id,
        "name": context.name,
        "queue": context.queue,
        "attempt": context.attempt,
        "attempts_max": context.attempts_max,
        "priority": context.priority,
        "tags": list(context.tags),
        "header": context.headers["colour"].decode(),
        "has_deadline": context.deadline is not None,
        "pid": os.getpid(),
    }


@app.task(name="die")
def die(times: int, context: Context) -> int:
    """Kills its process in its first deliveries."""
    if context.deliveries <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.deliveries


@app.task(name="die_with_a_child")
def die_with_a_child(context: Context) -> int:
    """Leaves a process behind that holds the pipe to the parent open, and dies."""
    if context.deliveries == 1:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    return context.deliveries


@app.task(name="pid")
def pid() -> int:
    return os.getpid()
