"""What the worker tells Python's collector of garbage. PyPy has another collector, which lacks
these settings and needs none of them."""

from __future__ import annotations

import gc

_COLLECT_AFTER = 20_000
"""After how many new objects the collector looks for circles among the newest."""


def keep_what_is_there() -> None:
    """What exists now stays until the end of the process: the collector need not look at it again,
    and a copy of the process shares its memory."""
    if hasattr(gc, "freeze"):
        gc.freeze()


def collect_rarely() -> None:
    """Each task makes some objects that live for a moment; the default looks at them too often."""
    if hasattr(gc, "set_threshold"):
        gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
