"""The address of a broker: `celeriac://:token@host:port`, or `celeriacs://` for TLS, from a text or
from the environment."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote_to_bytes

from celeriac.errors import InvalidUrl

DEFAULT_PORT = 23537
DEFAULT_URL = f"celeriac://127.0.0.1:{DEFAULT_PORT}"
SCHEME = "celeriac://"
SCHEME_WITH_TLS = "celeriacs://"

_TOKEN_FILE_BYTES_MAX = 64 * 1024
"""More than the longest token. The bound ends the reading of a device in place of the file."""
_TOKEN_BYTES_MAX = 1024
_VISIBLE = re.compile(r"[!-~]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a connection with TLS, in PEM. They are read anew for each connection.

    In place of what is empty, the environment counts: `CELERIAC_CA_FILE`, or else the CAs that the
    system trusts, and `CELERIAC_CERTIFICATE_FILE` with `CELERIAC_KEY_FILE`.
    """

    ca: str = ""
    """The CAs whose brokers this client trusts."""
    certificate: str = ""
    """The certificate that the client shows to a broker that asks for one."""
    key: str = ""
    """The private key of that certificate."""


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """The address of a broker, and the token of its clients. No text of this object shows the
    token.

    >>> url = BrokerUrl.parse("celeriac://:s3cret@broker.example")
    >>> url.host, url.port, url.token
    ('broker.example', 23537, 's3cret')
    >>> url
    BrokerUrl('celeriac://***@broker.example:23537')
    """

    host: str
    port: int = DEFAULT_PORT
    token: str = field(default="", repr=False)
    tls: TlsFiles | None = None
    """The files of TLS; None for a connection without TLS."""
    token_file: str = ""
    """The file that the token came from. A client reads it again before each connection."""

    @staticmethod
    def parse(text: str) -> BrokerUrl:
        """Takes a text apart. Raises `InvalidUrl`, whose message repeats no part of the text: a
        token may stand in the wrong place."""
        if not isinstance(text, str):
            raise InvalidUrl(f"the address of the broker is a {type(text).__name__}, not a text")
        text = text.strip()
        tls = TlsFiles() if text.startswith(SCHEME_WITH_TLS) else None
        if tls is None and not text.startswith(SCHEME):
            raise InvalidUrl(
                "the address of the broker must begin with celeriac://, or celeriacs:// for TLS, "
                f"as in celeriac://:token@localhost:{DEFAULT_PORT}"
            )
        # The last `@` ends the token: a token may contain one, a host may not.
        token, _, place = text.partition("://")[2].rpartition("@")
        place, slash, rest = _split_first(place, "/?#")
        if rest or slash not in ("", "/"):
            raise InvalidUrl(
                "no text may follow the port: a broker has no databases and no virtual hosts; a "
                "token is written before an @, as in celeriac://:token@localhost"
            )
        host, port = _host_and_port(place)
        return BrokerUrl(host, port, _decoded(token.removeprefix(":")), tls)

    @property
    def address(self) -> str:
        """Host and port. An IPv6 address stands in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The address for messages. A host of a single word without a token is not shown: in
        `celeriac://s3cret` the user forgot the host."""
        is_host = (
            self.token
            or self.host == "localhost"
            or "." in self.host
            or ":" in self.host
            or self.port != DEFAULT_PORT
        )
        return self.address if is_host else f"***:{self.port}"

    def __str__(self) -> str:
        scheme = SCHEME if self.tls is None else SCHEME_WITH_TLS
        return f"{scheme}{'***@' if self.token else ''}{self.shown}"

    def __repr__(self) -> str:
        return f"BrokerUrl({str(self)!r})"


def broker_url(
    text: str | BrokerUrl | None = None, environment: Mapping[str, str] | None = None
) -> BrokerUrl:
    """The broker of this text, or else of the environment. A `BrokerUrl` is returned as it is.

    - `CELERIAC_URL` is the address when there is no text; the default is
      `celeriac://127.0.0.1:23537`.
    - Without a token in the address, `CELERIAC_TOKEN_FILE` names a file whose one line is the
      token. Clients and workers read it again before each reconnect.
    - Without both, `CELERIAC_TOKEN` is the token.

    A variable that is empty counts as not set.
    """
    if isinstance(text, BrokerUrl):
        return text
    variables = os.environ if environment is None else environment
    if text is None:
        address = environment_variable(variables, "CELERIAC_URL") or DEFAULT_URL
        try:
            url = BrokerUrl.parse(address)
        except InvalidUrl as error:
            raise InvalidUrl(f"CELERIAC_URL cannot be used: {error}") from None
    else:
        url = BrokerUrl.parse(text)
    if url.token:
        return url
    path = environment_variable(variables, "CELERIAC_TOKEN_FILE")
    if path:
        return replace(url, token=_token_in(path), token_file=path)
    token = _visible("CELERIAC_TOKEN", environment_variable(variables, "CELERIAC_TOKEN"))
    return replace(url, token=token)


