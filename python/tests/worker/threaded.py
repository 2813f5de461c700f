"""A module whose import starts a thread. A process that has imported it must not be forked."""

from __future__ import annotations

import threading

from celeriac import Celeriac

app = Celeriac(queue="threaded")
threading.Thread(target=threading.Event().wait, daemon=True).start()


@app.task(name="threaded")
def threaded() -> str:
    return "ran"
