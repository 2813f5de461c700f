"""The page, the submit of a song, its second run, its end, and the stream of changes."""

import json
import uuid
from collections.abc import Iterator

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from songs import work
from songs.models import Song

#: The page shows so many songs at most.
SHOWN_MAX = 20


@require_GET
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    latest = Song.objects.order_by("-pk").values("token", "title")[:SHOWN_MAX]
    return render(request, "page.html", {"songs": list(latest), "shown_max": SHOWN_MAX})


@require_POST
def submit(request: HttpRequest) -> HttpResponse:
    """Answers at once: the worker does the work."""
    title = request.POST.get("title", "").strip()[:200]
    if not title:
        return JsonResponse({"error": "A song needs a title."}, status=400)
    with transaction.atomic():
        song = Song.objects.create(token=f"song-{uuid.uuid4()}", title=title)
        work.submit(song)
    return JsonResponse({"token": song.token}, status=202)


@require_POST
def again(request: HttpRequest, token: str) -> HttpResponse:
    """Runs the task of a song once more, under the same token."""
    work.submit(get_object_or_404(Song, token=token))
    return JsonResponse({"token": token}, status=202)


@require_POST
def revoke(request: HttpRequest, token: str) -> HttpResponse:
    """Calls the task of a song off."""
    work.revoke(get_object_or_404(Song, token=token).token)
    return JsonResponse({"token": token}, status=202)


@require_GET
def changes(request: HttpRequest) -> HttpResponse:
    """The changes of the named tasks as server-sent events. Browsers open few connections to one
    site, so one stream serves all songs of a page."""
    tokens = request.GET.getlist("token")[:SHOWN_MAX]
    response = StreamingHttpResponse(_events(tokens), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    return response


def _events(tokens: list[str]) -> Iterator[str]:
    for told in work.changes(tokens):
        yield f"data: {json.dumps(told)}\n\n"
