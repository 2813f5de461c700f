"""Fixtures of all tests: a real broker, and one that a test plays itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The tests run on the sources when the package is not installed.
SOURCES = str(Path(__file__).resolve().parents[1] / "src")
if SOURCES not in sys.path:
    sys.path.insert(0, SOURCES)

from celeriac.client import Client  # noqa: E402
from celeriac.scratch_broker import ScratchBroker  # noqa: E402
from played_broker import PlayedBroker  # noqa: E402

# The runner may be started by nohup. The workers of the tests are not, so that a hang-up means what
# it means in a terminal.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

LONG_TESTS = {
    "test_broker_kills.py",
    "test_examples.py",
    "test_hardships.py",
    "test_known_reports.py",
    "test_lost_workers.py",
    "test_neighbours.py",
    "test_odd_results.py",
    "test_shutdown.py",
    "test_signals.py",
    "test_transport_options.py",
}
"""Files of tests that take seconds each and share little. Where several processes run tests, any
of them takes the next of these. The tests of every other file stay together, with its fixtures."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return nodeid if Path(file).name in LONG_TESTS else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def broker() -> Iterator[ScratchBroker]:
    """A broker for all tests that do not end it."""
    with ScratchBroker() as running:
        yield running


@pytest.fixture
def own_broker() -> Iterator[ScratchBroker]:
    """A broker for one test, which may kill it and start it again."""
    with ScratchBroker() as running:
        yield running


@pytest.fixture
def client(broker: ScratchBroker) -> Iterator[Client]:
    """A client of the broker of all tests."""
    with Client(broker.url, timeout=10) as made:
        yield made


@pytest.fixture
def played() -> Iterator[PlayedBroker]:
    """A listener whose answers the test writes."""
    with PlayedBroker() as listening:
        yield listening


@pytest.fixture(scope="session")
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH, by which Celery finds the package without an installation."""
    folder = tmp_path_factory.mktemp("entry-points")
    tool = Path(__file__).resolve().parents[1] / "tools" / "entry_points.py"
    subprocess.run([sys.executable, str(tool), str(folder)], check=True)
    return folder
