"""The address of a broker, as settings of Celery write it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celeriac.errors import InvalidUrl
from celeriac.url import BrokerUrl, TlsFiles, broker_url

_FILES = {"ca_certs": "ca", "certfile": "certificate", "keyfile": "key"}
"""The options of `broker_use_ssl` that name files. Some write them with `ssl_` in front."""


def address_of(text: str) -> BrokerUrl:
    """The broker of this address. Without a host it is that of the environment. Raises
    `InvalidUrl`."""
    # Celery appends the slash of an empty path, and names the scheme alone when nothing follows.
    scheme = text.rstrip(":/")
    url = broker_url(None if scheme in ("", "celeriac", "celeriacs") else text.rstrip("/"))
    if scheme == "celeriacs" and url.tls is None:
        return replace(url, tls=TlsFiles())
    return url


def files_of(use_ssl: Any) -> TlsFiles | None:
    """The files that `broker_use_ssl` names; None when it asks for no TLS. An option that could
    have no effect here is an error, and so is one that turns the check of the broker's certificate
    off."""
    if not use_ssl:
        return None
    if not isinstance(use_ssl, Mapping):
        return TlsFiles()
    files: dict[str, str] = {}
    for name, value in use_ssl.items():
        plain = str(name).removeprefix("ssl_")
        if plain in _FILES:
            files[_FILES[plain]] = str(value or "")
        elif plain != "cert_reqs":
            raise InvalidUrl(
                f"broker_use_ssl has {name!r}, and here only ca_certs, certfile, keyfile and "
                "cert_reqs have an effect"
            )
        elif value not in (ssl.CERT_REQUIRED, "required", "CERT_REQUIRED"):
            raise InvalidUrl(
                f"broker_use_ssl has {name!r}, which would turn the check of the broker's "
                "certificate off; name its CA in ca_certs"
            )
    return TlsFiles(**files)
