"""The requests of operators: queues, listings, dead tasks, workers, backups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Admin:
    """The requests of operators. `client.admin` has them."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask
