"""The worker: it takes tasks from a broker, runs them, and reports what came of them.

`celeriac-worker songs.tasks` runs it; `app.worker(...)` makes one in a program.
"""

from celeriac.worker.settings import Settings
from celeriac.worker.worker import Unanswered, Worker

__all__ = ["Settings", "Unanswered", "Worker"]
