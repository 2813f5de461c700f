"""The program that makes child processes by `fork`, and its side in the worker.

The worker itself has threads, and a fork beside threads could inherit a held lock. So this program
has none: it imports the tasks once, and each child is a copy of it. A child is there in
milliseconds, and shares the memory of what was imported.

For each child there is a socket: the program writes the number of the process, and its code when
it has ended; a byte in the other direction kills it. The program alone waits for its children, so
it never kills a process that has taken over the number of another one.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
from time import monotonic
from typing import Any

from celeriac.worker import collector
from celeriac.worker.child import IMPORT_FAILED, run_child, tasks_of
from celeriac.worker.loading import LoadError
from celeriac.worker.logs import set_up_logs

_NUMBER_BYTES = 8

#: The longest message: the setup, with the path and the modules.
_SETUP_BYTES_MAX = 1 << 20

#: How long the worker waits for the end of a child that was killed.
_END_SECONDS = 5.0

_PROGRAM = (
    "import sys; sys.path[0] = sys.argv[1]; from celeriac.worker.fork_server import main; main()"
)


class ForkServer:
    """The program, as the worker sees it. It begins at the first child."""

    def __init__(self, package_path: str, setup: dict[str, Any]) -> None:
        self._package_path = package_path
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self, descriptors: tuple[int, int, int]) -> Forked:
        """Asks for a child with these descriptors. Raises `OSError`; the next call tries again."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._begin()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"f"], [theirs.fileno(), *descriptors])
            except BaseException:
                ours.close()
                raise
        return Forked(ours)

    def close(self) -> None:
        """Ends the program. Its children go on; each of them ends with its pipe."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _begin(self) -> None:
        # A socket that keeps messages apart, and the descriptors with their message.
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with control:
            command = [sys.executable, "-c", _PROGRAM, self._package_path, str(control.fileno())]
            self._process = subprocess.Popen(command, pass_fds=(control.fileno(),))
        self._control.setblocking(False)
        self._control.send(marshal.dumps(self._setup))


class Forked:
    """A child of the program, with the methods of `subprocess.Popen` that a pool uses."""

    def __init__(self, status: socket.socket) -> None:
        status.setblocking(False)
        self._status = status
        self._received = b""
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """The number of the process; 0 while it is not known."""
        self.poll()
        return int.from_bytes(self._received[:_NUMBER_BYTES], "big")

    def poll(self) -> int | None:
        """The code with which the process has ended, if it has."""
        if self.returncode is None:
            try:
                received = self._status.recv(64)
                self._received += received
                is_over = not received
            except BlockingIOError:
                is_over = False
            except OSError:
                is_over = True
            code = self._received[_NUMBER_BYTES : 2 * _NUMBER_BYTES]
            if len(code) == _NUMBER_BYTES:
                self._end(int.from_bytes(code, "big", signed=True))
            elif is_over:
                self._end_without_program()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end. Raises `subprocess.TimeoutExpired`."""
        until = monotonic() + (_END_SECONDS if timeout is None else timeout)
        while self.poll() is None:
            left = until - monotonic()
            if left > 0:
                select.select([self._status], [], [], left)
            elif timeout is None:
                self._end_without_program()
            else:
                raise subprocess.TimeoutExpired("a child process", timeout)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """Ends the process now."""
        with contextlib.suppress(OSError):
            self._status.send(b"k")

    def _end_without_program(self) -> None:
        """The program is gone or stands still, so its child is ended from here."""
        pid = int.from_bytes(self._received[:_NUMBER_BYTES], "big")
        if pid:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._end(-signal.SIGKILL if pid else IMPORT_FAILED)

    def _end(self, code: int) -> None:
        self.returncode = code
        self._status.close()


class _Server:
    """The program itself."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        # Not epoll: a child would share it.
        self._selector = selectors.PollSelector()
        self._statuses: dict[int, socket.socket] = {}
        """The socket of each child that lives, by its number."""
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waking, False)

    def serve(self) -> tuple[int, int, int] | None:
        """Makes children until the worker is gone, and then returns None. In each child it returns
        the child's descriptors."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    data, descriptors, _, _ = socket.recv_fds(self._control, 64, 4)
                    if not data:
                        return None
                    if self._fork(descriptors):
                        _, tasks, control, memory = descriptors
                        return tasks, control, memory
                elif key.fileobj == self._woken:
                    os.read(self._woken, 4096)
                else:
                    self._hear(key.data)
            self._reap()

    def _fork(self, descriptors: list[int]) -> bool:
        """Makes one child. True in the child."""
        status = socket.socket(fileno=descriptors[0])
        try:
            pid = os.fork()
        except OSError as error:
            print(f"celeriac-worker: a child process cannot be made: {error}", file=sys.stderr)
            pid = -1
        if pid == 0:
            status.close()
            self._leave()
            return True
        for each in descriptors[1:]:
            os.close(each)
        if pid < 0:
            status.close()
            return False
        self._statuses[pid] = status
        self._selector.register(status, selectors.EVENT_READ, pid)
        with contextlib.suppress(OSError):
            status.sendall(pid.to_bytes(_NUMBER_BYTES, "big"))
        return False

    def _leave(self) -> None:
        """In a child: gives back what belongs to the program."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in self._statuses.values():
            each.close()
        self._control.close()
        os.close(self._woken)
        os.close(self._waking)

    def _hear(self, pid: int) -> None:
        """The worker wants a child killed, or asks for nothing any more."""
        status = self._statuses.get(pid)
        if status is None:
            return
        try:
            data = status.recv(64)
        except OSError:
            data = b""
        if data:
            os.kill(pid, signal.SIGKILL)
        else:
            self._selector.unregister(status)

    def _reap(self) -> None:
        for pid, status in list(self._statuses.items()):
            ended, wait_status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._statuses[pid]
                with contextlib.suppress(KeyError):
                    self._selector.unregister(status)
                code = os.waitstatus_to_exitcode(wait_status)
                with contextlib.suppress(OSError):
                    status.sendall(code.to_bytes(_NUMBER_BYTES, "big", signed=True))
                status.close()


def main() -> None:
    """Runs the program with the descriptor of the command line."""
    control = socket.socket(fileno=int(sys.argv[2]))
    # A signal to the whole group is for the worker.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: None)
    data = control.recv(_SETUP_BYTES_MAX)
    if not data:
        return
    setup = marshal.loads(data)
    sys.path[:] = setup["path"]
    set_up_logs(setup["level"])
    try:
        tasks_of(setup)
        if threading.active_count() > 1:
            raise LoadError(
                "The modules of the tasks start threads when they are imported. A process with "
                "threads must not be forked: choose --start-method spawn."
            )
    except LoadError as error:
        print(error, file=sys.stderr)
        raise SystemExit(IMPORT_FAILED) from None
    # What was imported stays where it is, so that the children share its memory.
    gc.collect()
    collector.keep_what_is_there()
    descriptors = _Server(control).serve()
    if descriptors is not None:
        run_child(*descriptors)
