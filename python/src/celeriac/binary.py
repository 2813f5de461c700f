"""Finds the `celeriac` binary, which the wheel puts beside the interpreter's other scripts."""

from __future__ import annotations

import os
import shutil
import sysconfig

NAME = "celeriac"

#: Names another binary, for tests of a build that is not installed.
VARIABLE = "CELERIAC_BINARY"


class BinaryMissing(Exception):
    """There is no `celeriac` binary where one is expected."""


def find_binary() -> str:
    """The path of the binary: that of `CELERIAC_BINARY`, of this installation, or of `PATH`."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise BinaryMissing(f"{VARIABLE} names {chosen!r}, which is not a program.")
        return chosen
    for folder in _script_folders():
        path = os.path.join(folder, NAME)
        if os.access(path, os.X_OK):
            return path
    found = shutil.which(NAME)
    if found is None:
        folders = ", ".join(_script_folders())
        raise BinaryMissing(
            f"The program {NAME!r} is neither in {folders} nor in PATH. "
            f"Install the package again with pip, or set {VARIABLE} to the program's path."
        )
    return found


def _script_folders() -> list[str]:
    """Where pip puts scripts: for this interpreter, and for a user's own installation."""
    folders = [sysconfig.get_path("scripts")]
    if hasattr(sysconfig, "get_preferred_scheme"):
        folders.append(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))
    return folders
