"""A CA for tests, and the certificates that it signs, made by the program openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "30")


class TlsFolder:
    """A folder with `ca.pem`, and for each name `NAME.pem` and `NAME.key`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if shutil.which("openssl") is None:
            pytest.skip("SKIPPED: the program openssl is missing")
        self.make_ca()
        self.sign("broker", "subjectAltName=DNS:localhost,IP:127.0.0.1", "serverAuth")
        self.sign("client", "subjectAltName=DNS:client.example", "clientAuth")

    def make_ca(self, name: str = "ca") -> None:
        """A new CA, in place of one of the same name."""
        self._request(
            *("-subj", f"/CN=the CA {name}", "-keyout", self.path(f"{name}.key")),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", self.path(f"{name}.pem")),
        )

    def sign(self, name: str, names: str, purpose: str, ca: str = "ca") -> None:
        """A certificate of this CA."""
        self._request(
            *("-CA", self.path(f"{ca}.pem"), "-CAkey", self.path(f"{ca}.key")),
            *("-subj", f"/CN={name}", "-addext", names, "-addext", f"extendedKeyUsage={purpose}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.pem")),
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def serve(self) -> tuple[str, ...]:
        """The flags of a broker with TLS."""
        certificate, key = self.path("broker.pem"), self.path("broker.key")
        return ("--tls-certificate", certificate, "--tls-key", key)

    def serve_with_clients(self, kind: str) -> tuple[str, ...]:
        """The flags of a broker that asks clients for a certificate."""
        return (*self.serve, "--tls-client", kind, "--tls-client-ca", self.path("ca.pem"))

    @property
    def variables(self) -> dict[str, str]:
        """The variables of a client with a certificate."""
        return {
            "CELERIAC_CA_FILE": self.path("ca.pem"),
            "CELERIAC_CERTIFICATE_FILE": self.path("client.pem"),
            "CELERIAC_KEY_FILE": self.path("client.key"),
        }

    def _request(self, *arguments: str) -> None:
        command = ["openssl", "req", "-x509", *_NEW_KEY, *arguments]
        subprocess.run(command, check=True, capture_output=True)
