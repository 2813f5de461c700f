"""The build backend: maturin, and one repair.

A source distribution that maturin makes keeps no file modes. pip installs a script of a wheel as
the wheel has it, so `celeriac-worker` would not be executable in a wheel that was built from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import maturin
from maturin import (
    build_sdist,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_wheel",
]

SCRIPTS = Path("data/scripts")


def build_wheel(*arguments: Any, **options: Any) -> str:
    """Builds the wheel after the scripts are executable."""
    for script in SCRIPTS.iterdir():
        script.chmod(0o755)
    return str(maturin.build_wheel(*arguments, **options))
