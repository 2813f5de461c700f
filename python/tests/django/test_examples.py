"""The two projects in `examples/django` tell their story, and differ only where the queue does."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2]
EXAMPLES = PACKAGE.parent / "examples" / "django"

DIFFERENT = {
    "Dockerfile",
    "README.md",
    "compose.yaml",
    "music/__init__.py",
    "music/celery.py",
    "music/settings.py",
    "songs/tasks.py",
    "songs/work.py",
    "story.py",
}


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix not in (".pyc", ".sqlite3")
        and path.relative_to(folder).parts[0] != "data"
        and path.name not in ("token", "token.env")
    }


def test_the_projects_differ_where_the_queue_does():
    native, celery = EXAMPLES / "native", EXAMPLES / "celery"
    names = _files(native) | _files(celery)
    assert names >= {"manage.py", "songs/views.py", "songs/templates/page.html"}
    different = {
        name
        for name in names
        if not (native / name).exists()
        or not (celery / name).exists()
        or not filecmp.cmp(native / name, celery / name, shallow=False)
    }
    assert different == DIFFERENT


@pytest.mark.parametrize("name", ["native", "celery"])
def test_a_project_tells_its_story(name, entry_points):
    if name == "celery" and importlib.util.find_spec("celery.app") is None:
        pytest.skip("Celery is not installed in this environment")
    path = os.pathsep.join([str(PACKAGE / "src"), str(entry_points)])
    done = subprocess.run(
        [sys.executable, "story.py"],
        cwd=EXAMPLES / name,
        env={**os.environ, "PYTHONPATH": path, "SONGS_PAUSE": "0.1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split(maxsplit=1)[0] for line in done.stdout.splitlines() if line[0] != " "]
    assert told == [
        *("broker", "page", "sent", "sent", "sent", "follow", "browser", "browser", "browser"),
        *("again", "browser", "worker", "revoke", "expires"),
    ]
