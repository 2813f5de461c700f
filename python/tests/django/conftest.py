"""A Django project, its broker and its worker. Without Django all tests of this folder skip."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
SETTINGS = "DJANGO_SETTINGS_MODULE"
os.environ[SETTINGS] = "django_settings"

try:
    import django.conf  # `import django` alone would find this folder.
except ImportError:
    HAS_DJANGO = False
else:
    HAS_DJANGO = True
    django.setup()
# Other folders start workers of Celery, which would look for this project.
del os.environ[SETTINGS]

#: Django 6.0 is the first one with `django.tasks`.
HAS_TASKS = HAS_DJANGO and django.VERSION >= (6, 0)


class Skipped(pytest.Module):
    """A file of tests that cannot be imported here."""

    reason = ""

    def collect(self):
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector):
    reason = ""
    if not HAS_DJANGO:
        reason = "Django is not installed"
    elif not HAS_TASKS and module_path.name.startswith("test_django_tasks"):
        reason = f"Django {django.__version__} has no django.tasks; 6.0 is the first that has it"
    if not reason:
        return None
    skipped = Skipped.from_parent(parent, path=module_path)
    skipped.reason = reason
    return skipped


@pytest.fixture(autouse=True)
def settings_module(monkeypatch) -> None:
    """Processes that a test starts find the project."""
    monkeypatch.setenv(SETTINGS, "django_settings")


@pytest.fixture
def app(broker) -> Iterator[object]:
    """The app of the project, with the broker of the tests."""
    from celeriac.django import app

    app.url = broker.url
    yield app
    app.close()
    app.url = None


@pytest.fixture(autouse=True)
def current(request, monkeypatch) -> None:
    """Other tests make apps too, and a shared task belongs to the latest one."""
    if HAS_DJANGO:
        from celeriac.django import app

        monkeypatch.setattr("celeriac.app._latest", app)


@pytest.fixture
def worker(app) -> Iterator[object]:
    """A worker on threads of this process, for all queues of the project."""
    from celeriac.django.queues import default_queues

    if HAS_TASKS:
        import catalog.django_tasks  # noqa: F401 - its tasks become those of the app
    running = app.worker(pool="threads", concurrency=2, queues=default_queues(app))
    running.start()
    yield running
    running.stop(now=True)
    running.join()
