"""One child process, as its parent sees it: how it is started, what it was given, and which of that
it has begun."""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from operator import attrgetter
from time import monotonic
from typing import Any, Protocol

from celeriac._wire import FrameReader
from celeriac.worker.channel import Channel, ChannelClosed
from celeriac.worker.leases import Held
from celeriac.worker.loop import Loop
from celeriac.worker.shared import NO_LIMIT, SETTLE_SECONDS, Shared, shared_descriptor

#: The longest message of a child: a result of the greatest length that a broker can have.
_FRAME_BYTES_MAX = 1 << 30

#: The program of a child. Its first argument is the folder of this package.
_PROGRAM = "import sys; sys.path[0] = sys.argv[1]; from celeriac.worker.child import main; main()"

#: How soon the parent looks whether a child has begun what it was given, at first and at last.
_LOOK_FIRST, _LOOK_LAST = 0.002, 0.02

#: After this time a child that runs nothing should have begun what it was given, in seconds.
_ASLEEP_SECONDS = 2.0

#: The order of the fields in which a delivery goes to a child; those of `context.Delivered`.
_FIELDS = (
    "id", "lease", "name", "queue", "payload", "content_type", "headers", "shadow", "priority",
    "attempt", "attempts_max", "deliveries", "generation", "submitted_at_ms", "eta_at_ms",
    "expires_at_ms", "soft_time_limit_ms", "time_limit_ms", "root_id", "parent_id", "tags",
    "redelivered",
)  # fmt: skip
_fields_of = attrgetter(*_FIELDS)


class Process(Protocol):
    """What a pool uses of `subprocess.Popen`."""

    returncode: int | None

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def kill(self) -> None: ...


#: Starts a process that runs a child with these three descriptors.
Start = Callable[[tuple[int, int, int]], Process]


def spawn(descriptors: tuple[int, int, int]) -> Process:
    """Starts a fresh interpreter. A plain fork beside threads could inherit a held lock."""
    command = [sys.executable, "-c", _PROGRAM, package_path(), *map(str, descriptors)]
    return subprocess.Popen(command, pass_fds=descriptors)


