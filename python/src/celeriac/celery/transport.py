"""The transport of kombu for `celeriac://`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from kombu.transport import base

from celeriac._hello import client_version
from celeriac.celery import together
from celeriac.celery.connection import Connection
from celeriac.celery.ending import ending
from celeriac.celery.faults import (
    CHANNEL_ERRORS,
    CONNECTION_ERRORS,
    RECOVERABLE_CHANNEL_ERRORS,
    WorkerEnds,
)
from celeriac.celery.places import address_of, files_of
from celeriac.celery.routes import bindings_of
from celeriac.url import DEFAULT_PORT, BrokerUrl, TlsFiles, broker_url

_CONNECT_SECONDS = 10.0


class Management(base.Management):
    """What `celery list bindings` shows."""

    def get_bindings(self) -> list[dict[str, str]]:
        """All bindings of the broker."""
        with self.transport.client.clone() as client:
            found = bindings_of(client.connection.line)
        return [
            {
                "source": binding.exchange,
                "destination": binding.destination.queue or binding.destination.mailbox,
                "routing_key": binding.routing_key,
            }
            for binding in found
            if binding.destination is not None
        ]


class Transport(base.Transport):
    """Connects to a broker of Celeriac."""

    Management = Management

    default_port = DEFAULT_PORT
    driver_type = "celeriac"
    driver_name = "celeriac"
    connection_errors = CONNECTION_ERRORS
    channel_errors = CHANNEL_ERRORS
    recoverable_connection_errors = CONNECTION_ERRORS
    recoverable_channel_errors = RECOVERABLE_CHANNEL_ERRORS

    implements = base.Transport.implements.extend(
        asynchronous=True,
        heartbeats=False,
        batch_publish=True,
        exchange_type=frozenset(("direct", "topic", "fanout")),
    )

    def __init__(self, client: Any, **_: Any) -> None:
        self.client = client
        url = url_of(client)
        # From here on the token is a password to kombu, which shows no passwords.
        client.hostname, client.port = url.host, url.port
        client.userid, client.password = None, url.token or None
        if url.tls is not None and not client.ssl:
            # The address came from the environment, and kombu keeps a part of it only.
            client.ssl = True
        # kombu takes addresses apart, for it asks the class whether that may do so. It leaves it to
        # this object to show them: an address without a host is that of the environment.
        self.can_parse_url = True

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """The address, whose token is masked."""
        url = url_of(self.client)
        token = quote(url.token, safe="") if include_password else mask
        scheme = "celeriac" if url.tls is None else "celeriacs"
        return f"{scheme}://{f':{token}@' if url.token else ''}{url.address}//"

    def driver_version(self) -> str:
        """The version of this package."""
        return client_version()

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """For an address without a host or a port."""
        return {"hostname": "127.0.0.1", "port": self.default_port}

    def establish_connection(self) -> Connection:
        """Opens a connection."""
        _join_celery_worker()
        together.install()
        client = self.client
        seconds = float(client.connect_timeout or _CONNECT_SECONDS)
        try:
            return Connection(client, url_of(client), seconds)
        except CONNECTION_ERRORS as error:
            if ending.gives_up():
                raise WorkerEnds(str(error)) from error
            raise

    def verify_connection(self, connection: Connection) -> bool:
        """Whether the connection is open."""
        return connection.connected

    def create_channel(self, connection: Connection) -> Any:
        """Opens a channel."""
        return connection.channel()

    def close_connection(self, connection: Connection) -> None:
        """Ends a connection in order."""
        # Celery asks the channels of a closed connection for its client, to ignore their errors.
        connection.close()

    def close_channel(self, connection: Connection) -> None:
        """Channels end by their own `close`."""

    def _collect(self, connection: Connection | None) -> None:
        if connection is not None:
            connection.collect()

    def drain_events(self, connection: Connection, timeout: float | None = None, **_: Any) -> None:
        """Waits for one event and handles it."""
        connection.drain_events(timeout)

    def register_with_event_loop(self, connection: Connection, loop: Any) -> None:
        """Reads in the loop of a worker."""
        connection.register(loop)

    def unregister_from_event_loop(self, connection: Connection, loop: Any) -> None:
        """Leaves the loop."""
        connection.unregister()


def url_of(client: Any) -> BrokerUrl:
    """The address of the broker. The token stands in the place of the password, or of the user.
    kombu has taken the address apart. Raises `InvalidUrl`."""
    url, files = _url_of(client), files_of(client.ssl)
    if files is None and client.transport_cls == "celeriacs":
        files = url.tls or TlsFiles()
    return url if files is None else replace(url, tls=files)


def _url_of(client: Any) -> BrokerUrl:
    host, path = client.hostname or "", (client.virtual_host or "").strip("/")
    if path:
        return address_of(f"{client.transport_cls}://{host or 'localhost'}/{path}")
    if not (host or client.port or client.userid or client.password):
        return address_of("")
    if "://" in host:
        return address_of(host)
    host = host or "127.0.0.1"
    password = client.password() if callable(client.password) else client.password
    port = int(client.port or DEFAULT_PORT)
    token = password or client.userid or ""
    if token:
        return BrokerUrl(host, port, token)
    name = f"[{host}]" if ":" in host else host
    return broker_url(f"celeriac://{name}:{port}")


def _join_celery_worker() -> None:
    """Celery's worker lets its parts that talk to other workers run on transports that it knows.
    The lists are read after this module was imported."""
    if "celery.worker" not in sys.modules and "celery.bin.worker" not in sys.modules:
        return
    from celery.worker.consumer.gossip import Gossip
    from celery.worker.consumer.mingle import Mingle

    from celeriac.celery import hook, names

    hook.install()
    names.install()
    for part in (Gossip, Mingle):
        part.compatible_transports = {*part.compatible_transports, Transport.driver_type}


_join_celery_worker()
