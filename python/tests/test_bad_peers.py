"""What answers is no broker, or answers wrongly: each call ends in time with an error that says so,
and never hangs."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable

import pytest

from celeriac import _codec, _dial
from celeriac.client import Client
from celeriac.errors import (
    CeleriacError,
    ConnectError,
    DeadlineExceeded,
    NotABroker,
    ProtocolError,
    TlsError,
    Unauthenticated,
    VersionMismatch,
)
from celeriac.scratch_broker import ScratchBroker
from celeriac.submission import SubmitKind
from played_broker import WELCOME, Peer, PlayedBroker, framed


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def error_of(url: str, *, timeout: float = 2.0, connect_timeout: float = 1.0) -> CeleriacError:
    """The error of a first call, which must come soon."""
    began = time.monotonic()
    client = Client(url, timeout=timeout, connect_timeout=connect_timeout)
    with client, pytest.raises(CeleriacError) as caught:
        client.get("a")
    assert time.monotonic() - began < 15
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value)
    return caught.value


def test_nothing_listens() -> None:
    port = free_port()
    error = error_of(f"celeriac://:s3cret@127.0.0.1:{port}")
    assert isinstance(error, ConnectError)
    assert isinstance(error, ConnectionError)
    assert error.retryable
    assert f"127.0.0.1:{port}" in str(error)
    assert "refused" in str(error)


def test_a_host_that_does_not_exist() -> None:
    error = error_of("celeriac://:s3cret@no-such-host.invalid", timeout=4)
    assert isinstance(error, ConnectError)
    assert "no-such-host.invalid" in str(error)
    # The user forgot the host: the error does not show what may be a token.
    assert isinstance(error_of("celeriac://s3cret", timeout=4), ConnectError)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "ex\x00ample", "-", "a b"])
def test_a_host_that_is_no_name(host: str) -> None:
    error = error_of(f"celeriac://{host}:1", timeout=4)
    assert isinstance(error, ConnectError)


def test_a_look_up_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [end.wait(60)][1:])
    began = time.monotonic()
    error = error_of("celeriac://broker.example", timeout=0.5)
    assert time.monotonic() - began < 15
    assert "takes too long" in str(error)
    end.set()


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    broker: ScratchBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    backlog = [socket.socket() for _ in range(4)]
    for each in backlog:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    addresses = [
        (socket.AF_INET, full.getsockname()),
        (socket.AF_INET, ("127.0.0.1", broker.port)),
    ]
    monkeypatch.setattr(_dial, "look_up", lambda *_: addresses)
    with Client("celeriac://two.example", timeout=8, connect_timeout=2) as client:
        assert client.submit("n").kind is SubmitKind.CREATED
    for each in [*backlog, full]:
        each.close()


OTHERS: list[tuple[bytes, str]] = [
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "HTTP"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    (b"-ERR unknown command\r\n", "Redis"),
    (b"AMQP\x00\x00\x09\x01", "AMQP"),
    (b"\x00\x00\x00\x00", "0 bytes"),
    (b"\xff\xff\xff\xff", "4294967295 bytes"),
    (b"\x00\x00\x00\x06\x00\x00\xde\xad\xbe\xef", "no frame"),
    (b"220 mail.example ESMTP\r\n", "no frame"),
    (framed(_codec.ServerFrame(request_id=1, body=_codec.Done())), "no Welcome"),
]


@pytest.mark.parametrize(("data", "reason"), OTHERS)
def test_another_program_answers(played: PlayedBroker, data: bytes, reason: str) -> None:
    def script(peer: Peer) -> None:
        peer.expect(_codec.Hello)
        peer.send(data)
        peer.wait_for_end()

    played.play(script)
    error = error_of(played.url)
    assert isinstance(error, NotABroker)
    assert reason in str(error)
    assert not error.retryable
    played.finish()


def test_o17_a_broker_with_tls_is_known_by_its_alert(played: PlayedBroker) -> None:
    def script(peer: Peer) -> None:
        peer.expect(_codec.Hello)
        peer.send(b"\x15\x03\x03\x00\x02\x02\x32")
        peer.wait_for_end()

    played.play(script)
    error = error_of(played.url)
    assert isinstance(error, TlsError)
    assert "write celeriacs:// in place of celeriac://" in str(error)
    assert not error.retryable
    played.finish()


def test_a_tls_server_answers(played: PlayedBroker) -> None:
    def script(peer: Peer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(peer.socket, server_side=True)

    played.play(script)
    assert isinstance(error_of(played.url), (TlsError, ConnectError))
    played.finish()


def test_a_program_that_says_nothing(played: PlayedBroker) -> None:
    played.play(Peer.wait_for_end)
    error = error_of(played.url, connect_timeout=0.3)
    assert isinstance(error, ConnectError)
    assert "does not answer as a broker does" in str(error)
    played.finish()


def test_a_program_that_closes_at_once(played: PlayedBroker) -> None:
    played.play(Peer.cut)
    error = error_of(played.url)
    assert isinstance(error, ConnectError)
    assert str(played.port) in str(error)
    played.finish()


def test_a_port_that_accepts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of the listener is full: the connect itself takes for ever."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for each in others:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        error = error_of(f"celeriac://127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.4)
        assert isinstance(error, ConnectError)
        for each in others:
            each.close()


def test_a_wrong_token_is_refused() -> None:
    with ScratchBroker() as running:
        running.stop()
        import os

        os.environ["CELERIAC_TOKEN"] = "right"
        try:
            running.start()
        finally:
            del os.environ["CELERIAC_TOKEN"]
        error = error_of(running.url.replace("://", "://:s3cret@"))
        assert isinstance(error, Unauthenticated)
        assert not error.retryable
        assert isinstance(error_of(running.url), Unauthenticated)
        with Client(running.url.replace("://", "://:right@")) as client:
            assert client.submit("n").kind is SubmitKind.CREATED


def test_another_version_is_refused(played: PlayedBroker) -> None:
    later = _codec.Welcome(protocol=2, lease_ms=1000)

    def script(peer: Peer) -> None:
        peer.greet(later)
        peer.wait_for_end()

    played.play(script)
    assert isinstance(error_of(played.url), VersionMismatch)
    played.finish()


def test_after_a_refusal_the_next_call_tries_again(played: PlayedBroker) -> None:
    def refuse(peer: Peer) -> None:
        peer.expect(_codec.Hello)
        peer.answer(_codec.Error(code=6, message="the token is wrong"))
        peer.cut()

    def take(peer: Peer) -> None:
        peer.greet()
        peer.expect(_codec.Get)
        peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id="a")]))
        peer.wait_for_end()

    played.play(refuse, take)
    with Client(played.url, timeout=5) as client:
        with pytest.raises(Unauthenticated, match="the token is wrong"):
            client.get("a")
        assert not client.get("a").is_known
    played.finish()


def answers_wrongly(kind: type[_codec.Message], body: _codec.Message) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.expect(kind)
        peer.answer(body)
        peer.wait_for_end()

    return script


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_codec.Done(), "Done"),
        (_codec.GetReply(), "0 tasks came for 1 ids"),
        (_codec.GetReply(tasks=[_codec.TaskInfo()] * 3), "3 tasks came for 1 ids"),
        (_codec.GetReply(left_out=[0]), "0 tasks came"),
        (_codec.GetReply(left_out=[5]), "0 tasks came"),
    ],
)
def test_an_answer_that_does_not_fit(
    played: PlayedBroker, body: _codec.Message, reason: str
) -> None:
    played.play(answers_wrongly(_codec.Get, body))
    with Client(played.url, timeout=3) as client, pytest.raises(ProtocolError, match=reason):
        client.get("a")


@pytest.mark.parametrize("count", [0, 2])
def test_outcomes_that_do_not_fit(played: PlayedBroker, count: int) -> None:
    body = _codec.SubmitReply(outcomes=[_codec.SubmitOutcome(kind=1)] * count)
    played.play(answers_wrongly(_codec.Submit, body))
    with Client(played.url, timeout=3) as client, pytest.raises(ProtocolError, match="for 1 tasks"):
        client.submit("n")


def test_an_answer_that_never_comes(played: PlayedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac._reading._WAIT_MARGIN", 0.3)

    def script(peer: Peer) -> None:
        peer.greet()
        peer.wait_for_end()

    played.play(script)
    with Client(played.url) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="no answer came in time"):
            client.submit("n", timeout=0.4)
        assert time.monotonic() - began < 15
        began = time.monotonic()
        # A broker that has the request has a margin for the answer.
        with pytest.raises(DeadlineExceeded):
            client.wait("a", timeout=0.2)
        assert time.monotonic() - began < 15


def test_a_broker_that_reads_nothing(played: PlayedBroker) -> None:
    """The writes themselves have a deadline, and what was not written does not spoil what
    follows."""

    def script(peer: Peer) -> None:
        peer.greet()
        time.sleep(1.0)
        sizes = [len(peer.expect(_codec.Submit).tasks[0].payload) for _ in range(1)]
        assert sizes == [8_000_000]
        get = peer.expect(_codec.Get)
        peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id=get.ids[0])]))
        peer.wait_for_end()

    played.play(script)
    with Client(played.url) as client:
        client.connect()
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.submit("n", b"x" * 8_000_000, timeout=0.3)
        assert time.monotonic() - began < 15
        assert client.get("a", timeout=5).id == "a"
    played.finish()


def test_silence_ends_the_connection_and_the_call_goes_on(played: PlayedBroker) -> None:
    quick = _codec.Welcome(protocol=1, heartbeat_ms=100, lease_ms=400)

    def deaf(peer: Peer) -> None:
        peer.greet(quick)
        peer.wait_for_end()

    def good(peer: Peer) -> None:
        peer.greet(quick)
        peer.expect(_codec.Get)
        peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id="a", state=6, generation=1)]))
        peer.wait_for_end()

    played.play(deaf, good)
    with Client(played.url, timeout=10) as client:
        began = time.monotonic()
        assert client.get("a").state == "SUCCESS"
        assert 0.3 < time.monotonic() - began < 15
    played.finish()


def test_heartbeats_keep_a_long_wait_alive(played: PlayedBroker) -> None:
    quick = _codec.Welcome(protocol=1, heartbeat_ms=100, lease_ms=400)
    beats = []

    def script(peer: Peer) -> None:
        peer.greet(quick)
        peer.expect(_codec.Wait)
        wait_id = peer.request_id
        for _ in range(8):
            body = peer.read().body
            assert isinstance(body, _codec.Heartbeat)
            beats.append(time.monotonic())
            peer.answer(_codec.HeartbeatReply())
        info = _codec.TaskInfo(id="a", state=6, generation=1)
        peer.answer(_codec.WaitReply(satisfied=True, tasks=[info]), wait_id)
        peer.wait_for_end()

    played.play(script)
    with Client(played.url) as client:
        assert client.wait("a", timeout=10).satisfied
    played.finish()
    assert len(beats) == 8


def test_random_bytes_after_the_handshake_never_hang_a_client(played: PlayedBroker) -> None:
    import random

    chance = random.Random(7)
    parts = [chance.randbytes(chance.randint(1, 60)) for _ in range(12)]
    # Each of these lengths is over the limit or its frame is no message, or it stays incomplete.
    scripts = []
    for part in parts:

        def script(peer: Peer, part: bytes = part) -> None:
            peer.greet(WELCOME)
            peer.expect(_codec.Get)
            peer.send(part)
            peer.cut()

        scripts.append(script)
    played.play(*scripts)
    with Client(played.url, timeout=1.5) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.get("a")
        assert time.monotonic() - began < 15
