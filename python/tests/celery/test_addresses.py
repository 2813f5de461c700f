"""Addresses in the settings of Celery: their tokens stay secret, and faults are named."""

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.app.backends import BACKEND_ALIASES
from kombu import Connection

import celeriac._register
from celeriac.celery.backend import CeleriacBackend
from celeriac.errors import InvalidUrl
from celery import Celery

# The tests run without installing the package.
assert celeriac._register
BACKEND_ALIASES["celeriac"] = "celeriac.celery.backend:CeleriacBackend"
PLACES = ["celeriac://:s3cret@broker.example:9", "celeriac://s3cret@broker.example:9"]


@pytest.mark.parametrize("url", PLACES)
def test_the_token_is_masked_in_both_places(url):
    connection = Connection(url)
    for text in (connection.as_uri(), repr(connection), str(connection.info()["hostname"])):
        assert "s3cret" not in text
        assert "broker.example" in text
    assert connection.info()["userid"] is None
    assert "s3cret" in connection.as_uri(include_password=True)
    backend = CeleriacBackend(app=Celery("addresses"), url=url)
    assert "s3cret" not in backend.as_uri()
    assert backend.as_uri(include_password=True) == url


@pytest.mark.parametrize("url", PLACES)
def test_celery_shows_no_token(url):
    app = Celery("addresses", broker=url, backend=url)
    assert "s3cret" not in app.connection_for_write().as_uri()
    assert "s3cret" not in app.backend.as_uri()
    assert app.backend.place == ("broker.example", 9)


@pytest.mark.parametrize("url", PLACES)
def test_copies_of_a_connection_keep_the_token(url):
    connection = Connection(url)
    for each in (connection, connection.clone(), connection.clone().clone()):
        each.transport.as_uri("")
        assert (each.hostname, each.port, each.password) == ("broker.example", 9, "s3cret")
    other = Connection("celeriac://first;" + url)
    other.maybe_switch_next()
    assert "s3cret" not in other.as_uri()
    assert (other.hostname, other.password) == ("broker.example", "s3cret")


def test_an_address_without_a_host_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("CELERIAC_URL", "celeriac://:s3cret@elsewhere.example:7")
    connection = Connection("celeriac://")
    assert connection.as_uri() == "celeriac://:**@elsewhere.example:7//"
    assert CeleriacBackend(app=Celery("addresses"), url="celeriac://").place == (
        "elsewhere.example",
        7,
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("celeriacs://broker.example/vhost", "no text may follow"),
        ("celeriac://broker.example:port", "port"),
        ("celeriac://broker.example/vhost", "no text may follow"),
    ],
)
def test_a_wrong_address_is_refused_with_the_reason(url, reason):
    # kombu itself refuses a port that is no number.
    with pytest.raises(ValueError, match=f"(?i){reason}") as refusal:
        Connection(url).connect()
    assert "s3cret" not in str(refusal.value)
    with pytest.raises(InvalidUrl, match=reason):
        CeleriacBackend(app=Celery("addresses"), url=url)
