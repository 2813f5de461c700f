"""The native tasks of the project. Nothing imports this module but the discovery."""

from __future__ import annotations

from django.db import connection

from celeriac import Context, shared_task
from celeriac.django import app


@shared_task(queue="catalog")
def shout(word: str) -> str:
    return word.upper()


@app.task(name="catalog.count", max_attempts=1)
def count(context: Context) -> int:
    """Opens a connection, and leaves it open."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 41 + 1")
        context.progress("COUNTING")
        return int(cursor.fetchone()[0])
