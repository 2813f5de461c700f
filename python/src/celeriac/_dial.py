"""Opens a TCP connection to a broker within a deadline, the look-up of its name included."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from celeriac.errors import ConnectError
from celeriac.url import BrokerUrl

_Address = tuple[socket.AddressFamily, tuple[Any, ...]]

_USER_TIMEOUT_MS = 30_000
"""How long sent bytes may stay unconfirmed before the system gives the connection up."""


def dial(url: BrokerUrl, deadline: float) -> socket.socket:
    """An open socket. Tries each address of the host in turn. Raises `ConnectError`."""
    trouble: OSError | None = None
    addresses = look_up(url, deadline)
    for place, (family, address) in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        # One address that does not answer must not take the time of the others.
        left /= len(addresses) - place
        try:
            return _open(family, address, left)
        except OSError as error:
            trouble = error
    raise ConnectError(f"no connection to a broker at {url.shown}: {_reason(trouble)}")


def _open(family: socket.AddressFamily, address: tuple[Any, ...], seconds: float) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.settimeout(max(seconds, 0.001))
        opened.connect(address)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    except BaseException:
        opened.close()
        raise
    if opened.getsockname() == opened.getpeername():
        # A socket that connects to a free port of its own machine may meet itself.
        opened.close()
        raise ConnectionRefusedError(0, "nothing listens there")
    return opened


def look_up(url: BrokerUrl, deadline: float) -> list[_Address]:
    """The addresses of the host. Raises `ConnectError`."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, url.host)
        except (OSError, ValueError):
            continue
        return [(family, (url.host, url.port))]
    return _look_up_name(url, deadline)


def _look_up_name(url: BrokerUrl, deadline: float) -> list[_Address]:
    """The system's look-up has no deadline of its own, so a thread does it, which ends with it."""
    found: list[_Address] = []
    trouble: list[Exception] = []

    def work() -> None:
        try:
            for family, _, _, _, address in socket.getaddrinfo(
                url.host, url.port, type=socket.SOCK_STREAM
            ):
                found.append((family, address))
        except (OSError, UnicodeError) as error:
            trouble.append(error)

    thread = threading.Thread(target=work, name="celeriac-look-up", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # At the end of the interpreter no thread can start.
        work()
    else:
        thread.join(max(0.0, deadline - time.monotonic()))
    if found:
        return list(dict.fromkeys(found))
    reason = _reason(trouble[0]) if trouble else "the look-up of its name takes too long"
    raise ConnectError(f"the host of the broker at {url.shown} is not known: {reason}")


def _reason(error: Exception | None) -> str:
    if error is None or isinstance(error, TimeoutError):
        return "nothing answered in time"
    if isinstance(error, UnicodeError):
        return "its name is no name of a host"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
