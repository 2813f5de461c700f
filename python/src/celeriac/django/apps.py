"""Sets up what a Django project needs when the project starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from celeriac._around import set_around
from celeriac._values import set_to_aware
from celeriac.django.checks import check_settings
from celeriac.django.connections import Connections
from celeriac.django.project import project_app


class CeleriacConfig(AppConfig):
    """The app `celeriac.django` of `INSTALLED_APPS`. It has no models."""

    name = "celeriac.django"
    label = "celeriac"
    verbose_name = "Celeriac"

    def ready(self) -> None:
        """Makes the app of the settings, and imports `tasks.py` of every installed app."""
        set_around(Connections())
        set_to_aware(timezone.make_aware)
        checks.register(check_settings)
        project_app()
        autodiscover_modules("tasks")
