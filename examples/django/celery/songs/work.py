"""What the site asks of the task queue: a run of a song's task, its end, and its changes."""

import time
from collections.abc import Iterator
from datetime import timedelta

from celery.result import AsyncResult
from celery.states import READY_STATES
from django.utils import timezone

from songs.models import Song
from songs.tasks import analyse

DAY = timedelta(days=1)

#: Celery has no call that waits for a change, so the states are read this often.
POLL_SECONDS = 0.2


def submit(song: Song, expires: timedelta = DAY) -> None:
    """Submits the task of a song at the commit of the transaction, because the worker reads the
    song. The token of the song is the id of the task: it is what every process knows."""
    analyse.apply_async_on_commit(
        (song.token,),
        task_id=song.token,
        shadow=f"analyse: {song.title[:80]}",  # what logs and listings show
        expires=timezone.now() + expires,  # by when the task must have started
    )


def revoke(token: str) -> None:
    """A task that waits never starts, and one that runs is stopped."""
    AsyncResult(token).revoke(terminate=True)


def changes(tokens: list[str], seconds: float = 60) -> Iterator[dict]:
    """The present state of each task, and then each change, until all of them have ended."""
    waiting = dict.fromkeys(tokens)
    known = set(Song.objects.filter(token__in=tokens).values_list("token", flat=True))
    until = time.monotonic() + seconds
    while waiting and time.monotonic() < until:
        for token, before in list(waiting.items()):
            told = _told(token, is_known=token in known)
            if told != before:
                yield told
            waiting[token] = told
            if told["ended"]:
                del waiting[token]
        time.sleep(POLL_SECONDS)


def _told(token: str, *, is_known: bool) -> dict:
    if not is_known:
        # Celery calls a task PENDING that nobody has sent, so the table of songs was asked.
        return {"token": token, "state": "UNKNOWN", "ended": True}
    meta = analyse.backend.get_task_meta(token)
    state, value = meta["status"], meta["result"]
    told = {"token": token, "state": state, "ended": state in READY_STATES}
    if told["ended"]:
        told["result"] = str(value) if isinstance(value, Exception) else value
    elif isinstance(value, dict) and "step" in value:
        # Celery keeps progress under a state of its own. The task is STARTED all the same.
        told["state"], told["progress"] = "STARTED", {"word": state, **value}
    return told
