"""A client of the task queue Celeriac, made from PROTOCOL.md alone: the example for authors in
other languages.

Read the modules in this order; each uses those before it:

- `values`: errors, names, payloads.
- `connection`: the broker's address, and frames on one TCP connection.
- `session`: requests and answers, heartbeats, and what goes on over lost connections.
- `producer`: submit, get, wait, watch, cancel, forget.
- `worker`: runs tasks.

The generated modules `celeriac.v1.*_pb2` have to be on Python's path.
"""

from .producer import Producer, make_task
from .values import CeleriacError, ended, make_id, read_json, state_name
from .worker import Failure, Later, Worker

__all__ = ["CeleriacError", "Failure", "Later", "Producer", "Worker", "ended", "make_id", "make_task", "read_json", "state_name"]
