"""Celeriac in a Django project: `INSTALLED_APPS += ["celeriac.django"]`.

- The setting `CELERIAC` names the broker: `{"URL": "celeriac://:token@broker", "QUEUE": "songs"}`.
  All keys may be left out; without `URL` the variable `CELERIAC_URL` counts.
- `tasks.py` of every installed app is imported. Its functions with `@shared_task`, or with
  `@app.task` after `from celeriac.django import app`, are tasks.
- `manage.py celeriac_worker` runs them.
- `task.delay_on_commit(...)` submits at the commit of the present transaction.
- `celeriac.django.TaskBackend` is a backend for `django.tasks` of Django 6.

`project` makes the app of the settings, and `apps` sets up what a project needs. `commit` submits
at a commit, and `connections` closes connections around a task. `backend` is the `TaskBackend`,
`running` runs its tasks, and `results` shows them as Django does. A child process of the worker
imports `child`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celeriac.app import Celeriac
    from celeriac.django.backend import TaskBackend

    app: Celeriac

__all__ = ["TaskBackend", "app"]


def __getattr__(name: str) -> object:
    # Django imports this package before its apps are ready, and Django 5 has no `django.tasks`.
    if name == "app":
        from celeriac.django.project import project_app

        return project_app()
    if name == "TaskBackend":
        from celeriac.django import backend

        return backend.TaskBackend
    raise AttributeError(f"module 'celeriac.django' has no attribute {name!r}")
