"""Imports the modules of a worker, and finds the app in them."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable

from celeriac.app import Celeriac, current_app, known_apps
from celeriac.errors import CeleriacError


class LoadError(CeleriacError):
    """A module of the worker cannot be imported, or has no app."""


def load(modules: Iterable[str]) -> Celeriac:
    """Imports the modules, and returns their app. A module may be `songs.tasks`, or `songs:app`
    with the name of the app in it."""
    chosen: list[Celeriac] = []
    before = set(known_apps())
    seen = set()
    for each in modules:
        module, _, name = each.partition(":")
        imported = import_module(module)
        if name:
            found = getattr(imported, name, None)
            if not isinstance(found, Celeriac):
                raise LoadError(f"{module} has no app named {name!r}: {each!r} is not one.")
            chosen.append(found)
        seen.update(value for value in vars(imported).values() if isinstance(value, Celeriac))
    apps = set(chosen) or seen or set(known_apps()) - before
    if len(apps) > 1:
        raise LoadError(
            "The modules have more than one app. Name the one to run, as in songs.tasks:app."
        )
    return apps.pop() if apps else current_app()


def import_module(name: str) -> object:
    """Imports one module. The folder in which the command was started counts, as with
    `python -m`."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    path = name.removesuffix(".py").replace("/", ".") if name.endswith(".py") else ""
    if path:
        raise LoadError(f"{name!r} is a file. Write the name of its module: {path}.")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"There is no module {name!r}. The worker looked in {folder} and in the "
                "packages of this Python."
            ) from None
        raise LoadError(f"{name} cannot be imported:\n{_trace()}") from error
    except Exception as error:
        raise LoadError(f"{name} cannot be imported:\n{_trace()}") from error


def _trace() -> str:
    """The traceback from the user's module on, without the frames of the import."""
    kind, error, trace = sys.exc_info()
    while trace is not None and trace.tb_next is not None and _is_of_import(trace.tb_frame.f_code):
        trace = trace.tb_next
    return "".join(traceback.format_exception(kind, error, trace)).rstrip()


def _is_of_import(code: object) -> bool:
    name = getattr(code, "co_filename", "")
    return "importlib" in name or name == __file__
