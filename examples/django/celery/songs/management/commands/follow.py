"""The command `follow TOKEN`: a process that knows nothing of a task but its token."""

from django.core.management.base import BaseCommand, CommandError, CommandParser

from songs import work


class Command(BaseCommand):
    help = "Shows each change of a task, and its result."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token")

    def handle(self, *_: object, token: str, **__: object) -> None:
        ended = False
        while not ended:
            for told in work.changes([token]):
                self._show(told)
                ended = told["ended"]

    def _show(self, told: dict) -> None:
        if told["state"] == "UNKNOWN":
            raise CommandError(f"There is no song with the token {told['token']!r}.")
        line, progress = told["state"], told.get("progress")
        if progress and not told["ended"]:
            line += f" {progress['word']} {progress['step']} of {progress['of']}"
        if told["ended"]:
            line += f" {told['result']}"
        self.stdout.write(line)
        self.stdout.flush()
