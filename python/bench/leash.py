"""Runs a program until it ends, or until the process that started this one is gone, however that
ended: killed with -9 too. Then the program ends with all processes of its group.

    python leash.py PROGRAM ARGUMENTS

This module also starts programs in this way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

END_SECONDS = 30


@contextlib.contextmanager
def running(
    command: list[str], output: IO[Any] | int | None = subprocess.DEVNULL, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A program on a leash, until the end of the block. Its processes are children of this one."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end_with_the_input() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: program.terminate())
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    program.wait()
    # What the program has left in the group ends as well, and this process with it.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
