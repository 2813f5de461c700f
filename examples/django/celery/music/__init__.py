"""The project. Django imports it first, so that `shared_task` uses the app of Celery."""

from music.celery import app as celery_app

__all__ = ["celery_app"]
