"""kombu's common tests for a transport, with a broker of Celeriac. `run.py` puts this file into
kombu's own tree as `t/integration/test_celeriac.py`."""

import contextlib
import os
import socket

import kombu
import pytest

from . import common

URL = os.environ["KOMBU_URL"]
NOBODY = "celeriac://127.0.0.1:1"


@pytest.fixture
def connection():
    return kombu.Connection(URL)


@pytest.fixture
def invalid_connection():
    return kombu.Connection(NOBODY)


@pytest.fixture
def failover_connection():
    return kombu.Connection(f"{NOBODY};{URL}")


class TestBasicFunctionality(common.BasicFunctionality):
    pass


class TestExchangeTypes(common.BaseExchangeTypes):
    pass


class TestTimeToLive(common.BaseTimeToLive):
    pass


class TestPriority(common.BasePriority):
    # As in AMQP, 9 goes before 0.
    PRIORITY_ORDER = "asc"

    @pytest.fixture
    def connection(self):
        """Two tests call `drain_events` once and expect all messages. kombu promises one."""
        connection = kombu.Connection(URL)
        drain_one = connection.drain_events

        def drain_events(timeout=None):
            drain_one(timeout=timeout)
            with contextlib.suppress(socket.timeout):
                while True:
                    drain_one(timeout=0.3)

        connection.drain_events = drain_events
        return connection


class TestMessage(common.BaseMessage):
    pass


class TestFailover(common.BaseFailover):
    pass


class TestEventLoop(common.BaseEventLoop):
    pass
