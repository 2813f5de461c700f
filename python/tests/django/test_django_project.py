"""The app of a project: its settings, its tasks, its worker, its connections and its time zone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test.utils import override_settings
from django.utils.timezone import override

from celeriac import TaskOptions
from celeriac.app import current_app
from celeriac.django.checks import check_settings
from celeriac.django.connections import Connections
from celeriac.django.project import chosen

HERE = Path(__file__).parent


def test_the_tasks_of_every_app_are_found(app):
    assert {"catalog.tasks.shout", "catalog.count"} <= app.tasks.keys()
    assert app.tasks["catalog.count"].options.queue == "catalog"
    assert current_app() is app


def test_the_settings_make_the_app():
    with override_settings(CELERIAC={"URL": "celeriac://broker.example", "TIMEOUT": 5}):
        assert chosen() == {"url": "celeriac://broker.example", "timeout": 5}
    with (
        override_settings(CELERIAC={"ADDRESS": "x"}),
        pytest.raises(ImproperlyConfigured, match="ADDRESS"),
    ):
        chosen()
    with override_settings(CELERIAC="x"), pytest.raises(ImproperlyConfigured, match="dict"):
        chosen()


def test_the_check_finds_a_wrong_address(app):
    assert check_settings() == []
    app.url = "redis://localhost"
    assert [error.id for error in check_settings()] == ["celeriac.E001"]


def test_a_naive_datetime_is_in_the_current_time_zone():
    naive = datetime(2030, 1, 1, 12)
    for zone, hour in (("Asia/Seoul", 3), ("America/New_York", 17)):
        with override(zone):
            task = TaskOptions(eta=naive, expires=naive).to_task("name")
        at_ms = datetime(2030, 1, 1, hour, tzinfo=timezone.utc).timestamp() * 1000
        assert (task.eta_at_ms, task.expires_at_ms) == (at_ms, at_ms)


@pytest.fixture
def closed(monkeypatch):
    """Counts how often old connections are closed."""
    calls = []
    monkeypatch.setattr(
        "celeriac.django.connections.close_old_connections", lambda: calls.append("closed")
    )
    return calls


def test_connections_are_closed_around_a_task(app, closed):
    with app.worker(pool="threads", concurrency=1, queues=["connections"]):
        result = app.send_task("catalog.count", queue="connections")
        assert result.get(timeout=10) == 42
    assert closed == ["closed", "closed"]


def test_connections_are_closed_around_a_coroutine(closed):
    async def story():
        async with Connections().coroutine():
            assert closed == ["closed"]

    asyncio.run(story())
    assert closed == ["closed", "closed"]


def test_an_eager_task_keeps_the_connections_of_its_caller(app, closed):
    with app.eager():
        assert app.send_task("catalog.count").get() == 42
    assert closed == []


def test_the_connection_is_really_closed(tmp_path, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "NAME", str(tmp_path / "catalog.sqlite3"))
    connection.connect()
    with Connections().function():
        assert connection.connection is None
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert connection.connection is not None
    assert connection.connection is None


def test_an_error_of_a_close_does_not_fail_the_task(monkeypatch):
    def refuse():
        raise OSError("the cache is gone")

    monkeypatch.setattr("celeriac.django.connections.close_caches", refuse)
    with Connections().function():
        ended = True
    assert ended


@pytest.mark.parametrize("pool", ["processes", "threads"])
def test_the_command_runs_tasks(app, tmp_path, pool):
    path = os.pathsep.join(each for each in sys.path if each)
    environment = {**os.environ, "CELERIAC_URL": app.url, "PYTHONPATH": path}
    command = [sys.executable, "-m", "django", "celeriac_worker", "--pool", pool, "-c", "1"]
    log = tmp_path / "worker.log"
    with open(log, "wb") as written:
        process = subprocess.Popen(
            command, cwd=HERE, env=environment, stdout=written, stderr=written
        )
    try:
        assert app.send_task("catalog.count", queue="catalog").get(timeout=20) == 42
        assert app.send_task("catalog.tasks.shout", ["a"], queue="catalog").get(timeout=20) == "A"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "queues catalog" in log.read_text()


def test_the_command_refuses_a_wrong_address(app):
    path = os.pathsep.join(each for each in sys.path if each)
    done = subprocess.run(
        [sys.executable, "-m", "django", "celeriac_worker", "--url", "redis://x"],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert "must begin with celeriac://" in done.stderr


def test_a_task_without_django_names_what_is_missing():
    code = (
        "import sys; sys.modules['django'] = None\n"
        "from celeriac import Celeriac\n"
        "app = Celeriac()\n"
        "task = app.task(print)\n"
        "assert not [name for name in sys.modules if name.startswith('celeriac.django')]\n"
        "task.delay_on_commit()\n"
    )
    path = os.pathsep.join(each for each in sys.path if each)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "django" in done.stderr.splitlines()[-1]
