"""The command `celeriac-worker`."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from celeriac._hello import client_version
from celeriac.errors import CeleriacError
from celeriac.url import broker_url
from celeriac.worker import collector
from celeriac.worker.loading import LoadError, load
from celeriac.worker.logs import set_up_logs
from celeriac.worker.settings import CREDIT_MAX, GRACE, POOLS, START_METHODS
from celeriac.worker.worker import Unanswered, Worker

log = logging.getLogger("celeriac.worker")

_LEVELS = ("debug", "info", "warning", "error")

#: The codes with which the command ends. 75 is EX_TEMPFAIL: a supervisor may start it again.
_OK, _FAILED, _WRONG_USE, _TRY_AGAIN = 0, 1, 2, 75

_DESCRIPTION = """\
Runs the tasks of an app. The worker takes them from the broker of --url, of the
app, or of the variable CELERIAC_URL. It waits for a broker that is not there.
"""

_EPILOG = """\
examples:
  celeriac-worker songs.tasks
  celeriac-worker songs.tasks --concurrency 4 --queues songs,default
  celeriac-worker songs.web --pool asyncio

SIGTERM and SIGINT end the worker in order: it hands back what has not begun and
gives running tasks the grace. A second signal ends it at once. The command ends
with 0; with 1 when the broker does not accept the worker or a module cannot be
imported; with 2 after a wrong option; with 75 when the broker did not answer
the last reports.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, and returns the code with which it ends."""
    options = _parser().parse_args(arguments)
    return run_command(options, lambda: _worker(options))


def run_command(options: argparse.Namespace, make: Callable[[], Worker]) -> int:
    """Runs the worker that `make` makes, with the options of `add_options`. Returns the code with
    which the command ends."""
    set_up_logs(getattr(logging, options.log_level.upper()))
    try:
        if options.autoreload:
            from celeriac.worker.reload import run_with_reload

            return run_with_reload(make, _run)
        return _run(make())
    except CeleriacError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _FAILED


def _worker(options: argparse.Namespace) -> Worker:
    """Imports the modules, and makes the worker."""
    app = load(options.modules)
    if options.url is not None:
        app.url = options.url
    broker_url(app.url)
    if not app.tasks:
        raise LoadError(
            f"{', '.join(options.modules)} has no tasks. A task is a function with @app.task or "
            "@shared_task in a module that the command names."
        )
    return app.worker(**settings_of(options), modules=options.modules)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of a worker that the options of `add_options` name."""
    return {
        "pool": options.pool,
        "concurrency": options.concurrency,
        "queues": _queues(options.queues),
        "credit": options.credit,
        "grace": options.grace,
        "instance": options.name,
        "max_tasks_per_child": options.max_tasks_per_child,
        "start_method": options.start_method,
    }


def _run(worker: Worker) -> int:
    collector.keep_what_is_there()
    collector.collect_rarely()
    try:
        worker.run()
    except Unanswered as error:
        _fail(error)
        return _TRY_AGAIN
    except CeleriacError as error:
        return _fail(error)
    return _OK


def _fail(error: CeleriacError) -> int:
    print(f"celeriac-worker: {error}", file=sys.stderr)
    return _FAILED


def _queues(text: str | None) -> dict[str, int]:
    """The queues of `songs=3,default`: each with its weight, 1 where none is given."""
    queues = {}
    for part in (text or "").split(","):
        name, _, weight = part.strip().partition("=")
        if name:
            queues[name] = int(weight) if weight else 1
    return queues


def _queues_text(text: str) -> str:
    try:
        queues = _queues(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} has a weight that is no number, as 3 in songs=3"
        ) from None
    if not queues or min(queues.values()) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} names no queue, or a weight below 1")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= CREDIT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {CREDIT_MAX:,}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _parser() -> argparse.ArgumentParser:
    width = min(shutil.get_terminal_size().columns, 80) - 2
    parser = argparse.ArgumentParser(
        prog="celeriac-worker",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=width),
    )
    parser.add_argument(
        "modules",
        nargs="+",
        metavar="MODULE",
        help="a module with tasks, such as songs.tasks; songs:app names its app",
    )
    add_options(parser)
    parser.add_argument(
        "--version", action="version", version=f"celeriac-worker {client_version()}"
    )
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a worker, for this command and for that of a framework."""
    add = parser.add_argument
    add("--url", metavar="URL", help="the broker, celeriac://:token@host:port")
    add(
        "-P",
        "--pool",
        choices=POOLS,
        default=POOLS[0],
        metavar="POOL",
        help="where handlers run: processes (the default), threads, or asyncio for many "
        "`async def` at once",
    )
    add(
        "-c",
        "--concurrency",
        type=_count,
        metavar="N",
        help="how many handlers run at once; by default one for each processor, or 100 with "
        "asyncio",
    )
    add(
        "-Q",
        "--queues",
        type=_queues_text,
        metavar="NAMES",
        help="the queues, as songs,default or with weights as songs=3,default; by default those "
        "of the tasks",
    )
    _add_rare_options(parser)


def _add_rare_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--credit",
        type=_count,
        metavar="N",
        help="how many tasks the worker holds at once; by default it chooses by its pace",
    )
    add(
        "--grace",
        type=_seconds,
        default=GRACE,
        metavar="SECONDS",
        help=f"how long running tasks have after the first signal; {GRACE:g} by default",
    )
    add("-n", "--name", metavar="NAME", help="the name of the worker in listings")
    add(
        "--max-tasks-per-child",
        type=_count,
        metavar="N",
        help="replace a child process after this many tasks",
    )
    add(
        "--start-method",
        choices=START_METHODS,
        default=START_METHODS[0],
        metavar="METHOD",
        help="how a child process begins: spawn (the default), a fresh interpreter, or forkserver, "
        "a copy of a process that has imported the tasks",
    )
    add(
        "-l",
        "--log-level",
        choices=_LEVELS,
        default="info",
        metavar="LEVEL",
        help="debug, info (the default), warning or error; debug has a line for each success, "
        "and the traceback of each attempt",
    )
    add("--autoreload", action="store_true", help="begin again when a file has changed")


if __name__ == "__main__":
    raise SystemExit(main())
