"""Checks the setting `CELERIAC`, as `manage.py check` does with all settings."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error

from celeriac.django.project import project_app
from celeriac.errors import InvalidUrl
from celeriac.url import broker_url


def check_settings(**_: Any) -> list[CheckMessage]:
    """The address of the broker can be read. The check does not connect."""
    try:
        broker_url(project_app().url)
    except InvalidUrl as error:
        hint = "Write CELERIAC['URL'], or the variable CELERIAC_URL, as celeriac://:token@host."
        return [Error(f"Celeriac has no usable address: {error}.", hint=hint, id="celeriac.E001")]
    return []
