"""What all tests of the drop-in for Celery share."""

import os

import pytest


@pytest.fixture(scope="module", autouse=True)
def _without_django():
    """Tests of the package's part for Django name settings for the whole process. A worker of
    Celery would look for them, and end."""
    named = os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    yield
    if named is not None:
        os.environ["DJANGO_SETTINGS_MODULE"] = named
