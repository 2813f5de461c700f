"""The settings of a worker, and what follows from them."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celeriac import _values
from celeriac.errors import InvalidArgument, WrongType

POOLS = ("processes", "threads", "asyncio")

#: How a child process begins.
START_METHODS = ("spawn", "forkserver")

#: How many handlers run at once on an event loop, where no number is given.
ASYNCIO_CONCURRENCY = 100

#: The most leases of a session.
CREDIT_MAX = 10_000

#: The default pool is processes: a handler can then be stopped from outside.
DEFAULT_POOL = "processes"

GRACE = 30.0


@dataclass(kw_only=True)
class Settings:
    """The settings of a worker. `Worker` takes them as keywords, the command line as options."""

    pool: str = DEFAULT_POOL
    """`processes`, `threads`, or `asyncio` for many `async def` handlers at once."""
    concurrency: int | None = None
    """How many handlers run at once: by default one for each processor, or 100 with `asyncio`."""
    queues: Mapping[str, int] | Iterable[str] = field(default_factory=dict)
    """The queues, or their weights by name; by default the queues of the tasks."""
    credit: int | None = None
    """How many tasks the worker holds at once. By default the worker chooses it by its pace."""
    grace: float | timedelta = GRACE
    """How many seconds running handlers have when the worker shuts down."""
    instance: str | None = None
    """The name of the worker in listings; by default host, process and a random part."""
    max_tasks_per_child: int | None = None
    """After this many tasks a child process is replaced by a new one."""
    start_method: str = START_METHODS[0]
    """How a child process begins. `spawn`: as a fresh interpreter that imports the tasks.
    `forkserver`: as a copy of a process that has imported them, which is faster and takes less
    memory; the tasks must not start threads or open connections when they are imported."""
    modules: Iterable[str] = ()
    """The modules that a child process imports; by default those of the tasks."""

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise InvalidArgument(f"pool is {self.pool!r}; it is one of {', '.join(POOLS)}.")
        if self.start_method not in START_METHODS:
            raise InvalidArgument(
                f"start_method is {self.start_method!r}; it is one of {', '.join(START_METHODS)}. "
                "A plain fork beside the threads of a worker is not safe."
            )
        if self.concurrency is None:
            default = ASYNCIO_CONCURRENCY if self.pool == "asyncio" else (os.cpu_count() or 1)
            self.concurrency = default
        self.concurrency = _within("concurrency", self.concurrency, 1, CREDIT_MAX)
        if self.credit is not None:
            self.credit = _within("credit", self.credit, 1, CREDIT_MAX)
        if self.max_tasks_per_child is not None:
            _within("max_tasks_per_child", self.max_tasks_per_child, 1, 1 << 40)
        if isinstance(self.grace, timedelta):
            self.grace = self.grace.total_seconds()
        if not isinstance(self.grace, (int, float)):
            raise WrongType(f"grace is {self.grace!r}; it is a number of seconds.")
        if self.instance is not None:
            _values.key("instance", self.instance)
        if isinstance(self.modules, str):
            raise WrongType("modules is a text; it is a list of names.")
        if not 0 <= self.grace < float("inf"):
            raise InvalidArgument(f"grace is {self.grace!r}; it is a number of seconds from 0 on.")
        self.modules = tuple(self.modules)
        self.queues = _weights(self.queues)

    @property
    def slots(self) -> int:
        """How many handlers run at once."""
        assert self.concurrency is not None
        return self.concurrency

    @property
    def grace_seconds(self) -> float:
        """How many seconds running handlers have when the worker shuts down."""
        assert not isinstance(self.grace, timedelta)
        return self.grace

    def subscriptions(self, task_queues: Iterable[str]) -> dict[str, int]:
        """The queues with their weights: those of the settings, or else those of the tasks."""
        assert isinstance(self.queues, dict)
        return self.queues or {queue or "default": 1 for queue in sorted(set(task_queues))}


def instance_name() -> str:
    """A name for this worker in listings."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"[-255:]


def _within(option: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongType(f"{option} is {value!r}; it is a whole number.")
    if not least <= value <= most:
        raise InvalidArgument(f"{option} is {value}; it is {least} to {most:,}.")
    return value


def _weights(queues: Mapping[str, int] | Iterable[str]) -> dict[str, int]:
    if isinstance(queues, str):
        raise WrongType("queues is a text; it is a list of names, or a dict with their weights.")
    if not isinstance(queues, Mapping):
        queues = list(queues)
    for name in queues:
        _values.key("queues", name)
    if isinstance(queues, Mapping):
        return {
            name: _within(f"the weight of {name!r}", queues[name], 1, 1 << 31) for name in queues
        }
    return dict.fromkeys(queues, 1)
