"""A broker for tests: a process of its own, on a free port and in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time

from celeriac.binary import find_binary
from celeriac.errors import CeleriacError
from celeriac.url import DEFAULT_PORT

#: How long the broker may take to listen, and to end, in seconds.
_START_SECONDS, _END_SECONDS = 20.0, 10.0
_PORTS = 10_000
"""From so many ports a broker takes one by chance."""


class BrokerNotStarted(CeleriacError):
    """The broker of the tests ended before it listened, or did not listen in time."""


class ScratchBroker:
    """Runs the `celeriac` binary until `close`.

    >>> with ScratchBroker() as broker:  # doctest: +SKIP
    ...     app.url = broker.url
    """

    def __init__(self, *options: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="celeriac-test-")
        self.options = options
        """More options for `celeriac serve`."""
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def url(self) -> str:
        """The address of the broker."""
        scheme = "celeriacs" if "--tls-certificate" in self.options else "celeriac"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The number of its process; None when it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the broker on the same data and port, and waits until it listens."""
        command = [find_binary(), "serve", "--data", os.path.join(self.folder, "data")]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.options]
        log_path = os.path.join(self.folder, "log")
        with open(log_path, "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.02)
        self.kill()
        with open(log_path, errors="replace") as written:
            raise BrokerNotStarted(f"The broker did not start. It wrote:\n{written.read()[-2000:]}")

    def stop(self) -> None:
        """Ends the broker in order. Its data stays for the next `start`."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """Ends the broker at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Ends the broker, and removes its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> ScratchBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _free_port() -> int:
    """A port below those that the system gives to connections: between the end of a broker and its
    next start no connection of another program takes it."""
    first = _first_of_the_system()
    for _ in range(100 if first > 2 * _PORTS else 0):
        port = random.randrange(first - _PORTS, first)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            if port != DEFAULT_PORT:
                return port
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        given: int = sock.getsockname()[1]
        return given


def _first_of_the_system() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
            return int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
