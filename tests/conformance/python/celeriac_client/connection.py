"""The broker's address, and frames on one TCP connection. PROTOCOL.md: Framing, Heartbeats and
silence."""

import logging
import os
import queue
import socket
import threading
import time
from dataclasses import dataclass

from celeriac.v1 import frame_pb2
from google.protobuf.message import DecodeError

log = logging.getLogger("celeriac")

PORT = 23537
# Until Hello is accepted this limit holds in both directions.
FIRST_FRAME_MAX = 6 * 1024 * 1024
CONNECT_SECONDS = 10
CHUNK = 64 * 1024


class ConnectionLost(Exception):
    """The connection is over, for whatever reason; the session may go on."""

    def __init__(self, why, retry_after_ms=0, session_over=False):
        super().__init__(why)
        self.retry_after = retry_after_ms / 1000
        self.session_over = session_over


@dataclass
class Address:
    host: str
    port: int
    token: str

    @classmethod
    def find(cls, url=None):
        """Of `celeriac://[token@]host[:port]`; what the URL leaves out is looked for in the
        environment."""
        url = url or os.environ.get("CELERIAC_URL") or "celeriac://127.0.0.1"
        scheme, _, rest = url.partition("://")
        if scheme != "celeriac":
            raise ValueError("the URL of a broker begins with celeriac://")
        token, _, place = rest.rstrip("/").rpartition("@")
        host, port = split_port(place)
        return cls(host, port, token or token_of_environment())


def split_port(place):
    """An IPv6 address stands in brackets, so that its colons are no port."""
    host, colon, port = place.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = place, PORT
    return host.strip("[]"), int(port)


def token_of_environment():
    if path := os.environ.get("CELERIAC_TOKEN_FILE"):
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    return os.environ.get("CELERIAC_TOKEN", "")


class Connection:
    """One TCP connection. One thread reads, one writes, and one has the heartbeats written.

    The writer has a thread of its own, so that no sender has to wait for a slow connection, least
    of all the reader: the broker closes a client that stops reading.
    """

    def __init__(self, address):
        try:
            self._socket = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
        except OSError as error:
            raise ConnectionLost(f"cannot connect: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frame_max = FIRST_FRAME_MAX
        self._send_queue = queue.SimpleQueue()
        self._closed = threading.Event()

    def open(self, welcome, beat):
        """Welcome has arrived: its limits and times hold from now on. `beat` makes the frame of a
        heartbeat."""
        self._frame_max = welcome.limits.frame_bytes_max
        # Silence: a connection on which no bytes come or go for lease_ms, although heartbeats are
        # sent, is lost.
        self._socket.settimeout(welcome.lease_ms / 1000)
        threading.Thread(target=self._write, name="celeriac-writer", daemon=True).start()
        heart = threading.Thread(target=self._beat, args=(welcome.heartbeat_ms / 1000, beat), name="celeriac-heart")
        heart.daemon = True
        heart.start()

    def send(self, data):
        """Appends a frame to those that wait to be written."""
        self._send_queue.put(data)

    def write(self, data):
        """Writes a frame at once. Before Welcome no other thread writes."""
        rest = memoryview(len(data).to_bytes(4, "big") + data)
        try:
            # sendall would have one timeout for the whole frame; here each part that gets through
            # begins it anew.
            while rest:
                rest = rest[self._socket.send(rest) :]
        except OSError as error:
            raise ConnectionLost(f"cannot write: {error}") from error

    def read(self):
        """The next frame. Bytes that are no frame end the connection."""
        length = int.from_bytes(self._read_bytes(4), "big")
        if not 0 < length <= self._frame_max:
            raise ConnectionLost(f"a frame of {length} bytes was announced")
        try:
            return frame_pb2.ServerFrame.FromString(self._read_bytes(length))
        except DecodeError as error:
            raise ConnectionLost(f"the bytes are no frame: {error}") from error

    def close(self):
        """May be called from any thread, and more than once. The reader and the writer wake up and
        release the socket."""
        self._closed.set()
        self._send_queue.put(None)
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("the connection was closed already: %s", error)

    def _read_bytes(self, count):
        """Takes memory for what has come, not for what was announced."""
        data = bytearray()
        while len(data) < count:
            try:
                part = self._socket.recv(min(CHUNK, count - len(data)))
            except OSError as error:
                raise ConnectionLost(f"cannot read: {error}") from error
            if not part:
                raise ConnectionLost("the broker closed the connection")
            data += part
        return bytes(data)

    def _write(self):
        while (data := self._send_queue.get()) is not None:
            try:
                self.write(data)
            except ConnectionLost:
                self.close()

    def _beat(self, every, beat):
        """Times are counted from the first heartbeat, so that small delays do not add up."""
        due = time.monotonic() + every
        while not self._closed.wait(max(0, due - time.monotonic())):
            self.send(beat())
            due += every
