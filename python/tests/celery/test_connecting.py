"""The two addresses of an app: with tokens, wrong ones, and those of no broker."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.app.backends import BACKEND_ALIASES
from kit import WAIT, Worker
from kombu import Connection
from kombu.exceptions import OperationalError

import celeriac._register  # noqa: F401 - the tests run without installing the package.
from celeriac.errors import InvalidUrl
from celeriac.scratch_broker import ScratchBroker
from celery import Celery

TOKEN = "s3cret-token"
NOBODY = "celeriac://127.0.0.1:1"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    with ScratchBroker("--token-file", str(file)) as broker:
        yield broker


def app_of(url):
    BACKEND_ALIASES["celeriac"] = "celeriac.celery.backend:CeleriacBackend"
    return Celery("addresses", broker=url, backend=url)


@pytest.mark.parametrize("place", [f":{TOKEN}@", f"{TOKEN}@"])
def test_a_token_opens_both_addresses_and_is_not_shown(guarded, place):
    app = app_of(guarded.url.replace("//", f"//{place}"))
    result = app.send_task("nobody.knows")
    assert result.state == "PENDING"
    with app.connection() as connection:
        shown = [connection.as_uri(), app.backend.as_uri(), repr(connection)]
    assert not [text for text in shown if TOKEN in text]


def test_a_wrong_token_is_an_operational_error_at_once(guarded):
    app = app_of(guarded.url.replace("//", "//:wrong@"))
    with pytest.raises(OperationalError, match="the token is missing or wrong"):
        app.send_task("nobody.knows")


def test_a_worker_with_a_wrong_token_ends_and_says_why(guarded):
    worker = Worker(guarded, CELERIAC_TEST_URL=guarded.url.replace("//", "//:wr0ng-token@"))
    try:
        assert worker.process.wait(WAIT) != 0
    except subprocess.TimeoutExpired:
        worker.kill()
        raise
    assert "the token is missing or wrong" in worker.log()
    assert "wr0ng-token" not in worker.log()


@pytest.mark.parametrize("retry", [True, False])
def test_without_a_broker_publishing_is_an_operational_error(retry):
    with pytest.raises(OperationalError, match="no connection to a broker"):
        app_of(NOBODY).send_task("nobody.knows", retry=retry)


def test_without_a_broker_commands_are_operational_errors():
    app = app_of(NOBODY)
    for command in (app.control.inspect().ping, app.control.purge):
        with pytest.raises(OperationalError, match="no connection to a broker"):
            command()


def test_who_asks_for_tls_gets_an_error_and_no_open_connection():
    for connection in (
        Connection("celeriacs://127.0.0.1:1"),
        Connection(NOBODY, ssl=True),
        Connection(NOBODY, ssl={"ca_certs": "ca.pem"}),
    ):
        with pytest.raises(InvalidUrl, match="no TLS"):
            connection.connect()
    # kombu has one pool of connections for each address, whether with TLS or without.
    app = Celery("addresses", broker="celeriac://127.0.0.1:2")
    app.conf.broker_use_ssl = True
    with pytest.raises(InvalidUrl, match="no TLS"):
        app.send_task("nobody.knows")


def test_the_number_of_a_database_is_refused():
    with pytest.raises(InvalidUrl, match="no text may follow the port"):
        Connection("celeriac://127.0.0.1:1/0").connect()
