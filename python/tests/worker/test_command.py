"""The command `celeriac-worker`: its help, its errors, and its restart after a change."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import handlers
import pytest
from observing import eventually

from celeriac import Celeriac

SCRIPT = Path(__file__).parents[2] / "data/scripts/celeriac-worker"


def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables}
    return subprocess.run(
        [sys.executable, "-m", "celeriac.worker.command", *words],
        cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def test_the_help_fits_a_narrow_terminal():
    shown = call("--help", COLUMNS="80")
    assert shown.returncode == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for option in ("--pool", "--concurrency", "--queues", "--grace", "--autoreload", "--url"):
        assert option in shown.stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "MODULE"),
        (("no_such_module",), 1, "celeriac-worker: There is no module 'no_such_module'"),
        (("json",), 1, "json has no tasks"),
        (("handlers", "--queues", "a=b"), 2, "has a weight that is no number"),
        (("handlers", "--queues", ","), 2, "names no queue"),
        (("handlers", "--concurrency", "0"), 2, "no number from 1 to 10,000"),
        (("handlers", "--grace", "soon"), 2, "no number of seconds"),
        (("handlers", "--pool", "gevent"), 2, "invalid choice: 'gevent'"),
        (("handlers", "--url", "redis://localhost"), 1, "must begin with celeriac://"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, code, told):
    shown = call(*words)
    assert shown.returncode == code
    assert told in shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_log_has_what_a_person_needs(app, command):
    worker = command("--pool", "processes", "--concurrency", "1")
    handlers.add.delay(1).get()
    handlers.fail.apply_async(("no luck",), max_attempts=1).get(propagate=False)
    worker.wait_for("succeeded in")
    worker.wait_for("failed in attempt 1 of 1: ValueError: no luck")
    worker.wait_for("raise ValueError(message)")


def test_the_script_runs_the_command():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert SCRIPT.read_text().startswith("#!python\n")
    shown = subprocess.run(
        [sys.executable, str(SCRIPT), "--version"], env=environment, capture_output=True, text=True
    )
    assert (shown.returncode, shown.stdout.split()[0]) == (0, "celeriac-worker")


def test_the_worker_begins_again_when_a_file_changes(broker, tmp_path):
    module = tmp_path / "changing.py"
    text = (
        "from celeriac import Celeriac\napp = Celeriac(queue='changing')\n"
        "@app.task(name='changing')\ndef changing():\n    return {value}\n"
    )
    module.write_text(text.format(value=1))
    environment = {
        **os.environ,
        "CELERIAC_URL": broker.url,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    log = tmp_path / "log"
    with open(log, "wb") as written:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celeriac.worker.command", "changing", "--autoreload"],
            cwd=tmp_path, env=environment, stdout=written, stderr=written,
        )  # fmt: skip
    app = Celeriac(broker.url, queue="changing")
    try:
        assert app.send_task("changing").get(timeout=20) == 1
        module.write_text("def broken(:\n")
        eventually(lambda: "waits until a file changes" in log.read_text(), 20, log.read_text)
        # The time of a file may be no finer than a step of the system's clock.
        time.sleep(0.05)
        module.write_text(text.format(value=2))
        assert app.send_task("changing").get(timeout=20) == 2
    finally:
        worker.terminate()
        assert worker.wait(10) == 0
        app.close()
