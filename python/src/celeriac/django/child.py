"""Sets Django up in a child process of the worker. The child imports this module before those of
the tasks. `DJANGO_SETTINGS_MODULE` comes from the environment of its parent."""

from __future__ import annotations

import django

django.setup()
