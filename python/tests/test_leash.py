"""The servers of the bench end with it, also when it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent / "bench"
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from leash import running
# A shell that is not the last process of its group.
with running(["sh", "-c", "sleep 600 & echo $!; wait"], None) as process:
    time.sleep(600)
"""


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_what_was_started_on_a_leash_ends_with_a_process_that_is_killed():
    bench = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, os.fspath(BENCH)], stdout=subprocess.PIPE
    )
    assert bench.stdout is not None
    pid = int(bench.stdout.readline())
    assert runs(pid)
    bench.kill()
    bench.wait()
    until = time.monotonic() + 20
    while runs(pid):
        assert time.monotonic() < until, "the server has outlived the bench"
        time.sleep(0.01)
