"""Begins the worker again when a file of the program has changed. For development only."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator

from celeriac.errors import CeleriacError
from celeriac.worker.worker import Worker

log = logging.getLogger("celeriac.worker")

#: How often the files are looked at, in seconds.
_INTERVAL = 0.5

#: Folders that hold no code of the program itself.
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "venv"}


def run_with_reload(make: Callable[[], Worker], run: Callable[[Worker], int]) -> int:
    """Runs the worker until it ends by itself, or replaces this process after a change. A module
    that cannot be imported is waited for."""
    files = snapshot()
    try:
        worker = make()
    except CeleriacError as error:
        print(f"celeriac-worker: {error}", file=sys.stderr)
        log.info("The worker waits until a file changes.")
        _wait_for_change(files, threading.Event())
        return _begin_again()
    ended = threading.Event()
    changed = threading.Event()

    def watch() -> None:
        if _wait_for_change(files, ended):
            changed.set()
            worker.stop()

    threading.Thread(target=watch, name="celeriac-reload", daemon=True).start()
    code = run(worker)
    ended.set()
    return _begin_again() if changed.is_set() else code


def snapshot() -> dict[str, float]:
    """When each Python file of the program was changed."""
    times = {}
    for path in _files():
        try:
            times[path] = os.stat(path).st_mtime
        except OSError:
            continue
    return times


def _files() -> Iterator[str]:
    """The files below the present folder, and those of imported modules that are no packages of
    the installation."""
    for folder, folders, names in os.walk(os.getcwd()):
        folders[:] = [each for each in folders if each not in _SKIPPED and each[0] != "."]
        yield from (os.path.join(folder, name) for name in names if name.endswith(".py"))
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and not path.startswith((sys.prefix, sys.base_prefix)):
            yield path


def _wait_for_change(files: dict[str, float], ended: threading.Event) -> bool:
    """Waits until a file that was there, or a new one in a known folder, has another time."""
    known = {**snapshot(), **files}
    while not ended.wait(_INTERVAL):
        now = snapshot()
        changed = [path for path in now.keys() | known.keys() if now.get(path) != known.get(path)]
        # Modules that are imported late are new here, and have not changed.
        changed = [path for path in changed if path in known or path.startswith(os.getcwd())]
        if changed:
            log.info("The file %s has changed; the worker begins again.", changed[0])
            return True
    return False


def _begin_again() -> int:
    """Replaces this process. The line below does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    return os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
