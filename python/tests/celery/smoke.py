"""A short check of one version of Celery with one pool: `python smoke.py POOL URL`.

It needs a broker, starts a worker, and prints a line for each check: `ok`, or `FAILED` with the
reason. Its exit code is the number of failures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any

POOL, URL = sys.argv[1:3]
WAIT = 30
os.environ["CELERIAC_TEST_URL"] = URL

import subject  # noqa: E402 - it reads the variable.
from celery.exceptions import TaskRevokedError  # noqa: E402

from celery import chord, group  # noqa: E402

CHECKS: list[Callable[[], Any]] = []


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    """Adds a check to the list."""
    CHECKS.append(function)
    return function


def raises(kind: type[BaseException], function: Callable[[], Any]) -> None:
    """Calls the function, which has to raise."""
    try:
        value = function()
    except kind:
        return
    raise AssertionError(f"{value!r} came in place of {kind.__name__}")


def equal(left: Any, right: Any) -> None:
    """Compares two values."""
    assert left == right, f"{left!r} is not {right!r}"


def until(function: Callable[[], Any]) -> Any:
    """Waits until the function gives something."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        value = function()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come true in time")


@check
def entry_points() -> None:
    # A process that imports nothing of this package.
    program = (
        "import sys, celery; app = celery.Celery(broker=sys.argv[1], backend=sys.argv[1]);"
        "app.connection().connect(); print(type(app.backend).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program, URL], capture_output=True, timeout=WAIT)
    equal(done.stdout.decode().strip(), "CeleriacBackend")


@check
def delay_and_get() -> None:
    equal(subject.add.delay(1, 2).get(timeout=WAIT), 3)


@check
def failure() -> None:
    raises(ValueError, lambda: subject.fail.delay().get(timeout=WAIT))


@check
def retry() -> None:
    equal(subject.again.delay().get(timeout=WAIT), 2)


@check
def groups() -> None:
    equal(group(subject.add.s(n, n) for n in range(3))().get(timeout=WAIT), [0, 2, 4])


@check
def chords() -> None:
    header = [subject.add.s(n, n) for n in range(3)]
    equal(chord(header)(subject.total.s()).get(timeout=WAIT), 6)


@check
def eta() -> None:
    began = time.monotonic()
    equal(subject.add.apply_async((1, 2), countdown=2).get(timeout=WAIT), 3)
    assert time.monotonic() - began > 1.8, "it ran too soon"


@check
def expires() -> None:
    result = subject.add.apply_async((1, 1), countdown=4, expires=1)
    raises(TaskRevokedError, lambda: result.get(timeout=WAIT))


@check
def revoke() -> None:
    result = subject.add.apply_async((1, 1), countdown=600)
    result.revoke()
    raises(TaskRevokedError, lambda: result.get(timeout=WAIT))


@check
def ping() -> None:
    answers = subject.app.control.inspect(timeout=3).ping() or {}
    equal([answer["ok"] for answer in answers.values()], ["pong"])


@check
def active() -> None:
    result = subject.slow.delay(3)

    def is_shown() -> bool:
        answers = subject.app.control.inspect(timeout=1).active() or {}
        return any(task["id"] == result.id for tasks in answers.values() for task in tasks)

    # The solo pool answers nothing while a task runs.
    if POOL != "solo":
        until(is_shown)
    equal(result.get(timeout=WAIT), 3)


@check
def scheduled() -> None:
    result = subject.add.apply_async((2, 2), countdown=7)

    def is_shown() -> bool:
        answers = subject.app.control.inspect(timeout=2).scheduled() or {}
        return any(
            task["request"]["id"] == result.id for tasks in answers.values() for task in tasks
        )

    until(is_shown)
    equal(result.get(timeout=WAIT), 4)


def run_checks() -> int:
    """Runs all checks, and gives the number of failures."""
    failed = 0
    for function in CHECKS:
        try:
            function()
        except BaseException as error:
            failed += 1
            print(f"FAILED {function.__name__}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
        else:
            print(f"ok {function.__name__}", flush=True)
    return failed


def main() -> int:
    """Runs the checks beside a worker."""
    command = [sys.executable, "-m", "celery", "-A", "subject", "worker", "-E", "-c", "2"]
    with tempfile.TemporaryFile() as log:
        # The worker finds `subject` in the folder of this file.
        here = os.path.dirname(os.path.abspath(__file__))
        worker = subprocess.Popen([*command, "-P", POOL], cwd=here, stdout=log, stderr=log)
        try:
            failed = run_checks()
        finally:
            worker.terminate()
            try:
                worker.wait(WAIT)
                print("ok end")
            except subprocess.TimeoutExpired:
                worker.kill()
                failed += 1
                print("FAILED end: the worker did not end after SIGTERM")
        if failed:
            log.seek(0)
            sys.stderr.buffer.write(log.read()[-20_000:])
    return failed


if __name__ == "__main__":
    sys.exit(main())
