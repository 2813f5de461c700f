"""The two addresses of an app: with tokens, wrong ones, and those of no broker."""

from __future__ import annotations

import ssl
import subprocess

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.app.backends import BACKEND_ALIASES
from kit import WAIT, Worker
from kombu import Connection
from kombu.exceptions import OperationalError

import celeriac._register  # noqa: F401 - the tests run without installing the package.
from celeriac.celery.places import address_of, files_of
from celeriac.errors import InvalidUrl
from celeriac.scratch_broker import ScratchBroker
from celeriac.url import TlsFiles
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


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cert_reqs": ssl.CERT_NONE}, "turn the check of the broker's certificate off"),
        ({"ssl_cert_reqs": "optional"}, "turn the check of the broker's certificate off"),
        ({"ciphers": "ALL"}, "only ca_certs, certfile, keyfile and cert_reqs have an effect"),
    ],
)
def test_o17_options_of_tls_without_an_effect_or_a_check_are_refused(options, reason):
    with pytest.raises(InvalidUrl, match=reason):
        Connection(NOBODY, ssl=options).connect()
    # kombu has one pool of connections for each address, whether with TLS or without.
    app = Celery("addresses", broker=f"celeriac://127.0.0.1:{2 + len(reason) + len(options)}")
    app.conf.broker_use_ssl = options
    with pytest.raises(InvalidUrl, match=reason):
        app.send_task("nobody.knows")


def test_o17_the_options_of_celery_name_the_files_of_tls():
    cert = {"certfile": "c.pem", "keyfile": "k.pem"}
    assert files_of(None) is None
    assert files_of(False) is None
    assert files_of(True) == TlsFiles()
    assert files_of({"ca_certs": "ca.pem", **cert}) == TlsFiles("ca.pem", "c.pem", "k.pem")
    redis = {f"ssl_{name}": value for name, value in cert.items()}
    assert files_of({**redis, "ssl_cert_reqs": "required"}) == TlsFiles("", "c.pem", "k.pem")
    connection = Connection("celeriac://:s3cret@broker.example", ssl={"ca_certs": "ca.pem"})
    assert connection.as_uri() == "celeriacs://:**@broker.example:23537//"
    assert Connection("celeriacs://broker.example").as_uri() == "celeriacs://broker.example:23537//"


def test_o17_an_address_of_the_environment_keeps_its_tls(monkeypatch):
    monkeypatch.setenv("CELERIAC_URL", "celeriacs://:s3cret@elsewhere.example:7")
    connection = Connection("celeriac://")
    assert connection.as_uri() == "celeriacs://:**@elsewhere.example:7//"
    assert connection.clone().as_uri() == "celeriacs://:**@elsewhere.example:7//"
    # The scheme asks for it, whatever the environment says.
    monkeypatch.setenv("CELERIAC_URL", "celeriac://elsewhere.example")
    assert address_of("celeriacs://").tls == TlsFiles()
    assert address_of("celeriac://").tls is None


def test_the_number_of_a_database_is_refused():
    with pytest.raises(InvalidUrl, match="no text may follow the port"):
        Connection("celeriac://127.0.0.1:1/0").connect()
