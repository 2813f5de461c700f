"""The clients with `celeriacs://`: they work, and each mistake has its sentence."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from celeriac.aio import AsyncClient
from celeriac.client import Client
from celeriac.errors import CeleriacError, ConnectError, TlsError, Unauthenticated
from celeriac.scratch_broker import ScratchBroker
from celeriac.url import BrokerUrl, TlsFiles, broker_url
from played_broker import Peer, PlayedBroker
from tls_files import TlsFolder

VARIABLES = ("CELERIAC_CA_FILE", "CELERIAC_CERTIFICATE_FILE", "CELERIAC_KEY_FILE")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFolder:
    return TlsFolder(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secured(tls: TlsFolder) -> Iterator[ScratchBroker]:
    """A broker with TLS that asks clients for a certificate or a token."""
    with ScratchBroker(*tls.serve) as running:
        yield running


def url_of(broker: ScratchBroker, **files: str) -> BrokerUrl:
    return replace(broker_url(broker.url), tls=TlsFiles(**files))


def error_of_one(url: BrokerUrl | str, timeout: float = 8) -> CeleriacError:
    with Client(url, timeout=timeout) as client, pytest.raises(CeleriacError) as caught:
        client.submit("nobody.runs")
    return caught.value


def error_of(url: BrokerUrl | str) -> CeleriacError:
    """Both kinds of clients have the same error."""
    error = error_of_one(url)

    async def ask() -> CeleriacError:
        async with AsyncClient(url, timeout=8) as client:
            with pytest.raises(CeleriacError) as caught:
                await client.submit("nobody.runs")
            return caught.value

    other = asyncio.run(ask())
    assert type(other) is type(error)
    assert str(other).partition(" (the broker at")[0] in str(error)
    return error


def test_o17_small_and_large_requests_go_over_tls(secured: ScratchBroker, tls: TlsFolder) -> None:
    url = url_of(secured, ca=tls.path("ca.pem"))
    with Client(url, timeout=20) as client:
        for size in (1, 100_000, 3_000_000):
            client.submit("nobody.runs", b"x" * size, task_id=f"size-{size}")
            found = client.get(f"size-{size}", with_payload=True)
            assert found.payload == b"x" * size
        ends: list[str] = []

        def ask(number: int) -> None:
            for turn in range(50):
                client.submit("nobody.runs", task_id=f"{number}-{turn}")
            ends.append(client.get(f"{number}-49").id)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ends) == 4

    async def ask_all() -> None:
        async with AsyncClient(url, timeout=20) as client:
            await asyncio.gather(*(client.submit("nobody.runs") for _ in range(200)))
            await client.submit("nobody.runs", b"x" * 3_000_000)

    asyncio.run(ask_all())


def test_o17_the_environment_names_the_files(
    secured: ScratchBroker, tls: TlsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in tls.variables.items():
        monkeypatch.setenv(name, value)
    with Client(secured.url, timeout=8) as client:
        client.submit("nobody.runs")
    monkeypatch.setenv("CELERIAC_CA_FILE", "")
    assert "this system does not know the CA" in str(error_of(secured.url))


def test_o17_a_certificate_of_another_ca_or_name_is_refused(
    secured: ScratchBroker, tls: TlsFolder
) -> None:
    tls.make_ca("other")
    error = error_of(url_of(secured, ca=tls.path("other.pem")))
    assert isinstance(error, TlsError)
    assert f"is not in {tls.path('other.pem')}: put it there" in str(error)
    tls.sign("elsewhere", "subjectAltName=DNS:elsewhere.example", "serverAuth")
    flags = ("--tls-certificate", tls.path("elsewhere.pem"), "--tls-key", tls.path("elsewhere.key"))
    with ScratchBroker(*flags) as broker:
        error = error_of(url_of(broker, ca=tls.path("ca.pem")))
    assert isinstance(error, TlsError)
    assert "the broker's certificate is not for 127.0.0.1" in str(error)


def test_o17_a_certificate_is_asked_for(tls: TlsFolder) -> None:
    tls.make_ca("third")
    tls.sign("third-client", "subjectAltName=DNS:c", "clientAuth", ca="third")
    own = {"ca": tls.path("ca.pem")}
    with ScratchBroker(*tls.serve_with_clients("required")) as broker:
        error = error_of(url_of(broker, **own))
        assert isinstance(error, TlsError)
        assert "name one in CELERIAC_CERTIFICATE_FILE" in str(error)
        wrong = {"certificate": tls.path("third-client.pem"), "key": tls.path("third-client.key")}
        error = error_of(url_of(broker, **own, **wrong))
        assert isinstance(error, TlsError)
        assert "no CA of its clients has signed it" in str(error)
        right = {"certificate": tls.path("client.pem"), "key": tls.path("client.key")}
        with Client(url_of(broker, **own, **right), timeout=8) as client:
            client.submit("nobody.runs")


def test_o14_a_certificate_takes_the_place_of_the_token(tls: TlsFolder, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("open-sesame\n")
    token.chmod(0o600)
    flags = (*tls.serve_with_clients("optional"), "--token-file", str(token))
    with ScratchBroker(*flags) as broker:
        assert isinstance(error_of(url_of(broker, ca=tls.path("ca.pem"))), Unauthenticated)
        names = {"certificate": tls.path("client.pem"), "key": tls.path("client.key")}
        with Client(url_of(broker, ca=tls.path("ca.pem"), **names), timeout=8) as client:
            client.submit("nobody.runs")


def test_o17_tls_on_one_side_alone_is_recognised(
    broker: ScratchBroker, secured: ScratchBroker, tls: TlsFolder
) -> None:
    error = error_of(secured.url.replace("celeriacs:", "celeriac:"))
    assert isinstance(error, TlsError)
    assert "write celeriacs:// in place of celeriac://" in str(error)
    error = error_of(url_of(broker, ca=tls.path("ca.pem")))
    assert isinstance(error, TlsError)
    assert "the address of a broker without TLS begins with celeriac://" in str(error)


def test_o17_another_server_behind_the_address_of_a_broker_with_tls(
    played: PlayedBroker, tls: TlsFolder
) -> None:
    for _ in range(2):
        played.play(lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    url = BrokerUrl.parse(played.url.replace("celeriac:", "celeriacs:"))
    error = error_of(replace(url, tls=TlsFiles(ca=tls.path("ca.pem"))))
    assert isinstance(error, (TlsError, ConnectError))


def test_o15_no_older_tls_and_no_other_protocol_is_spoken(
    played: PlayedBroker, tls: TlsFolder
) -> None:
    seen: list[object] = []

    def script(peer: Peer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.path("broker.pem"), tls.path("broker.key"))
        context.set_alpn_protocols(["h2", "celeriac/1"])
        with context.wrap_socket(peer.socket, server_side=True) as opened:
            seen.append((opened.version(), opened.selected_alpn_protocol()))

    played.play(script)
    url = BrokerUrl.parse(played.url.replace("celeriac:", "celeriacs:"))
    error_of_one(replace(url, tls=TlsFiles(ca=tls.path("ca.pem"))), timeout=2)
    assert seen[0] == ("TLSv1.3", "celeriac/1")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"ca": "/missing.pem"}, "the CA file /missing.pem cannot be read: No such file"),
        ({"ca": "KEY"}, "has no certificate in PEM"),
        ({"certificate": "CERTIFICATE"}, "CELERIAC_CERTIFICATE_FILE is given and"),
        ({"key": "KEY"}, "CELERIAC_KEY_FILE is given and CELERIAC_CERTIFICATE_FILE is not"),
        ({"certificate": "CERTIFICATE", "key": "OTHER"}, "does not fit the certificate"),
        ({"certificate": "KEY", "key": "KEY"}, "each has to be in PEM"),
        ({"certificate": "CERTIFICATE", "key": "LOCKED"}, "the key without a passphrase"),
    ],
)
def test_o17_a_file_that_cannot_be_used_is_named(
    secured: ScratchBroker, tls: TlsFolder, files: dict[str, str], reason: str, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run([*command, "-in", tls.path("client.key")], check=True)
    names = {
        "KEY": tls.path("client.key"),
        "CERTIFICATE": tls.path("client.pem"),
        "OTHER": tls.path("broker.key"),
        "LOCKED": str(locked),
    }
    given = {"ca": tls.path("ca.pem")} | {key: names.get(name, name) for key, name in files.items()}
    error = error_of(url_of(secured, **given))
    assert isinstance(error, TlsError)
    assert reason in str(error)


def test_o17_the_files_are_read_again_at_each_reconnect(tmp_path: Path) -> None:
    tls = TlsFolder(tmp_path)
    with ScratchBroker(*tls.serve) as broker:
        url = url_of(broker, ca=tls.path("ca.pem"))
        with Client(url, timeout=20) as client:
            client.submit("nobody.runs")
            broker.stop()
            tls.make_ca()
            tls.sign("broker", "subjectAltName=IP:127.0.0.1", "serverAuth")
            broker.start()
            client.submit("nobody.runs")


def test_an_address_with_tls_is_shown_as_such() -> None:
    url = BrokerUrl.parse("celeriacs://:s3cret@broker.example")
    assert str(url) == "celeriacs://***@broker.example:23537"
    assert url.tls == TlsFiles()
    variables = {"CELERIAC_URL": "celeriacs://h", "CELERIAC_TOKEN": "t"}
    assert broker_url(None, variables) == BrokerUrl("h", token="t", tls=TlsFiles())
