"""The requests of operators: queues, listings, dead tasks, workers, backups."""

from __future__ import annotations


class Admin:
    """The requests of operators. `client.admin` has them."""
