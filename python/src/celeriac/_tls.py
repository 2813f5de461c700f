"""TLS of a connection, without its socket: bytes of the network go in, bytes of the protocol come
out, and the reverse. So the links for threads, for asyncio, for workers and for Celery share it.

There is no way to connect without a check of the broker's certificate.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from typing import NoReturn

from celeriac.errors import InvalidUrl, TlsError
from celeriac.url import BrokerUrl, TlsFiles, environment_variable

ALPN = "celeriac/1"
"""The name of the protocol in the handshake."""

CA_FILE, CERTIFICATE_FILE, KEY_FILE = (
    "CELERIAC_CA_FILE",
    "CELERIAC_CERTIFICATE_FILE",
    "CELERIAC_KEY_FILE",
)

TLS_ANSWERS = (
    "the program that answers speaks TLS: write celeriacs:// in place of celeriac:// in the address"
)
"""For a connection without TLS whose first bytes are an alert."""

_NO_TLS = (
    "the program that answers does not speak TLS 1.3; "
    "the address of a broker without TLS begins with celeriac://"
)
_READ_BYTES = 64 * 1024

_EXPIRED, _NOT_YET, _PURPOSE = 10, 9, 26
_UNKNOWN_CA = frozenset((2, 18, 19, 20, 21))
_OTHER_NAME = frozenset((62, 64))
"""The numbers that OpenSSL gives to what is wrong with a certificate."""

_OF_THE_CLIENT = {
    "UNKNOWN_CA": "no CA of its clients has signed it",
    "CERTIFICATE_EXPIRED": "it has expired, or is not valid yet",
    "UNSUPPORTED_CERTIFICATE": "it is not for a client",
    "BAD_CERTIFICATE": "it is broken, or not for a client",
    "CERTIFICATE_UNKNOWN": "it is not a good one",
    "DECRYPT_ERROR": "its key is another one",
}
"""The alerts of a broker that does not accept the client's certificate."""


