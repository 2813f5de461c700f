"""The page, the submit of a song, and the stream of its changes."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from celeriac.django import app
from songs.models import Song
from songs.tasks import analyse

#: After this many seconds the browser asks for the stream again.
STREAM_SECONDS = 60


@require_GET
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "page.html")


@require_POST
def submit(request: HttpRequest) -> HttpResponse:
    """Answers at once: the worker does the work."""
    title = request.POST.get("title", "").strip()[:200]
    if not title:
        return JsonResponse({"error": "A song needs a title."}, status=400)
    token = f"song-{uuid.uuid4()}"
    with transaction.atomic():
        Song.objects.create(token=token, title=title)
        # The worker reads the song, so it must not begin before the commit.
        analyse.apply_async_on_commit(
            (token,),
            task_id=token,
            shadow=f"analyse: {title[:80]}"[:200],
            expires=timedelta(hours=1),
        )
    return JsonResponse({"token": token}, status=202)


@require_GET
def events(request: HttpRequest, token: str) -> HttpResponse:
    """The changes of a task as server-sent events. The last one has the result."""
    response = StreamingHttpResponse(_events(token), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    return response


def _events(token: str) -> Iterator[str]:
    result = app.result(token)
    if not result.info().is_known:
        yield _event({"state": "UNKNOWN", "ended": True})
        return
    for change in result.watch(timeout=STREAM_SECONDS):
        told = {"state": str(change.state), "ended": change.state.is_ended}
        if change.progress is not None:
            told["progress"] = {"word": change.progress.state, **change.progress.meta}
        if told["ended"]:
            value = result.get(propagate=False)
            told["result"] = str(value) if isinstance(value, Exception) else value
        yield _event(told)


def _event(told: dict) -> str:
    return f"data: {json.dumps(told)}\n\n"
