"""Lets Python find the entry points of the package when it runs from its sources.

Celery learns of `celeriac://` from entry points, which belong to an installed package. This program
writes what an installation has of them into a folder, which then belongs into `PYTHONPATH` beside
the sources:

    python tools/entry_points.py FOLDER

The entry points are those of `pyproject.toml`. It needs no Rust, unlike a build of the package.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
_TABLE = re.compile(r"^\[project\.entry-points\.\"?([\w.]+)\"?\]\n((?:\w.*\n)+)", re.MULTILINE)
_LINE = re.compile(r'^([\w-]+) = "([\w.:]+)"$', re.MULTILINE)


def write(folder: Path, project: Path = _PROJECT) -> Path:
    """Writes the entry points below a folder, and returns what was made."""
    tables = _TABLE.findall(project.read_text())
    if not tables:
        raise ValueError(f"{project} names no entry points")
    lines = []
    for group, body in tables:
        lines.append(f"[{group}]")
        lines += [f"{name} = {value}" for name, value in _LINE.findall(body)]
    made = folder / "celeriac-0.dist-info"
    made.mkdir(parents=True, exist_ok=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: celeriac\nVersion: 0\n")
    (made / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return made


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    write(Path(sys.argv[1]))