class Tls:
    """The TLS of one connection. One thread may read while another one writes."""

    def __init__(self, url: BrokerUrl, files: TlsFiles) -> None:
        self._host = url.host
        self._files = files = _with_environment(files)
        self._lock = threading.Lock()
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = _context(files)
        try:
            self._connection = context.wrap_bio(
                self._arrived, self._leaving, server_hostname=url.host
            )
        except (ValueError, UnicodeError):
            # The host is not named: it may be a token whose host was forgotten.
            raise TlsError(
                "the host of the address is no name that can stand in a certificate"
            ) from None
        self.is_open = False
        """Whether the handshake has ended."""
        self.has_ended = False
        """Whether the broker has said that it sends nothing more."""
        self._shake_hands()

    @staticmethod
    def of(url: BrokerUrl) -> Tls | None:
        """For a connection to this broker, with the files as they are now. None for an address
        without TLS. Raises `TlsError` when a file cannot be used."""
        return None if url.tls is None else Tls(url, url.tls)

    @property
    def has_outgoing(self) -> bool:
        """Whether `take_outgoing` gives bytes."""
        return bool(self._leaving.pending)

    def take_outgoing(self) -> bytes:
        """Bytes of TLS itself that are to be written now."""
        with self._lock:
            return self._leaving.read()

    def seal(self, data: bytes) -> bytes:
        """Bytes of the protocol as they go over the network, and what else is to be written."""
        with self._lock:
            try:
                view = memoryview(data)
                while view:
                    view = view[self._connection.write(view) :]
            except ssl.SSLError as error:
                self._fail(error)
            return self._leaving.read()

    def open(self, data: bytes) -> bytes:
        """The bytes of the protocol in these of the network. Raises `TlsError`."""
        with self._lock:
            self._arrived.write(data)
            if not self.is_open:
                self._shake_hands()
            found = []
            while self.is_open and not self.has_ended:
                try:
                    part = self._connection.read(_READ_BYTES)
                except ssl.SSLWantReadError:
                    break
                except ssl.SSLZeroReturnError:
                    part = b""
                except ssl.SSLError as error:
                    self._fail(error)
                if not part:
                    self.has_ended = True
                found.append(part)
            return b"".join(found)

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self._fail(error)
        self.is_open = True

    def _fail(self, error: ssl.SSLError) -> NoReturn:
        raise TlsError(self._reason(error)) from None

    def _reason(self, error: ssl.SSLError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._distrust(error)
        reason = error.reason or ""
        alert = reason.partition("_ALERT_")[2]
        if alert == "CERTIFICATE_REQUIRED":
            return (
                "the broker asks for a certificate of this client: "
                f"name one in {CERTIFICATE_FILE}, and its key in {KEY_FILE}"
            )
        if alert == "NO_APPLICATION_PROTOCOL":
            return "the program that answers is no broker of Celeriac, or one of another version"
        if alert == "PROTOCOL_VERSION" or reason in (
            "HTTP_REQUEST",
            "PACKET_LENGTH_TOO_LONG",
            "RECORD_LAYER_FAILURE",
            "UNSUPPORTED_PROTOCOL",
            "WRONG_SSL_VERSION",
            "WRONG_VERSION_NUMBER",
        ):
            return _NO_TLS
        if alert in _OF_THE_CLIENT and self._files.certificate:
            why = _OF_THE_CLIENT[alert]
            return f"the broker does not accept the certificate {self._files.certificate}: {why}"
        return f"the handshake of TLS failed: {reason or error}"

    def _distrust(self, error: ssl.SSLCertVerificationError) -> str:
        code = error.verify_code
        if code in _UNKNOWN_CA:
            if self._files.ca:
                return (
                    f"the CA of the broker's certificate is not in {self._files.ca}: "
                    f"put it there, or name another file in {CA_FILE}"
                )
            return (
                "this system does not know the CA of the broker's certificate: "
                f"name a file with its certificate in {CA_FILE}"
            )
        if code in _OTHER_NAME:
            return (
                f"the broker's certificate is not for {self._host}: write a name in the address "
                "that is in the certificate, or give the broker another certificate"
            )
        if code == _EXPIRED:
            return "the broker's certificate has expired: give the broker a new one"
        if code == _NOT_YET:
            return "the broker's certificate is not valid yet: compare the clocks"
        if code == _PURPOSE:
            return "the broker's certificate is not for a server (by its extended key usage)"
        return f"the broker's certificate is not accepted: {error.verify_message}"


def shake_hands(tls: Tls, sock: socket.socket, deadline: float) -> None:
    """Makes the handshake on a socket that blocks. Raises `TlsError` and `OSError`."""
    while True:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        sock.sendall(tls.take_outgoing())
        if tls.is_open:
            return
        data = sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError(0, "the other side closed the connection in the handshake")
        try:
            tls.open(data)
        finally:
            if tls.has_outgoing:
                # An alert tells the broker why this side gives up.
                sock.sendall(tls.take_outgoing())


def _with_environment(files: TlsFiles) -> TlsFiles:
    """These files, and those of the environment in place of what they do not name."""

    def variable(name: str) -> str:
        try:
            return environment_variable(os.environ, name)
        except InvalidUrl as error:
            raise TlsError(str(error)) from None

    certificate, key = files.certificate, files.key
    # A certificate and its key are one setting.
    if not certificate and not key:
        certificate, key = variable(CERTIFICATE_FILE), variable(KEY_FILE)
    return TlsFiles(files.ca or variable(CA_FILE), certificate, key)


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    if files.ca:
        _check(files.ca, "CA file")
        try:
            context.load_verify_locations(files.ca)
        except (OSError, ValueError):
            raise TlsError(f"the CA file {files.ca} has no certificate in PEM") from None
    else:
        context.load_default_certs()
        if not context.get_ca_certs() and not _system_has_cas():
            raise TlsError(
                f"this system has no CA that it trusts: name a file with one in {CA_FILE}"
            )
    if not files.certificate and not files.key:
        return context
    for given, name, other in (
        (files.key, CERTIFICATE_FILE, KEY_FILE),
        (files.certificate, KEY_FILE, CERTIFICATE_FILE),
    ):
        if not given:
            raise TlsError(f"{name} is given and {other} is not: give both")
    _check(files.certificate, "certificate")
    _check(files.key, "key")
    try:
        # With a passphrase of its own OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(files.certificate, files.key, password="none")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(
                f"the key {files.key} does not fit the certificate {files.certificate}"
            ) from None
        raise TlsError(
            f"the certificate {files.certificate} and the key {files.key} cannot be used: "
            "each has to be in PEM, and the key without a passphrase"
        ) from None
    except (OSError, ValueError) as error:
        raise TlsError(f"the certificate {files.certificate} cannot be used: {error}") from None
    return context


def _system_has_cas() -> bool:
    """Whether the system has a folder of CAs, from which OpenSSL reads only what it needs."""
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or paths.capath)


def _check(path: str, what: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise TlsError(f"the {what} {path} cannot be read: {reason}") from None
