"""What every pool offers to the driver. A pool runs handlers: `local_pool` in this process,
`process_pool` in child processes."""

from __future__ import annotations

from typing import Protocol

from celeriac import _codec as wire
from celeriac.worker.leases import Held
from celeriac.worker.loop import Loop


class Pool(Protocol):
    """Runs the deliveries of `Leases.waiting`. The driver's thread calls all methods."""

    @property
    def is_ready(self) -> bool:
        """Whether a handler could begin now."""
        ...

    @property
    def running(self) -> int:
        """How many handlers run."""
        ...

    def start(self, loop: Loop) -> None:
        """Begins to work."""
        ...

    def dispatch(self) -> None:
        """Begins what waits, as far as there are places."""
        ...

    def may_begin(self, held: Held) -> None:
        """The broker has the report of the start for which this run waits."""
        ...

    def ask(self, held: Held, what: int) -> None:
        """Tells a handler that it should stop, or that its soft time limit is over."""
        ...

    def drop(self, held: Held) -> None:
        """Stops a handler whose lease is over, as far as that is possible."""
        ...

    def withdraw(self) -> None:
        """Takes back the deliveries that have a place and have not begun. They wait again at the
        latest when `is_withdrawn`."""
        ...

    @property
    def is_withdrawn(self) -> bool:
        """Whether every delivery that has a place has begun."""
        ...

    def release_of(self, held: Held) -> wire.Release:
        """The report that hands this run back: it says whether the handler has begun."""
        ...

    def set_result_bytes_max(self, bytes_max: int) -> None:
        """The broker's limit for results."""
        ...

    def step(self, now: float) -> None:
        """Does what is due."""
        ...

    def next_at(self) -> float | None:
        """When `step` has something to do without being woken."""
        ...

    def close(self) -> None:
        """Ends the pool. Handlers that still run are not waited for."""
        ...
