"""The examples in the docstrings of the client run as they stand there."""

from __future__ import annotations

import doctest
import importlib

import pytest

from celeriac.client import Client
from celeriac.scratch_broker import ScratchBroker

MODULES = {
    "admin": 8,
    "aio": 1,
    "client": 12,
    "errors": 2,
    "info": 2,
    "listing": 2,
    "options": 3,
    "url": 3,
}
"""How many examples each module has at least."""


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str, own_broker: ScratchBroker) -> None:
    module = importlib.import_module(f"celeriac.{name}")
    with Client(own_broker.url, timeout=10) as client:
        result = doctest.testmod(module, extraglobs={"client": client})
    assert result.failed == 0
    assert result.attempted >= MODULES[name]
