"""What the worker does. `celeriac.django` finds this module by its name."""

import os
import time

from celeriac import Context, shared_task
from songs.features import cluster, measure
from songs.models import Song

#: The work of the example is very short, so each step waits for this many seconds.
PAUSE = float(os.environ.get("SONGS_PAUSE", "0.4"))

STEPS = 5


@shared_task(name="songs.analyse", queue="songs", max_attempts=3)
def analyse(token: str, context: Context) -> dict:
    """Measures a song, and then groups all songs that are measured."""
    song = Song.objects.get(token=token)
    for step in range(1, STEPS):
        context.progress("PREPROCESSING", {"step": step, "of": STEPS})
        time.sleep(PAUSE)
    song.tempo, song.loudness = measure(song.title)
    song.save(update_fields=["tempo", "loudness"])

    context.progress("CLUSTERING", {"step": STEPS, "of": STEPS})
    time.sleep(PAUSE)
    measured = list(Song.objects.exclude(tempo=None).order_by("pk"))
    groups = cluster([(each.tempo, each.loudness) for each in measured])
    for each, group in zip(measured, groups, strict=True):
        each.group = group
    Song.objects.bulk_update(measured, ["group"])
    own = next(each for each in measured if each.pk == song.pk)
    tempo = round(own.tempo, 1)
    return {"title": song.title, "tempo": tempo, "group": own.group, "songs": len(measured)}
