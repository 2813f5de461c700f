"""Fixtures of the tests that run an app of Celery."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kit import HERE

from celeriac.scratch_broker import ScratchBroker

QUICK = ("--lease-ms", "4000", "--heartbeat-ms", "1000")


@pytest.fixture(scope="module")
def quick_broker() -> Iterator[ScratchBroker]:
    """A broker that gives a silent worker four seconds."""
    with ScratchBroker(*QUICK) as broker:
        yield broker


@pytest.fixture(scope="module")
def apps(quick_broker: ScratchBroker) -> Iterator[Any]:
    """The module `subject`, whose app uses the broker of these tests."""
    sys.modules.pop("subject", None)
    os.environ["CELERIAC_TEST_URL"] = quick_broker.url
    sys.path.insert(0, str(HERE))
    yield importlib.import_module("subject")
    sys.path.remove(str(HERE))
    del os.environ["CELERIAC_TEST_URL"]
    # Each file of tests has its own broker.
    sys.modules.pop("subject", None)


@pytest.fixture(scope="module", autouse=True)
def _without_django() -> Iterator[None]:
    """Tests of the package's part for Django name settings for the whole process. A worker of
    Celery would look for them, and end."""
    named = os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    yield
    if named is not None:
        os.environ["DJANGO_SETTINGS_MODULE"] = named
