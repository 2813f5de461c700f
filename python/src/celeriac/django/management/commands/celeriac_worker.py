"""The command `manage.py celeriac_worker`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from celeriac.django.project import project_app
from celeriac.django.queues import default_queues
from celeriac.url import broker_url
from celeriac.worker import Worker
from celeriac.worker.command import add_options, run_command, settings_of
from celeriac.worker.process_pool import modules_of


class Command(BaseCommand):
    """Runs the tasks of the project until SIGTERM or SIGINT."""

    help = (
        "Runs the tasks of this project. The worker takes them from the broker of --url, of the "
        "setting CELERIAC, or of the variable CELERIAC_URL."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options of `celeriac-worker`."""
        add_options(parser)

    def handle(self, *_: Any, **options: Any) -> None:
        """Ends the process with the codes of `celeriac-worker`."""
        chosen = argparse.Namespace(**options)
        code = run_command(chosen, lambda: _worker(chosen))
        if code:
            sys.exit(code)


def _worker(options: argparse.Namespace) -> Worker:
    app = project_app()
    if options.url is not None:
        app.url = options.url
    broker_url(app.url)
    if not app.tasks:
        raise CommandError(
            "The project has no tasks. A task is a function with @shared_task or @task in tasks.py "
            "of an app that INSTALLED_APPS names."
        )
    settings = settings_of(options)
    settings["queues"] = settings["queues"] or default_queues(app)
    # A child sets Django up first. Some tasks may be outside of tasks.py.
    modules = ["celeriac.django.child", *modules_of(app.tasks)]
    return app.worker(**settings, modules=modules)
