"""Runs handlers in child processes. A child can be killed, so a handler can be stopped whatever it
does, and a handler that brings its process down harms no other task.

Short tasks go to a child several at a time: a message costs more than such a task. The parent sees
in shared memory which of them the child has begun, and takes back what waits behind a long one.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

from celeriac import _codec as wire
from celeriac.app import Celeriac
from celeriac.errors import InvalidArgument
from celeriac.task import Task
from celeriac.worker.child_process import ChildProcess, Start, package_path, spawn
from celeriac.worker.fork_server import ForkServer
from celeriac.worker.leases import (
    RELEASE,
    RELEASE_LOST,
    RELEASE_UNBEGUN,
    RUNNING,
    Held,
    Leases,
)
from celeriac.worker.loop import Loop
from celeriac.worker.reports import END, Encoded
from celeriac.worker.settings import Settings

log = logging.getLogger("celeriac.worker")

#: How many seconds of work one message has, as far as the parent can foresee it.
MESSAGE_SECONDS = 0.004

#: The most tasks of one message.
MESSAGE_TASKS_MAX = 128

#: A task that takes longer, on average, has a message of its own.
SHORT_SECONDS = 0.001

#: When a child has run a task for this long, it gives back what waits behind it, and sends the
#: results that it has.
STUCK_SECONDS = 0.01

#: How long the children may take to end by themselves, in seconds.
EXIT_TIME = 1.0

#: How often the pool looks whether children that have tasks still live, in seconds.
DEATH_INTERVAL = 0.5

#: The pauses before a child is started again that could not import the tasks, in seconds.
PAUSE_FIRST, PAUSE_LAST = 0.5, 30.0


class ProcessPool:
    """As many child processes as there are places."""

    def __init__(
        self, app: Celeriac, tasks: Mapping[str, Task[..., Any]], leases: Leases, settings: Settings
    ) -> None:
        self._leases = leases
        self._slots = settings.slots
        self._tasks_max = settings.max_tasks_per_child
        self._setup = {
            "modules": list(settings.modules) or modules_of(tasks),
            "names": sorted(tasks),
            "url": app.url,
            "path": sys.path,
            "level": log.getEffectiveLevel(),
            "result_bytes_max": 1 << 20,
        }
        self._start: Start = spawn
        self._fork_server: ForkServer | None = None
        if settings.start_method == "forkserver":
            self._fork_server = ForkServer(package_path(), self._setup)
            self._start = self._fork_server.start
        self._children: list[ChildProcess] = []
        self._ended: list[ChildProcess] = []
        """Children that were told to end and are not reaped yet."""
        self._loop: Loop
        self._seconds: dict[str, float] = {}
        """How long the tasks of a name take on average."""
        self._pause = PAUSE_FIRST
        self._spawn_at: float | None = None
        self._death_at = 0.0
        """When the pool looks whether its children still live."""
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """Whether a handler could begin now."""
        return any(child.is_ready for child in self._children)

    @property
    def running(self) -> int:
        """How many handlers run."""
        return sum(1 for child in self._children if child.outstanding)

    @property
    def is_withdrawn(self) -> bool:
        """Whether every delivery that has a place has begun."""
        return all(child.next_at() is None for child in self._children)

    def start(self, loop: Loop) -> None:
        """Starts the child processes."""
        self._loop = loop
        self._spawn()

    def dispatch(self) -> None:
        """Gives what waits to the children, to idle ones first."""
        leases = self._leases
        if not leases.waiting:
            return
        idle = [child for child in self._children if child.is_idle]
        for place, child in enumerate(idle):
            self._give(child, len(idle) - place)
        if leases.waiting and not any(child.is_idle for child in self._children):
            # A child that ends its message finds the next one.
            for child in self._children:
                if child.takes_more and child.reserved is None and child.outstanding:
                    self._give(child, len(self._children), is_behind=True)

    def may_begin(self, held: Held) -> None:
        """The broker has the report of the start for which this run waits."""
        held.may_begin = True
        child = held.place
        if child is not None and child.reserved is held:
            child.reserved = None
            if child.is_ready and held.state == RUNNING:
                child.give([held], self._expected(held))
            else:
                with self._leases.lock:
                    self._leases.give_back([held])
            self.dispatch()

    def ask(self, held: Held, what: int) -> None:
        """Tells a handler that it should stop, or that its soft time limit is over."""
        if held.place is not None:
            held.place.tell(("ask", held.lease, what))

    def drop(self, held: Held) -> None:
        """Kills the child that runs the handler. A task that it has not begun is taken back."""
        child = held.place
        if child is None or child.is_dead:
            return
        if child.reserved is held:
            child.reserved = None
            self.dispatch()
        elif child.current is held:
            child.kill()
        elif held in child.outstanding.values():
            child.withdraw()

    def release_of(self, held: Held) -> wire.Release:
        """The report that hands this run back: it says whether the handler has begun."""
        child = held.place
        if child is not None and (child.reserved is held or child.current is not held):
            return RELEASE_UNBEGUN
        return RELEASE

    def withdraw(self) -> None:
        """Takes back the deliveries that the children have not begun."""
        for child in self._children:
            if child.reserved is not None:
                held, child.reserved = child.reserved, None
                self._leases.end(held, RELEASE_UNBEGUN)
            child.withdraw()

    def set_result_bytes_max(self, bytes_max: int) -> None:
        """The broker's limit for results."""
        self._setup["result_bytes_max"] = bytes_max
        for child in self._children:
            child.tell(("result_bytes_max", bytes_max))

    def step(self, now: float) -> None:
        """Looks which tasks the children have begun, and takes back what waits behind long ones."""
        for child in self._children:
            held = child.look(now)
            if held is not None and held.begun_at is None and held.state == RUNNING:
                with self._leases.lock:
                    self._leases.begin(held)
            stuck_since = child.stuck_since()
            if stuck_since is not None and now - stuck_since >= STUCK_SECONDS:
                child.unstick()
            elif child.is_asleep(now):
                child.withdraw()
            self._take_back(child, now)
        if now >= self._death_at:
            self._death_at = now + DEATH_INTERVAL
            for child in list(self._children):
                child.look_for_death()
        if self._spawn_at is not None and now >= self._spawn_at:
            self._spawn_at = None
            self._spawn()
        if self._ended:
            self._ended = [child for child in self._ended if not child.reap()]

    def next_at(self) -> float | None:
        """When `step` has something to do without being woken."""
        times = [child.next_at() for child in self._children]
        death_at = self._death_at if any(child.outstanding for child in self._children) else None
        known = [at for at in (*times, self._spawn_at, death_at) if at is not None]
        return min(known) if known else None

    def close(self) -> None:
        """Ends the children."""
        self._is_closed = True
        for child in self._children:
            child.retire()
        until = monotonic() + EXIT_TIME
        for child in [*self._children, *self._ended]:
            child.reap(max(until - monotonic(), 0.001))
        self._children.clear()
        if self._fork_server is not None:
            self._fork_server.close()

    def _take_back(self, child: ChildProcess, now: float) -> None:
        taken_back = child.take_back(now)
        if taken_back is None:
            return
        current = child.current
        if current is not None and current.state != RUNNING:
            # The child began the task when its lease was already over.
            child.kill()
        with self._leases.lock:
            self._leases.give_back(taken_back)
        self.dispatch()

    # Giving tasks to the children.

    def _give(self, child: ChildProcess, children: int, *, is_behind: bool = False) -> None:
        """Gives a child its fair part of what waits, and no more than a message should have."""
        leases = self._leases
        fair = -(-len(leases.waiting) // children)
        most = min(fair, MESSAGE_TASKS_MAX)
        if self._tasks_max is not None:
            most = min(most, self._tasks_max - child.given)
        batch: list[Held] = []
        seconds = child.expected if is_behind else 0.0
        expected = 0.0
        while leases.waiting and len(batch) < most:
            following = leases.waiting[0]
            span = self._expected(following)
            is_alone = not following.may_begin or span > SHORT_SECONDS
            if (batch or is_behind) and (is_alone or seconds + expected + span > MESSAGE_SECONDS):
                break
            with leases.lock:
                held = leases.take()
            if held is None:
                break
            if not held.may_begin:
                self._reserve(child, held)
                return
            batch.append(held)
            expected += span
            if is_alone:
                break
        if batch:
            child.give(batch, expected)

    def _reserve(self, child: ChildProcess, held: Held) -> None:
        """Keeps a child for a task that begins when the broker has the report of its start."""
        child.reserved = held
        held.place = child
        with self._leases.lock:
            self._leases.ask_for_start(held)
        self._leases.wake()

    def _expected(self, held: Held) -> float:
        """How long a task will probably take. The first one of a name has a message of its own."""
        return self._seconds.get(held.delivery.name, 1.0)

    # What comes from the children.

    def _on_message(self, child: ChildProcess, message: Any) -> None:
        if message is None:
            self._on_death(child)
        elif message[0] == "ready":
            child.is_ready = True
            self._pause = PAUSE_FIRST
            log.debug("The child process %d is ready.", child.pid)
            self._leases.wake()
            self.dispatch()
        else:
            self._on_items(child, message[1], message[2])

    def _on_items(self, child: ChildProcess, items: list[Any], unbegun: list[int]) -> None:
        leases = self._leases
        with leases.lock:
            for number, lease, kind, data, seconds in items:
                report = Encoded(lease, kind, data)
                if kind != END:
                    if lease in leases.held and leases.held[lease].state == RUNNING:
                        leases.reports.push_progress(report)
                    continue
                held = child.resolve(number)
                if held is not None:
                    leases.end_encoded(held, report)
                    leases.ended += 1
                    leases.busy += seconds
                    self._learn(held.delivery.name, seconds)
            given_back = [child.resolve(number) for number in unbegun]
            leases.give_back([held for held in given_back if held is not None])
        if self._tasks_max is not None and child.given >= self._tasks_max:
            self._retire(child)
        self.dispatch()

    def _learn(self, name: str, seconds: float) -> None:
        before = self._seconds.get(name)
        self._seconds[name] = seconds if before is None else before * 0.9 + seconds * 0.1

    def _retire(self, child: ChildProcess) -> None:
        """Replaces a child that has run as many tasks as it may."""
        if child.outstanding or child.reserved is not None:
            child.is_ready = False
            return
        self._children.remove(child)
        child.retire()
        self._ended.append(child)
        self._spawn()

    def _on_death(self, child: ChildProcess) -> None:
        """A child has died: what it ran is lost, and what it had not begun waits again."""
        if child not in self._children:
            return
        was_ready = child.is_ready
        current = child.current
        reserved = child.reserved
        lost, unbegun = child.died()
        self._children.remove(child)
        child.kill()
        how = _how_ended(child.process.wait())
        killed = current is not None and current.state != RUNNING
        if killed or self._is_closed:
            log.info("The child process %d was killed with its task.", child.pid)
        else:
            doing = f" while it ran {current.delivery.name} [{current.id}]" if current else ""
            log.error("The child process %d %s%s.", child.pid, how, doing)
        for held in lost:
            self._leases.end(held, RELEASE_LOST)
        with self._leases.lock:
            self._leases.give_back([*([reserved] if reserved else []), *unbegun])
        self._leases.wake()
        if was_ready:
            self._spawn()
        else:
            self._spawn_later("it ended before it was ready")
        self.dispatch()

    def _spawn(self) -> None:
        """Starts children for all places that have none."""
        while len(self._children) < self._slots and not self._is_closed:
            try:
                child = ChildProcess(self._loop, self._on_message, self._start)
            except OSError as error:
                self._spawn_later(str(error))
                return
            self._children.append(child)
            child.send(self._setup)

    def _spawn_later(self, why: str) -> None:
        log.error("A child process did not start: %s. The next try is in %g s.", why, self._pause)
        self._spawn_at = monotonic() + self._pause
        self._pause = min(self._pause * 2, PAUSE_LAST)


def modules_of(tasks: Mapping[str, Task[..., Any]]) -> list[str]:
    """The modules that a child process imports to have these tasks."""
    from celeriac.app import module_of

    found = dict.fromkeys(module_of(task.function) for task in tasks.values())
    if "__main__" in found:
        raise InvalidArgument(
            "A child process cannot import tasks that are typed into an interpreter. "
            "Put them into a module, or choose the pool `threads`."
        )
    return list(found)


def _how_ended(code: int) -> str:
    if code >= 0:
        return f"ended with the code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by the signal {-code}"
