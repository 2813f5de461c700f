"""The servers under measurement: each on a free port, in a temporary folder, and on a leash, so
that none is left over. A server that is not installed is named with the command that installs it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from celeriac.binary import find_binary
from leash import running

START_SECONDS = 90
RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's wrapper insists on a user and a folder of its own. The script behind it does not."""


class Missing(Exception):
    """A server that is not installed."""


class Server(NamedTuple):
    """A server that runs: where Celery finds the broker and its results, and the process."""

    url: str
    results: str
    pid: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, is_ready: Callable[[socket.socket], bool], name: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            if is_ready(sock):
                return
        time.sleep(0.05)
    raise SystemExit(f"{name} does not start")


@contextlib.contextmanager
def folder() -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="celeriac-bench-")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def celeriac_server() -> Iterator[Server]:
    port = free_port()
    with folder() as data:
        command = [find_binary(), "serve", "--data", data, "--listen", f"127.0.0.1:{port}"]
        with running([*command, "--log", "warn"]) as process:
            wait_for(port, lambda _: True, "celeriac")
            url = f"celeriac://127.0.0.1:{port}"
            yield Server(url, url, process.pid)


@contextlib.contextmanager
def redis_server(fsync: str) -> Iterator[Server]:
    program = shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise Missing("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    with folder() as data:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", data, "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", fsync]
        with running([program, *options]) as process:
            wait_for(port, lambda _: True, "redis-server")
            url = f"redis://127.0.0.1:{port}/0"
            yield Server(url, url, process.pid)


@contextlib.contextmanager
def rabbitmq_server() -> Iterator[Server]:
    program = RABBIT if RABBIT.exists() else shutil.which("rabbitmq-server")
    names = shutil.which("epmd")
    if program is None or names is None:
        raise Missing("rabbitmq-server is not installed: apt-get install rabbitmq-server")
    port, names_port, distribution_port = free_port(), free_port(), free_port()
    with folder() as data:
        settings = f"listeners.tcp.1 = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\n"
        Path(data, "rabbitmq.conf").write_text(settings + "log.console = false\n")
        files = {
            "HOME": ".",
            "RABBITMQ_MNESIA_BASE": "mnesia",
            "RABBITMQ_LOG_BASE": "log",
            "RABBITMQ_PID_FILE": "pid",
            "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": "no-environment",
            "RABBITMQ_ADVANCED_CONFIG_FILE": "no-advanced-settings",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "no-plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": "generated",
            "ERL_CRASH_DUMP": "crash.dump",
        }
        environment = {
            **os.environ,
            **{name: str(Path(data, file)) for name, file in files.items()},
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "ERL_EPMD_PORT": str(names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        # Erlang's name server would be started as a daemon, and stay, if there were none.
        epmd = [names, "-port", str(names_port), "-address", "127.0.0.1"]
        with running(epmd), running([str(program)], env=environment) as process:
            wait_for(port, _greets, "rabbitmq-server")
            yield Server(f"amqp://guest:guest@127.0.0.1:{port}//", "rpc://", process.pid)


def _greets(sock: socket.socket) -> bool:
    """RabbitMQ listens before it answers."""
    sock.settimeout(5)
    sock.sendall(b"AMQP\x00\x00\x09\x01")
    return bool(sock.recv(1))
