"""Makes `celeriac://` known to kombu in programs that use kombu without Celery.

Those may open a connection before kombu has loaded the entry points of its extensions. They write
`import celeriac`, which imports this module. Most programs that do so have no use for kombu: for
them nothing is imported here. A finder of modules waits until somebody imports kombu's transports.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

_TRANSPORTS = "kombu.transport"


class _Finder:
    """Finds kombu's transports once, as the other finders do, and has the scheme added to them
    when they are loaded."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The module's specification; None leaves the module to the other finders."""
        if fullname != _TRANSPORTS:
            return None
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)
        found = (finder.find_spec(fullname, path, target) for finder in list(sys.meta_path))
        spec = next((spec for spec in found if spec is not None), None)
        with contextlib.suppress(Exception):
            _register_after_loading(spec.loader if spec else None)
        return spec


def _register_after_loading(loader: Any) -> None:
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        _register()

    loader.exec_module = exec_module


def _register() -> None:
    # The module registers when it is imported. It may have been imported too early to do so.
    from celeriac._register import register

    register()


def install() -> None:
    """Registers now if kombu's transports are there, else when they are imported."""
    if _TRANSPORTS in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


install()
