"""Apps of Celery with a broker that speaks TLS."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celery.app.backends import BACKEND_ALIASES
from kit import WAIT, Worker
from kombu import Connection

import celeriac._register  # noqa: F401 - the tests run without installing the package.
from celeriac.scratch_broker import ScratchBroker
from celery import Celery
from tls_files import TlsFolder


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return TlsFolder(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secured(tls):
    with ScratchBroker(*tls.serve_with_clients("required")) as running:
        yield running


def app_of(url, **options):
    for scheme in ("celeriac", "celeriacs"):
        BACKEND_ALIASES[scheme] = "celeriac.celery.backend:CeleriacBackend"
    app = Celery("subject", broker=url, backend=url)
    app.conf.broker_use_ssl = options
    return app


def test_o17_tasks_and_results_go_over_tls_with_the_settings_of_celery(secured, tls, monkeypatch):
    worker = Worker(secured, "-c", "1", **tls.variables)
    try:
        for name in tls.variables:
            monkeypatch.delenv(name, raising=False)
        files = {"ca_certs": tls.path("ca.pem"), "certfile": tls.path("client.pem")}
        app = app_of(secured.url, keyfile=tls.path("client.key"), **files)
        result = app.send_task("subject.add", (1, 2))
        assert result.get(timeout=WAIT) == 3
    finally:
        worker.kill()


@pytest.mark.parametrize(
    ("scheme", "trusts", "reason"),
    [
        ("celeriacs", True, "asks for a certificate of this client"),
        ("celeriacs", False, "this system does not know the CA"),
        ("celeriac", False, "write celeriacs:// in place of celeriac://"),
    ],
)
def test_o17_what_is_wrong_with_tls_is_said(secured, tls, scheme, trusts, reason):
    options = {"ca_certs": tls.path("ca.pem")} if trusts else None
    url = f"{scheme}://127.0.0.1:{secured.port}"
    with pytest.raises(OSError, match=reason) as caught:
        Connection(url, ssl=options).connect()
    # kombu connects again after these.
    assert isinstance(caught.value, Connection(url).connection_errors)


def test_o17_a_worker_says_what_is_wrong_with_tls(secured, tls):
    worker = Worker(secured, "-c", "1", CELERIAC_CA_FILE="/missing.pem")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(3)
        assert "the CA file /missing.pem cannot be read" in worker.log()
    finally:
        worker.kill()
