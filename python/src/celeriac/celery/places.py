"""The address of a broker, as settings of Celery write it."""

from __future__ import annotations

from celeriac.url import BrokerUrl, broker_url


def address_of(text: str) -> BrokerUrl:
    """The broker of this address. Without a host it is that of the environment. Raises
    `InvalidUrl`."""
    # Celery appends the slash of an empty path, and names the scheme alone when nothing follows.
    return broker_url(None if text.rstrip(":/") in ("", "celeriac") else text.rstrip("/"))
