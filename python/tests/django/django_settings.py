"""The settings of the project that the tests run."""

import os

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "Asia/Seoul"
INSTALLED_APPS = ["celeriac.django", "catalog"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CATALOG_DATABASE", ":memory:"),
    }
}
CELERIAC = {"QUEUE": "catalog"}
TASKS = {
    "default": {
        "BACKEND": "celeriac.django.TaskBackend",
        "QUEUES": ["default", "low"],
    },
    "patient": {
        "BACKEND": "celeriac.django.TaskBackend",
        "OPTIONS": {"max_attempts": 3},
    },
}
