"""The app of a Django project, from its setting `CELERIAC`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from celeriac.app import Celeriac

#: The keys of the setting, and the parameters of `Celeriac`.
_KEYS = {"URL": "url", "QUEUE": "queue", "CODEC": "codec", "TIMEOUT": "timeout"}


@functools.cache
def project_app() -> Celeriac:
    """The app of this project. All callers get the same object."""
    return Celeriac(**chosen())


def chosen() -> dict[str, Any]:
    """The parameters of the app that the settings name."""
    found = getattr(settings, "CELERIAC", {})
    if not isinstance(found, Mapping):
        raise ImproperlyConfigured(
            f"The setting CELERIAC is a {type(found).__name__}; it must be a dict."
        )
    for key in found:
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise ImproperlyConfigured(
                f"The setting CELERIAC has the key {key!r}; its keys are {known}."
            )
    return {_KEYS[key]: value for key, value in found.items()}
