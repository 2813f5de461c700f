"""Workers and apps for the tests of Celery."""

import contextlib
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
WAIT = 60


def app_of(name, url, **environment):
    """The module of an app, made anew for this broker."""
    os.environ["CELERIAC_TEST_URL"] = url
    os.environ.update(environment)
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    for each in list(sys.modules):
        if each.endswith("_subject"):
            del sys.modules[each]
    try:
        return importlib.import_module(name)
    finally:
        for variable in ("CELERIAC_TEST_URL", *environment):
            del os.environ[variable]


@contextlib.contextmanager
def worker_of(name, url, pool, concurrency=2, options=(), **environment):
    """A worker as users start it."""
    command = [sys.executable, "-m", "celery", "-A", name, "worker"]
    process = subprocess.Popen(
        [*command, "-l", "WARNING", "-P", pool, "-c", str(concurrency), *options],
        cwd=HERE,
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parent.parent / "src"),
            "CELERIAC_TEST_URL": url,
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition):
    """Waits until this is true."""
    until = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.02)