class ChildProcess:
    """A child process and its pipes. The driver's thread alone uses it."""

    def __init__(
        self, loop: Loop, on_message: Callable[[ChildProcess, Any], None], start: Start
    ) -> None:
        self._loop = loop
        self._on_message = on_message
        self.is_ready = False
        self.is_dead = False
        self.given = 0
        """How many tasks it was given; the number of the last one."""
        self.outstanding: dict[int, Held] = {}
        """The tasks that it was given and has not ended, by number, the oldest first."""
        self.reserved: Held | None = None
        """The task that it gets when the broker has the report of its start."""
        self.expected = 0.0
        """How many seconds the outstanding tasks will probably take."""
        self.started_at = monotonic()
        self._moved_at = 0.0
        """When it last got a task while it had none, or ended one."""
        self._withdrawn: set[int] = set()
        self._withdraw_at: float | None = None
        self._look_at: float | None = None
        self._look_again = _LOOK_FIRST
        self._seen_at: dict[int, float] = {}
        """When the parent saw that a task had begun."""
        self._open(start)

    def _open(self, start: Start) -> None:
        ours, theirs = socket.socketpair()
        self._control, control = socket.socketpair()
        memory = shared_descriptor()
        descriptors = (theirs.fileno(), control.fileno(), memory)
        try:
            self.shared = Shared(memory)
            self.shared.limit = NO_LIMIT
            self.process = start(descriptors)
        finally:
            theirs.close()
            control.close()
            os.close(memory)
        self._control.setblocking(False)
        self._channel = Channel(ours, FrameReader(_FRAME_BYTES_MAX))
        self._loop.add(self._channel, self._on_readable)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid

    @property
    def is_idle(self) -> bool:
        """Whether it can take any task now."""
        return self.takes_more and not self.outstanding and self.reserved is None

    @property
    def takes_more(self) -> bool:
        """Whether it can take a task behind those that it has."""
        return self.is_ready and not self._withdrawn and self._withdraw_at is None

    @property
    def current(self) -> Held | None:
        """The task that it runs, as far as the parent can see."""
        return self.outstanding.get(self.shared.begun)

    def send(self, message: Any) -> None:
        """Sends a message, the first one of which says what to import."""
        if not self.is_dead:
            try:
                self._channel.send(marshal.dumps(message))
            except ChannelClosed:
                # The loop finds the channel closed as well, and handles the death there.
                return

    def give(self, tasks: Iterable[Held], expected: float) -> None:
        """Gives it these tasks, which will take so many seconds."""
        if not self.outstanding:
            self._moved_at = monotonic()
        message = []
        for held in tasks:
            self.given += 1
            held.place = self
            self.outstanding[self.given] = held
            message.append((self.given, _fields_of(held.delivery)))
        self.expected += expected
        self.send(message)
        if self._look_at is None:
            self._look_again = _LOOK_FIRST
            self._look_at = monotonic() + _LOOK_FIRST

    def resolve(self, number: int) -> Held | None:
        """A task has ended, or was not begun at the parent's wish. Returns it, unless it was taken
        back before."""
        self._moved_at = monotonic()
        self._seen_at.pop(number, None)
        self._withdrawn.discard(number)
        held = self.outstanding.pop(number, None)
        if not self.outstanding and not self._withdrawn:
            self.expected = 0.0
            self._look_at = None
            if self._withdraw_at is None:
                self.shared.limit = NO_LIMIT
        return held

    def tell(self, message: Any) -> None:
        """Sends a message that the child reads while a handler runs."""
        data = marshal.dumps(message)
        try:
            self._control.send(len(data).to_bytes(4, "big") + data)
        except OSError:
            # The child is dying, or has not read thousands of messages: a task that does not hear
            # of a wish goes on, as if the wish had come too late.
            return

    def unstick(self) -> None:
        """The present task takes long: the child sends the results that it has, and gives back
        what waits behind the task."""
        self._look_at = None
        self.tell(("flush",))
        self.withdraw()

    def withdraw(self) -> None:
        """Begins to take back what it has not begun. `take_back` gets it a moment later."""
        if self._withdraw_at is None and any(self._unbegun(self.shared.begun)):
            self.shared.limit = self.shared.begun
            self._withdraw_at = monotonic() + SETTLE_SECONDS

    def take_back(self, now: float) -> list[Held] | None:
        """The tasks that it will not begin, once that is certain; None before and otherwise."""
        if self._withdraw_at is None or now < self._withdraw_at:
            return None
        self._withdraw_at = None
        # The child may have begun one more task before it saw the limit.
        last = max(self.shared.limit, self.shared.begun)
        numbers = self._unbegun(last)
        self._withdrawn.update(numbers)
        if not numbers and not self._withdrawn:
            self.shared.limit = NO_LIMIT
        return [self.outstanding.pop(number) for number in numbers]

    def look(self, now: float) -> Held | None:
        """The task that the child has begun since the last look."""
        if self._look_at is None or now < self._look_at:
            return None
        number = self.shared.begun
        held = self.outstanding.get(number)
        is_new = held is not None and number not in self._seen_at
        if is_new:
            self._seen_at[number] = now
            self._look_again = _LOOK_FIRST
        else:
            self._look_again = min(self._look_again * 2, _LOOK_LAST)
        is_all_seen = number in self._seen_at and len(self.outstanding) <= 1
        self._look_at = None if is_all_seen else now + self._look_again
        return held if is_new else None

    def stuck_since(self) -> float | None:
        """When the parent saw the present task begin, if it keeps others from their end."""
        if self._look_at is None or len(self.outstanding) <= 1:
            return None
        return self._seen_at.get(self.shared.begun)

    def is_asleep(self, now: float) -> bool:
        """Whether it has not begun what it was given, although it runs nothing: it was stopped, or
        the system gives it no time."""
        return (
            bool(self.outstanding)
            and self.current is None
            and self._withdraw_at is None
            and now - self._moved_at >= _ASLEEP_SECONDS
        )

    def next_at(self) -> float | None:
        """When the parent should look again."""
        times = [at for at in (self._look_at, self._withdraw_at) if at is not None]
        return min(times) if times else None

    def kill(self) -> None:
        """Ends the process now."""
        self.process.kill()

    def died(self) -> tuple[list[Held], list[Held]]:
        """The process is dead: the tasks that it had begun, and those that it had not."""
        self.is_dead, self.is_ready = True, False
        begun = self.shared.begun
        lost = [held for number, held in self.outstanding.items() if number <= begun]
        unbegun = [held for number, held in self.outstanding.items() if number > begun]
        self.outstanding.clear()
        self._withdrawn.clear()
        self._look_at = self._withdraw_at = None
        self._loop.remove(self._channel)
        self._channel.close()
        self._control.close()
        self.shared.close()
        return lost, unbegun

    def retire(self) -> None:
        """Ends the process as soon as it has read the end of its pipe."""
        self.is_dead, self.is_ready = True, False
        self._loop.remove(self._channel)
        self._channel.close()
        self.shared.close()

    def reap(self, wait: float = 0.0) -> bool:
        """Whether the process is gone. A process that does not end within `wait` is killed."""
        if self.process.poll() is None and wait:
            try:
                self.process.wait(wait)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.poll() is None:
            return False
        self._control.close()
        return True

    def look_for_death(self) -> None:
        """Finds out that the process is gone. The end of its pipe says so too, unless a process
        that a handler has started holds the pipe open."""
        if self.is_dead or self.process.poll() is None:
            return
        try:
            while frames := self._channel.read():
                for frame in frames:
                    self._on_message(self, marshal.loads(frame))
        except ChannelClosed:
            pass
        if not self.is_dead:
            self._on_message(self, None)

    def _unbegun(self, begun: int) -> list[int]:
        return [number for number in self.outstanding if number > begun]

    def _on_readable(self) -> None:
        try:
            for frame in self._channel.read():
                self._on_message(self, marshal.loads(frame))
                if self.is_dead:
                    return
            self._channel.flush()
        except ChannelClosed:
            self._on_message(self, None)


def package_path() -> str:
    """Where the child finds this package, wherever the parent has found it."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
