"""The settings of the example. They are for development: the page has no users."""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ.get("SECRET_KEY", "only for development")
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "music.urls"
USE_TZ = True
INSTALLED_APPS = ["celeriac.django", "songs"]
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

# Without URL the variable CELERIAC_URL names the broker, or else it is on this machine.
CELERIAC = {"QUEUE": "songs"}
