"""The processor time of other processes, from /proc."""

from __future__ import annotations

import os


def processor_seconds(pid: int) -> float:
    """The time of a process and of its children that live: user and system, in seconds."""
    ticks = 0
    for each in (pid, *_children(pid)):
        try:
            with open(f"/proc/{each}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as file:
            found += [int(each) for each in file.read().split()]
    return found
