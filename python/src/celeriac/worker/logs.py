"""The logging of the worker's command and of its child processes."""

from __future__ import annotations

import logging
import sys

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def set_up_logs(level: int) -> None:
    """Writes the log to the standard error, unless the user's modules have set up logging."""
    logging.basicConfig(level=level, format=LINE, stream=sys.stderr)
