"""The processor time of other processes, from /proc."""

from __future__ import annotations

import contextlib
import os


def processor_seconds(pid: int) -> float:
    """The time of a process and of all processes below it that live: user and system."""
    seconds = 0.0
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                seconds += sum(processor_seconds(int(child)) for child in file.read().split())
    return seconds
