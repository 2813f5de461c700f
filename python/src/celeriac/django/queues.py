"""The queues that the worker of a project serves when its user names none."""

from __future__ import annotations

from celeriac.app import Celeriac


def default_queues(app: Celeriac) -> dict[str, int]:
    """The queues of the tasks, and those that the settings `TASKS` name for our backend. Each has
    the weight 1."""
    found = {task.options.queue or "default" for task in app.tasks.values()}
    try:
        from django.tasks import task_backends

        from celeriac.django.backend import TaskBackend
    except ImportError:  # Django is older than 6.0.
        pass
    else:
        for backend in task_backends.all():
            if isinstance(backend, TaskBackend):
                found |= backend.queues
    return dict.fromkeys(sorted(found), 1)
