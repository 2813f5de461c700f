"""The command `follow TOKEN`: a process that knows nothing of a task but its token."""

from django.core.management.base import BaseCommand, CommandError, CommandParser

from celeriac.django import app


class Command(BaseCommand):
    help = "Shows each change of a task, and its result."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token")

    def handle(self, *_: object, token: str, **__: object) -> None:
        result = app.result(token)
        if not result.info().is_known:
            raise CommandError(f"The broker knows no task {token!r}.")
        for change in result.watch():
            progress = ""
            if change.progress is not None:
                meta = change.progress.meta
                progress = f" {change.progress.state} {meta['step']} of {meta['of']}"
            self.stdout.write(f"{change.state}{progress}")
            self.stdout.flush()
        self.stdout.write(f"result: {result.get()}")
