"""The names of the tasks that Celery's worker knows. The broker hands it tasks of these names, and
keeps the others for a worker that knows them.

Without this the worker gets tasks of any name, and discards those that it does not know. A worker
that was told to take any name discards such a task as well, and the task says why it failed.
"""

from __future__ import annotations

from typing import Any

from celeriac.celery.channel import Channel
from celeriac.celery.shapes import task_error


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
    _tell_unknown_names(Consumer)


def _tell_unknown_names(consumer: Any) -> None:
    """Celery rejects the message of an unknown task, and stores the reason after that, when the
    task has ended already."""
    original = consumer.on_unknown_task

    def on_unknown_task(self: Any, body: Any, message: Any, exc: Any) -> None:
        channel = message.channel
        run = channel.run_of(message.delivery_tag) if isinstance(channel, Channel) else None
        if run is not None:
            run.fault = task_error("NotRegistered", str(exc.args[0] if exc.args else exc))
        original(self, body, message, exc)

    consumer.on_unknown_task = on_unknown_task
