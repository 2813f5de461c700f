"""The settings of the example. They are for development: the page has no users."""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "only for development")
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "music.urls"
USE_TZ = True
INSTALLED_APPS = ["songs"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SONGS_DATABASE", FOLDER / "songs.sqlite3"),
        "OPTIONS": {"timeout": 20},
    }
}

# These two lines are all that differs from a project on Redis, where both are
# "redis://127.0.0.1:6379/0". With a token the address is "celeriac://:token@host:23537"; without
# one, the token is in the variable CELERIAC_TOKEN, if the broker wants any.
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "celeriac://127.0.0.1:23537")
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", "celeriac://127.0.0.1:23537")

CELERY_TASK_DEFAULT_QUEUE = "songs"
CELERY_TASK_ACKS_LATE = True  # a task whose worker is lost runs again
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_RESULT_EXPIRES = 24 * 60 * 60  # how long the result is kept
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
