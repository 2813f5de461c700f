"""The worker: it takes tasks from a broker, runs them, and reports what came of them.

`celeriac-worker songs.tasks` runs it; `app.worker(...)` makes one in a program.

Two sides meet in `leases`, and nowhere else:

- The driver's thread talks to the broker. `driver` takes deliveries, signals and orders;
  `broker` is the session, which `connector` opens and `channel` carries; `report_sender` sends
  what `reports` keeps; `credit` says how many tasks to hold; `loop` waits for all of them.
- A pool runs handlers. `local_pool` has threads and an event loop. `process_pool` has child
  processes: `child_process` is one of them as the parent sees it, `child` is the program that it
  runs, `fork_server` makes such processes by copying one, and `shared` is the memory that both
  see. `execution` decides for all pools what the end of a handler means.

`worker` puts the two together, with the `settings` of its user; `command`, `loading`, `logs` and
`reload` are the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celeriac.worker.settings import Settings
    from celeriac.worker.worker import Unanswered, Worker

__all__ = ["Settings", "Unanswered", "Worker"]


def __getattr__(name: str) -> object:
    # A child process imports this package too, and needs none of the parent's modules.
    if name == "Settings":
        from celeriac.worker import settings

        return settings.Settings
    if name in ("Unanswered", "Worker"):
        from celeriac.worker import worker

        return getattr(worker, name)
    raise AttributeError(f"module 'celeriac.worker' has no attribute {name!r}")
