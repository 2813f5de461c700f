"""What a client says first on each connection."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from importlib import metadata

from celeriac import _codec
from celeriac._exchange import PROTOCOL
from celeriac._values import text
from celeriac.url import BrokerUrl

CLIENT_NAME = "celeriac-python"


def client_version() -> str:
    """The version of this package; `0` when it runs from its sources."""
    try:
        return metadata.version("celeriac")
    except metadata.PackageNotFoundError:
        return "0"


def hello_of(url: BrokerUrl, instance: str | None = None) -> Callable[[], _codec.Hello]:
    """Makes the Hello of this process. A process that was forked is an instance of its own, unless
    its program has given it a name."""
    if instance is not None:
        text("instance", instance)
    version = client_version()

    def hello() -> _codec.Hello:
        return _codec.Hello(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            client_name=CLIENT_NAME,
            client_version=version,
            token=url.token,
            instance_id=instance or instance_name(),
        )

    return hello


def instance_name() -> str:
    """The host, the process, and a part of chance: different for each client."""
    host = socket.gethostname().encode()[:200].decode(errors="ignore")
    return f"{host}-{os.getpid()}-{os.urandom(2).hex()}"
