"""What the site asks of the task queue: a run of a song's task, its end, and its changes."""

import json
from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone

from celeriac import State
from celeriac.django import app
from celeriac.errors import DeadlineExceeded
from songs.models import Song
from songs.tasks import analyse

DAY = timedelta(days=1)


def submit(song: Song, expires: timedelta = DAY) -> None:
    """Submits the task of a song at the commit of the transaction, because the worker reads the
    song. The token of the song is the id of the task: it is what every process knows."""
    analyse.apply_async_on_commit(
        (song.token,),
        task_id=song.token,
        shadow=f"analyse: {song.title[:80]}",  # what logs and listings show
        expires=timezone.now() + expires,  # by when the task must have started
        result_ttl=DAY,  # how long the broker keeps the result
    )


def revoke(token: str) -> None:
    """A task that waits never starts, and one that runs is stopped."""
    app.result(token).revoke(terminate=True)


def changes(tokens: list[str], seconds: float = 60) -> Iterator[dict]:
    """The present state of each task, and then each change, until all of them have ended."""
    waiting = set(tokens)
    try:
        for info in app.client.watch(tokens, timeout=seconds):
            ended = info.state.is_ended or info.state is State.UNKNOWN
            told = {"token": info.id, "state": str(info.state), "ended": ended}
            if info.progress is not None:
                told["progress"] = {"word": info.progress.state, **json.loads(info.progress.meta)}
            if info.state is State.REVOKED:
                told["result"] = info.revoked_reason
            elif info.state.is_ended:
                value = app.result(info.id).get(propagate=False)
                told["result"] = str(value) if isinstance(value, Exception) else value
            yield told
            (waiting.discard if ended else waiting.add)(info.id)
            if not waiting:
                return
    except DeadlineExceeded:
        return  # who still wants to know asks again
