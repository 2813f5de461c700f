"""The version of the installed package, as brokers and listings show it."""

from __future__ import annotations

from functools import cache


@cache
def package_version() -> str:
    """The version; `source` when the package is run from its source folder."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("celeriac")
    except PackageNotFoundError:
        return "source"
