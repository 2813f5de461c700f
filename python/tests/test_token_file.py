"""A client reads the file of its token again before each reconnect."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from celeriac import _codec
from celeriac.aio import AsyncClient
from celeriac.client import Client
from celeriac.url import BrokerUrl, PresentToken, broker_url
from celeriac.worker.connector import Connected, Connector
from played_broker import Peer, PlayedBroker

TOKENS = ("first", "second", "second")
"""Of the connections below: the file changes after the first, and is broken after the second."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


@pytest.fixture
def change(file: Path) -> Callable[[int], None]:
    """Changes the file after the connection of this number, as a person does: by a rename."""

    def work(number: int) -> None:
        new = file.with_suffix(".new")
        new.write_text("second\n" if number == 0 else "two words\n")
        new.rename(file)

    return work


def url_of(played: PlayedBroker, file: Path) -> BrokerUrl:
    return broker_url(played.url, {"CELERIAC_TOKEN_FILE": str(file)})


def play(played: PlayedBroker) -> list[str]:
    """A broker that ends each connection after one answer. The tokens come into the list."""
    seen: list[str] = []

    def script(peer: Peer) -> None:
        seen.append(peer.greet().token)
        peer.expect(_codec.Get)
        peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id="a")]))
        peer.cut()

    played.play(*[script] * len(TOKENS))
    return seen


def test_o5_a_client_reads_its_token_file_again(file: Path, change: Callable[[int], None]) -> None:
    with PlayedBroker() as played:
        seen = play(played)
        with Client(url_of(played, file), timeout=8) as client:
            for number in range(len(TOKENS)):
                client.info(["a"])
                change(number)
        played.finish()
    assert tuple(seen) == TOKENS


def test_an_async_client_reads_it_again_too(file: Path, change: Callable[[int], None]) -> None:
    with PlayedBroker() as played:
        seen = play(played)

        async def ask() -> None:
            async with AsyncClient(url_of(played, file), timeout=8) as client:
                for number in range(len(TOKENS)):
                    await client.info(["a"])
                    change(number)

        asyncio.run(ask())
        played.finish()
    assert tuple(seen) == TOKENS


def test_a_worker_reads_it_again_too(file: Path, change: Callable[[int], None]) -> None:
    with PlayedBroker() as played:
        seen: list[str] = []
        opened = threading.Semaphore(0)

        def done(outcome: object) -> None:
            assert isinstance(outcome, Connected)
            outcome.socket.close()
            opened.release()

        played.play(*[lambda peer: seen.append(peer.greet().token)] * len(TOKENS))
        connector = Connector(url_of(played, file), done)
        for number in range(len(TOKENS)):
            hello = _codec.Hello(protocol_min=1, protocol_max=1, token="first")
            connector.start(hello, has_lived=True)
            assert opened.acquire(timeout=8)
            change(number)
        played.finish()
    assert tuple(seen) == TOKENS


def test_a_pipe_is_read_once_and_a_token_of_the_address_has_no_file(file: Path) -> None:
    pipe = file.with_name("pipe")
    os.mkfifo(pipe)
    url = BrokerUrl("h", token="t", token_file=str(pipe))
    assert PresentToken(url)() == "t"
    environment = {"CELERIAC_TOKEN_FILE": str(file)}
    assert broker_url("celeriac://:own@h", environment).token_file == ""
    assert PresentToken(broker_url("celeriac://h", environment)).is_from_file
