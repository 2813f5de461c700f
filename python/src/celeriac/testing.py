"""The pytest plugin. The package registers it, so a test only names a fixture:

    def test_shouting(celeriac_app, celeriac_worker):
        assert shout.delay("hey").get(timeout=5) == "HEY"

- `celeriac_broker`: a broker of its own for the session, on a free port and in a temporary folder.
- `celeriac_app`: your app, connected to that broker. Override the fixture `celeriac_test_app` to
  say which app that is; by default it is the one that was made last.
- `celeriac_worker`: a worker of that app, on threads of the test's process.

pytest loads this module in every project that has the package installed. So it imports nothing of
the package until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from celeriac.app import Celeriac
    from celeriac.scratch_broker import ScratchBroker
    from celeriac.worker import Worker


@pytest.fixture(scope="session")
def celeriac_broker() -> Iterator[ScratchBroker]:
    """A broker that ends with the session. `celeriac_broker.url` is its address."""
    from celeriac.scratch_broker import ScratchBroker

    with ScratchBroker() as broker:
        yield broker


@pytest.fixture
def celeriac_test_app() -> Celeriac:
    """The app that the tests use. Override it to name another one."""
    from celeriac.app import current_app

    return current_app()


@pytest.fixture
def celeriac_app(
    celeriac_test_app: Celeriac, celeriac_broker: ScratchBroker
) -> Iterator[Celeriac]:
    """The app, with the session's broker in place of its own."""
    app = celeriac_test_app
    before = app.url
    app.close()
    app.url = celeriac_broker.url
    try:
        yield app
    finally:
        app.close()
        app.url = before


@pytest.fixture
def celeriac_worker(celeriac_app: Celeriac) -> Iterator[Worker]:
    """A worker of the app, on threads of this process. It ends with the test, at once."""
    worker = celeriac_app.worker(pool="threads", concurrency=4)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(now=True)
        worker.join()
