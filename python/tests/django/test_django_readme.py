"""Runs the code blocks in the part "Django" of the README, in a project that they make."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import django
import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
PART = re.search(r"^## Django\n.*?(?=^## )", README, re.DOTALL | re.MULTILINE)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PART[0] if PART else "", re.DOTALL | re.MULTILINE)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
HAS_TASKS = django.VERSION >= (6, 0)

SETTINGS = """\
SECRET_KEY = "only for tests"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""


@pytest.fixture(scope="module")
def project(broker, tmp_path_factory):
    """The files that the blocks name, and the project's worker."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    settings = [SETTINGS]
    for code in PYTHON:
        name = re.match(r"# (\S+)", code)[1]
        if name == "settings.py":
            settings.append(code.replace("celeriac://127.0.0.1:23537", broker.url))
        elif "django.tasks" not in code or HAS_TASKS:
            (folder / name).write_text(code)
    (folder / "settings.py").write_text("\n".join(settings))
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    variables = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": path}
    command = next(code for kind, code in BLOCKS if kind == "console").split()
    assert command[:2] == ["python", "manage.py"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "django", *command[2:]], cwd=folder, env=variables
    )
    yield folder, variables
    worker.terminate()
    worker.wait(10)


@pytest.mark.parametrize("name", ["shop.views", "shop.welcome"])
def test_a_block_runs_and_prints_what_its_comments_say(project, name):
    folder, variables = project
    if name == "shop.welcome" and not HAS_TASKS:
        pytest.skip(f"Django {django.__version__} has no django.tasks")
    code = f"import django, runpy; django.setup(); runpy.run_module({name!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    source = (folder / (name.replace(".", "/") + ".py")).read_text()
    printed = re.findall(r"print\(.*\)  # (.*)", source)
    assert done.stdout.splitlines() == printed
