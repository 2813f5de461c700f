"""The names of the tasks that Celery's worker knows. The broker hands it tasks of these names, and
keeps the others for a worker that knows them.

Without this the worker gets tasks of any name, and discards those that it does not know.
"""

from __future__ import annotations

from typing import Any

from celeriac.celery.channel import Channel


def install() -> None:
    """Lets the worker announce its names whenever it looks its tasks through: when it begins to
    consume, and when its pool is restarted with other modules."""
    from celery.worker.consumer import Consumer

    original = getattr(Consumer, "update_strategies", None)
    if original is None or getattr(original, "is_celeriac", False):
        return

    def update_strategies(self: Any) -> None:
        original(self)
        channel = getattr(self.connection, "default_channel", None)
        if isinstance(channel, Channel):
            channel.announce(self.app.tasks)

    update_strategies.is_celeriac = True  # type: ignore[attr-defined]
    Consumer.update_strategies = update_strategies
