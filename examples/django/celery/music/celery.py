"""The app of Celery, as Celery's documentation has it for Django."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "music.settings")

app = Celery("music")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
