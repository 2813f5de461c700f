"""Runs every code block of the page "From Celery", in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celeriac.binary import find_binary
from celeriac.scratch_broker import ScratchBroker

PACKAGE = Path(__file__).resolve().parents[2]
PAGE = (PACKAGE / "FROM_CELERY.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (\w+\.py)\n")
SCRIPTS = [at for at, (kind, code) in enumerate(BLOCKS) if kind == "python" and "print(" in code]
COMMANDS = [line for kind, code in BLOCKS if kind == "console" for line in code.splitlines()]
WORKERS = [line for line in COMMANDS if " worker" in line]
WAIT = 120


class Project:
    """The files that the page names, two brokers, and the workers of the page. The second broker is
    in the place of Redis."""

    def __init__(self, folder: Path, entry_points: Path, broker: str, old: str) -> None:
        self.folder = folder
        self._addresses = {"celeriac://127.0.0.1:23537": broker, "redis://127.0.0.1:6379/0": old}
        path = os.pathsep.join([str(folder), str(PACKAGE / "src"), str(entry_points)])
        self.environment = {**os.environ, "PYTHONPATH": path, "CELERIAC_URL": broker}
        for kind, code in BLOCKS:
            name = NAMED.match(code)
            if kind == "python" and name is not None:
                (folder / name[1]).write_text(self.placed(code))

    def placed(self, text: str) -> str:
        """A text with the addresses of the test."""
        for written, real in self._addresses.items():
            text = text.replace(written, real)
        return text

    def command(self, line: str) -> list[str]:
        """A command of the page."""
        program, *words = self.placed(line).split()
        if program == "celeriac":
            return [find_binary(), *words]
        assert program == "celery"
        return [sys.executable, "-m", "celery", *words]

    def run(self, command: list[str]) -> str:
        """Runs a command to its end."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def purge(self, broker: str) -> str:
        """Drops what waits in one of the brokers."""
        return self.run([*self.command("celery -A shop"), "-b", broker, "purge", "-f"])

    @contextmanager
    def worker(self, line: str) -> Iterator[None]:
        """A worker of the page."""
        command = [*self.command(line), "--pool", "solo"]
        with open(self.folder / "worker.log", "ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(WAIT)


@pytest.fixture(scope="module")
def idle(tmp_path_factory, entry_points) -> Iterator[Project]:
    """The project without workers."""
    with ScratchBroker() as broker, ScratchBroker() as old:
        folder = tmp_path_factory.mktemp("from-celery")
        yield Project(folder, entry_points, broker.url, old.url)


@pytest.fixture(scope="module")
def project(idle) -> Iterator[Project]:
    """The project with its workers."""
    with ExitStack() as stack:
        for line in WORKERS:
            stack.enter_context(idle.worker(line))
        yield idle


def test_what_waits_is_moved(idle):
    """The first test, because no worker may be there."""
    lines = [code for kind, code in BLOCKS if kind == "text" and " migrate " in code]
    assert len(lines) == 2
    for line in lines:
        there, back = re.findall(r"\w+://\S+", idle.placed(line))
        submit = (
            "import sys; from shop import app; "
            "[app.send_task('later', queue='celery', connection=app.connection(sys.argv[1])) "
            "for _ in range(3)]"
        )
        idle.run([sys.executable, "-c", submit, there])
        idle.run(idle.command(line))
        count = int(line.split()[-1])
        assert f"Purged {count} message" in idle.purge(back)
        idle.purge(there)


@pytest.mark.parametrize("number", SCRIPTS)
def test_a_block_prints_what_its_comments_say(project, number):
    code = BLOCKS[number][1]
    (project.folder / f"block_{number}.py").write_text(project.placed(code))
    printed = project.run([sys.executable, f"block_{number}.py"])
    assert printed.splitlines() == re.findall(r"print\(.*\)  # (.*)", code)


def test_the_other_blocks_run(project):
    others = [
        code
        for at, (kind, code) in enumerate(BLOCKS)
        if kind == "python" and at not in SCRIPTS and NAMED.match(code) is None
    ]
    assert others
    for code in others:
        project.run([sys.executable, "-c", code])


def test_the_commands_run(project):
    """After the blocks, so that the task that the page names is there."""
    (project.folder / "named.py").write_text(project.placed(BLOCKS[SCRIPTS[0]][1]))
    project.run([sys.executable, "named.py"])
    others = [line for line in COMMANDS if line not in WORKERS]
    assert others[:2] == ['pip install "celeriac[celery]"', "celeriac serve --data ./data"]
    for line in others[2:]:
        assert project.run(project.command(line))