class PresentToken:
    """The token of each new connection: read again from its file, if it came from one. While the
    file cannot be read, the token that was read last counts."""

    def __init__(self, url: BrokerUrl) -> None:
        self._file = url.token_file
        self._token = url.token

    @property
    def is_from_file(self) -> bool:
        """Whether a call reads a file."""
        return bool(self._file)

    def __call__(self) -> str:
        # A pipe, such as that of a shell, was read to its end.
        if self._file and os.path.isfile(self._file):
            with contextlib.suppress(InvalidUrl):
                self._token = _token_in(self._file)
        return self._token


def environment_variable(variables: Mapping[str, str], name: str) -> str:
    """A variable of the environment, or an empty text. Python keeps bytes that are not UTF-8 as
    halves of surrogate pairs, which no output takes."""
    value = variables.get(name, "")
    try:
        value.encode()
    except UnicodeError:
        raise InvalidUrl(f"the variable {name} is not UTF-8 text") from None
    return value


def _split_first(text: str, marks: str) -> tuple[str, str, str]:
    for place, letter in enumerate(text):
        if letter in marks:
            return text[:place], letter, text[place + 1 :]
    return text, "", ""


def _host_and_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, closing, after = text[1:].partition("]")
        if not closing or (after and not after.startswith(":")):
            raise _brackets()
        digits = after[1:] if after else None
    else:
        host, colon, digits_text = text.partition(":")
        if ":" in digits_text:
            raise _brackets()
        digits = digits_text if colon else None
    if not host:
        raise InvalidUrl("the address of the broker has no host")
    if digits is None:
        return host, DEFAULT_PORT
    if re.fullmatch(r"[0-9]{1,5}", digits, re.ASCII) and 0 < int(digits) < 65536:
        return host, int(digits)
    raise InvalidUrl(
        "the host is not followed by a port from 1 to 65535; a token is written before an @, "
        "as in celeriac://:token@localhost"
    )


def _brackets() -> InvalidUrl:
    return InvalidUrl(
        f"an IPv6 address is written in brackets, as in celeriac://[::1]:{DEFAULT_PORT}"
    )


def _decoded(token: str) -> str:
    fault = (
        "the token has a % that is not followed by two hexadecimal digits of UTF-8 text; "
        "write %25 for %"
    )
    if re.search(r"%(?![0-9a-fA-F]{2})", token):
        raise InvalidUrl(fault)
    try:
        decoded = unquote_to_bytes(token)
        if len(decoded) > _TOKEN_BYTES_MAX:
            raise InvalidUrl(f"the token has more than {_TOKEN_BYTES_MAX} bytes")
        return decoded.decode()
    except UnicodeError:
        raise InvalidUrl(fault) from None


def _token_in(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_TOKEN_FILE_BYTES_MAX)
    except (OSError, ValueError) as error:
        # A user may have put the token itself into the variable. Only what is a path is shown.
        shown = f", {path}," if os.path.isabs(path) else ""
        reason = getattr(error, "strerror", None) or "it is no path"
        raise InvalidUrl(
            f"the token file that CELERIAC_TOKEN_FILE names{shown} cannot be read: {reason}"
        ) from None
    token = _visible("CELERIAC_TOKEN_FILE", data.decode("latin-1").strip())
    # An empty file is an error: the secret that should be in it is missing.
    if not token:
        raise InvalidUrl("the file that CELERIAC_TOKEN_FILE names has no token")
    return token


def _visible(variable: str, token: str) -> str:
    if not _VISIBLE.fullmatch(token) or len(token) > _TOKEN_BYTES_MAX:
        raise InvalidUrl(
            f"{variable} is not one line of at most {_TOKEN_BYTES_MAX} visible ASCII characters "
            "without spaces"
        )
    return token
