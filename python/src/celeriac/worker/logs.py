"""The logging of the worker's command and of its child processes."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:
    # The class takes its parameter since Python 3.11.
    _StreamHandler = logging.StreamHandler

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _Handler(_StreamHandler):
    """Writes to the standard error. When that is gone, nothing is written and the worker goes on:
    logging itself would raise in the midst of a run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in logging
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handleError(record)


def set_up_logs(level: int) -> None:
    """Writes the log to the standard error, unless the user's modules have set up logging."""
    try:
        # A descriptor of its own: code of a handler may close `sys.stderr`.
        stream: Any = open(os.dup(sys.stderr.fileno()), "w", errors="backslashreplace")  # noqa: SIM115
    except (AttributeError, OSError, ValueError):
        # A worker that was started without a standard error.
        stream = sys.stderr
    logging.basicConfig(level=level, format=LINE, handlers=[_Handler(stream)])
