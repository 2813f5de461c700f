"""Runs every code block of the README, in its order. Those of its part "Django" have a test beside
the other tests of Django."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from celeriac.scratch_broker import ScratchBroker

PACKAGE = Path(__file__).resolve().parents[2]
OF_THE_PROJECT = re.findall(
    r"^```python\n(.*?)^```$",
    (PACKAGE.parent / "README.md").read_text(),
    flags=re.DOTALL | re.MULTILINE,
)
README = re.sub(
    r"^## Django\n.*?(?=^## )",
    "",
    (PACKAGE / "README.md").read_text(),
    flags=re.DOTALL | re.MULTILINE,
)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@contextmanager
def running(folder, module):
    """The module of a README in a folder, with a broker and a worker of their own."""
    with ScratchBroker() as broker:
        # The module names the default address; the tests have another port.
        text = module.replace("celeriac://127.0.0.1:23537", broker.url)
        (folder / "songs.py").write_text(text)
        path = os.pathsep.join([str(folder), *filter(None, sys.path)])
        variables = {**os.environ, "CELERIAC_URL": broker.url, "PYTHONPATH": path}
        worker = subprocess.Popen(
            [sys.executable, "-m", "celeriac.worker.command", "songs"], cwd=folder, env=variables
        )
        try:
            yield folder, variables
        finally:
            worker.terminate()
            worker.wait()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A folder with the README's module, its broker, and its worker."""
    module = next(code for _, code in BLOCKS if code.startswith("# songs.py"))
    with running(tmp_path_factory.mktemp("readme"), module) as made:
        yield made


def test_the_readme_of_the_project(tmp_path):
    module, program, settings = OF_THE_PROJECT
    assert module.startswith("# songs.py")
    assert settings.startswith("# settings.py")
    with running(tmp_path, module) as (folder, variables):
        for name, code in (("program.py", program), ("settings.py", settings)):
            (folder / name).write_text(code)
            done = subprocess.run(
                [sys.executable, name],
                cwd=folder, env=variables, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", code)


@pytest.mark.parametrize("number", [at for at, (kind, _) in enumerate(BLOCKS) if kind == "python"])
def test_a_block_of_python_runs(environment, number):
    folder, variables = environment
    code = BLOCKS[number][1]
    if "def test_" in code:
        (folder / "test_block.py").write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "celeriac.testing", "test_block.py"]
        if _has_plugin():
            command[4:6] = []
    else:
        (folder / f"block_{number}.py").write_text(code)
        command = [sys.executable, f"block_{number}.py"]
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_printed_values_are_those_of_the_comments(environment):
    folder, variables = environment
    for _, code in BLOCKS:
        expected = re.findall(r"print\((.*?)\)  # (\{.*\}|UNKNOWN)", code)
        if "print(result.get(timeout=60))" not in code and "user-0000" not in code:
            continue
        assert expected
        (folder / "printed.py").write_text(code)
        done = subprocess.run(
            [sys.executable, "printed.py"],
            cwd=folder, env=variables, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        for _, value in expected:
            assert value in done.stdout


def test_the_commands_of_the_readme_exist(environment):
    folder, variables = environment
    commands = [line for kind, code in BLOCKS if kind == "console" for line in code.splitlines()]
    programs = {line.split()[0] for line in commands}
    assert programs == {"pip", "celeriac", "celeriac-worker"}
    for line in commands:
        words = line.split()
        if words[0] == "celeriac-worker":
            options = [word for word in words if word.startswith("--")]
            helped = subprocess.run(
                [sys.executable, "-m", "celeriac.worker.command", "--help"],
                env=variables, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert all(option in helped.stdout for option in options)
    submit = next(line for line in commands if line.startswith("celeriac submit"))
    binary = variables.get("CELERIAC_BINARY") or shutil.which("celeriac")
    assert binary
    done = subprocess.run(
        [binary, *shlex.split(submit)[1:]],
        cwd=folder, env=variables, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "114" in done.stdout


def _has_plugin() -> bool:
    """Whether pytest finds the plugin by itself, as in an installed package."""
    from importlib.metadata import entry_points

    return any(point.value == "celeriac.testing" for point in entry_points(group="pytest11"))
