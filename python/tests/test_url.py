"""The address of a broker: what is taken, what is refused, and that no token is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from celeriac.binary import find_binary
from celeriac.errors import InvalidUrl
from celeriac.url import BrokerUrl, broker_url


@pytest.mark.parametrize(
    ("text", "address", "token"),
    [
        ("celeriac://localhost", "localhost:23537", ""),
        (" celeriac://10.0.0.1:9/ ", "10.0.0.1:9", ""),
        ("celeriac://s%40p%C3%A4t@host:1", "host:1", "s@pät"),
        ("celeriac://:s3cret@host", "host:23537", "s3cret"),
        ("celeriac://%3As3cret@host", "host:23537", ":s3cret"),
        ("celeriac://a:b@host", "host:23537", "a:b"),
        ("celeriac://a@b@host", "host:23537", "a@b"),
        ("celeriac://a/b@host", "host:23537", "a/b"),
        ("celeriac://t@[::1]:7", "[::1]:7", "t"),
        ("celeriac://[::1]", "[::1]:23537", ""),
    ],
)
def test_host_port_and_token_are_taken_apart(text: str, address: str, token: str) -> None:
    url = BrokerUrl.parse(text)
    assert (url.address, url.token) == (address, token)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("localhost:1", "must begin with"),
        ("redis://localhost", "must begin with"),
        ("celeriac://", "no host"),
        ("celeriac://s3cret@", "no host"),
        ("celeriac://host:", "port"),
        ("celeriac://host:0", "port"),
        ("celeriac://host:65536", "port"),
        ("celeriac://host:s3cret", "port"),
        ("celeriac://host:+5", "port"),
        ("celeriac://host:\u0665", "port"),
        ("celeriac://::1", "brackets"),
        ("celeriac://[::1", "brackets"),
        ("celeriac://host/s3cret", "no text may follow"),
        ("celeriac://host?s3cret", "no text may follow"),
        ("celeriac://s3cret%zz@host", "%"),
        ("celeriac://s3cret%ff@host", "%"),
        ("celeriac://" + "s3cret" * 300 + "@host", "more than"),
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(text: str, reason: str) -> None:
    with pytest.raises(InvalidUrl, match=reason) as caught:
        BrokerUrl.parse(text)
    assert "s3cret" not in str(caught.value)


def test_no_text_of_a_url_shows_the_token() -> None:
    url = BrokerUrl.parse("celeriac://:s3cret@broker.example:7")
    for text in (str(url), repr(url), f"{url}", repr([url])):
        assert "s3cret" not in text
        assert "broker.example:7" in text
    # The user forgot the host: the word is perhaps the token.
    assert "s3cret" not in repr(BrokerUrl.parse("celeriac://s3cret"))


def test_the_environment_names_the_broker(tmp_path: Path) -> None:
    assert broker_url(None, {}).address == "127.0.0.1:23537"
    file = tmp_path / "token"
    file.write_text("of%file\n")
    variables = {
        "CELERIAC_URL": "celeriac://own@h",
        "CELERIAC_TOKEN_FILE": str(file),
        "CELERIAC_TOKEN": "variable",
    }
    assert broker_url(None, variables).token == "own"
    variables["CELERIAC_URL"] = "celeriac://h"
    assert broker_url(None, variables).token == "of%file"
    assert broker_url("celeriac://other", variables).host == "other"
    assert broker_url("celeriac://other", variables).token == "of%file"
    del variables["CELERIAC_TOKEN_FILE"]
    assert broker_url(None, variables).token == "variable"
    assert broker_url(None, {"CELERIAC_TOKEN": "a@b/c"}).token == "a@b/c"


def test_an_empty_variable_counts_as_not_set() -> None:
    empty = {"CELERIAC_URL": "", "CELERIAC_TOKEN_FILE": "", "CELERIAC_TOKEN": ""}
    assert broker_url(None, empty) == BrokerUrl.parse("celeriac://127.0.0.1:23537")
    assert broker_url(None, {**empty, "CELERIAC_TOKEN": "variable"}).token == "variable"
    assert broker_url("celeriac://own@h", empty).token == "own"


def test_an_empty_variable_names_no_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "celeriac"
    program.touch(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CELERIAC_BINARY", "")
    monkeypatch.setattr("celeriac.binary._script_folders", list)
    assert find_binary() == str(program)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"CELERIAC_URL": "http://s3cret"}, "CELERIAC_URL"),
        ({"CELERIAC_TOKEN": "s3cret two"}, "CELERIAC_TOKEN"),
        ({"CELERIAC_TOKEN": "s3crét"}, "CELERIAC_TOKEN"),
        ({"CELERIAC_TOKEN_FILE": "s3cret"}, "CELERIAC_TOKEN_FILE"),
        ({"CELERIAC_TOKEN_FILE": "/dev/null"}, "has no token"),
        ({"CELERIAC_TOKEN_FILE": "/"}, "cannot be read"),
        ({"CELERIAC_TOKEN_FILE": "/dev/zero"}, "CELERIAC_TOKEN_FILE"),
        ({"CELERIAC_TOKEN_FILE": "s3cret\0"}, "cannot be read"),
        # Python has bytes that are not UTF-8 like this.
        ({"CELERIAC_URL": "s3cr\udcff"}, "the variable CELERIAC_URL is not UTF-8 text"),
        ({"CELERIAC_TOKEN": "s3cr\udcff"}, "the variable CELERIAC_TOKEN is not UTF-8 text"),
        ({"CELERIAC_TOKEN_FILE": "s3cr\udcff"}, "variable CELERIAC_TOKEN_FILE is not UTF-8 text"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(variables: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidUrl, match=reason) as caught:
        broker_url(None, variables)
    assert "s3cr" not in str(caught.value)
