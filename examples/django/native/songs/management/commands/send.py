"""The command `send TITLE`: sends a song from a terminal, and prints its token."""

import uuid
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from songs import work
from songs.models import Song


class Command(BaseCommand):
    help = "Sends a song to the worker, and prints its token."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("title")
        parser.add_argument(
            "--expires",
            type=float,
            default=work.DAY.total_seconds(),
            metavar="SECONDS",
            help="by when the task must have started; a day by default",
        )

    def handle(self, *_: object, title: str, expires: float, **__: object) -> None:
        with transaction.atomic():
            song = Song.objects.create(token=f"song-{uuid.uuid4()}", title=title[:200])
            work.submit(song, timedelta(seconds=expires))
        self.stdout.write(song.token)
