"""One client in many threads, in forked children, and under signals."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from celeriac import _codec
from celeriac.client import Client
from celeriac.errors import ClientClosed
from celeriac.scratch_broker import ScratchBroker
from celeriac.submission import Submission, SubmitKind
from played_broker import Peer, PlayedBroker

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs the work in threads, and raises the first error."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def in_child(work: Callable[[], object]) -> Any:
    """Runs the work in a forked child. Returns its value as text. Raises what went wrong there."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            text = f"ok {work()}"
        except BaseException as error:
            text = f"error {type(error).__name__} {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    data = b""
    deadline = time.monotonic() + 30
    os.set_blocking(reader, False)
    while time.monotonic() < deadline:
        try:
            part = os.read(reader, 65536)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        if not part:
            break
        data += part
    else:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    word, _, rest = data.decode().partition(" ")
    assert word == "ok", data
    return rest


def test_threads_share_one_connection(broker: ScratchBroker) -> None:
    before = threading.active_count()
    with Client(broker.url, timeout=20) as client:
        seen: list[str] = []

        def work(number: int) -> None:
            for turn in range(60):
                task_id = f"threads-{id(client)}-{number}-{turn}"
                assert client.submit("n", task_id=task_id).id == task_id
                assert client.get(task_id).id == task_id
                if turn % 20 == 0:
                    many = client.submit_many(Submission("n") for _ in range(500))
                    assert len(many) == 500
                    assert not client.wait(task_id, timeout=0.01).satisfied
                seen.append(task_id)

        in_threads(12, work)
        assert len(set(seen)) == 720
        assert threading.active_count() <= before, "no thread stays behind"


def test_a_thread_that_waits_does_not_hold_up_the_others(client: Client) -> None:
    task = client.submit("n")
    waits = threading.Thread(target=lambda: client.wait(task.id, timeout=60.0))
    waits.start()
    time.sleep(0.05)
    began = time.monotonic()
    for _ in range(50):
        client.submit("n")
    # The others do not wait until its time is over.
    assert time.monotonic() - began < 45
    assert waits.is_alive()
    client.cancel(task.id)
    waits.join()


def test_closing_wakes_the_threads_that_wait(broker: ScratchBroker) -> None:
    client = Client(broker.url)
    task = client.submit("n")
    outcomes: list[str] = []

    def work() -> None:
        try:
            client.wait(task.id, timeout=30)
        except ClientClosed:
            outcomes.append("closed")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    client.close()
    for thread in threads:
        thread.join(5)
    assert outcomes == ["closed"] * 3


@needs_fork
def test_a_forked_child_opens_its_own_connection(broker: ScratchBroker) -> None:
    with Client(broker.url, timeout=10) as client:
        mine = client.submit("n")
        for _ in range(3):
            of_child = in_child(lambda: client.submit("n").id)
            assert client.get(of_child).is_known
        assert client.get(mine.id).is_known
        assert client.submit("n").kind is SubmitKind.CREATED


@needs_fork
def test_a_child_says_nothing_on_its_parents_connection(played: PlayedBroker) -> None:
    bodies: list[str] = []

    def parents(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            bodies.append(type(peer.read().body).__name__)
            peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id="a")]))
        peer.wait_for_end()

    def childs(peer: Peer) -> None:
        peer.greet()
        peer.expect(_codec.Get)
        peer.answer(_codec.GetReply(tasks=[_codec.TaskInfo(id="a")]))
        peer.wait_for_end()

    played.play(parents)
    client = Client(played.url, timeout=5)
    client.get("a")
    played.play(childs)

    def in_the_child() -> str:
        found = client.get("a").id
        client.close()
        return found

    assert in_child(in_the_child) == "a"
    client.get("a")
    client.close()
    played.finish()
    assert bodies == ["Get", "Get"]


@needs_fork
def test_a_child_is_free_of_the_locks_of_its_parents_threads(broker: ScratchBroker) -> None:
    """Other threads of the parent are within calls at each moment of the fork."""
    with Client(broker.url, timeout=10) as client:
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                client.submit_many(Submission("n") for _ in range(20))

        threads = [threading.Thread(target=busy) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(15):
                assert in_child(lambda: client.submit("n").kind) == "SubmitKind.CREATED"
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        assert client.submit("n").kind is SubmitKind.CREATED


@needs_fork
def test_a_watch_goes_on_in_a_child(broker: ScratchBroker) -> None:
    with Client(broker.url, timeout=10) as client:
        task = client.submit("n")
        watch = client.watch(task.id, timeout=10)
        assert next(watch).state == "QUEUED"

        def follow() -> str:
            client.cancel(task.id)
            return ",".join(info.state for info in watch)

        assert in_child(follow) == "REVOKED"
        assert [info.state for info in watch] == ["REVOKED"]


@needs_fork
def test_a_child_closes_its_parents_sockets_before_it_does_anything(broker: ScratchBroker) -> None:
    with Client(broker.url, timeout=10) as client:
        client.submit("n")
        opened = client._link._socket
        assert opened is not None
        number = opened.fileno()
        assert in_child(lambda: (opened.fileno(), client._link._socket)) == "(-1, None)"
        assert opened.fileno() == number
        assert client.submit("n").kind is SubmitKind.CREATED


@needs_fork
def test_a_child_of_a_child(broker: ScratchBroker) -> None:
    with Client(broker.url, timeout=10) as client:
        client.submit("n")
        found = in_child(lambda: in_child(lambda: client.submit("n").kind))
        assert found == "SubmitKind.CREATED"


def _submit_in_a_process(url: str) -> str:
    with Client(url, timeout=10) as client:
        return str(client.submit("n").kind)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_multiprocessing(broker: ScratchBroker, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("the system does not offer this start method")
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_submit_in_a_process, [broker.url] * 4) == ["SubmitKind.CREATED"] * 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers")
def test_a_signal_that_raises_leaves_a_client_that_works(broker: ScratchBroker) -> None:
    def raise_late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, raise_late)
    try:
        with Client(broker.url, timeout=10) as client:
            interrupted = 0
            for turn in range(120):
                try:
                    # A busy machine may raise it before the call.
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + turn % 40 * 0.00005)
                    client.submit_many(Submission("n") for _ in range(50))
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Late:
                    interrupted += 1
                assert client.submit("n").kind is SubmitKind.CREATED
            assert interrupted > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Late(Exception):
    """What a handler of signals raises."""


class InterruptedSocket:
    """A socket whose next read takes bytes that its caller never gets."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def recv(self, count: int) -> bytes:
        self._opened.recv(count)
        raise Late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)


def test_a_connection_whose_bytes_are_lost_is_given_up(broker: ScratchBroker) -> None:
    with Client(broker.url, timeout=5) as client:
        client.submit("n")
        client._link._socket = InterruptedSocket(client._link._socket)  # type: ignore[assignment]
        with pytest.raises(Late):
            client.submit("n")
        assert client._link._socket is None
        began = time.monotonic()
        assert client.submit("n").kind is SubmitKind.CREATED
        assert time.monotonic() - began < 15


def test_an_interrupt_of_the_first_connection_costs_no_other_thread_its_call(
    own_broker: ScratchBroker,
) -> None:
    waits, kinds = threading.Event(), []

    def submit() -> None:
        waits.set()
        kinds.append(client.submit("n").kind)

    def raise_late(*_: object) -> None:
        raise Late

    assert own_broker.pid is not None
    before = signal.signal(signal.SIGALRM, raise_late)
    other = threading.Thread(target=submit)
    with Client(own_broker.url, timeout=30) as client:
        # It accepts connections, and says nothing.
        os.kill(own_broker.pid, signal.SIGSTOP)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(Late):
                interrupted(client, other, waits)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            os.kill(own_broker.pid, signal.SIGCONT)
        other.join(30)
    assert kinds == [SubmitKind.CREATED]


def interrupted(client: Client, other: threading.Thread, waits: threading.Event) -> None:
    """This thread reads, and the other one waits for it."""
    other.start()
    waits.wait(10)
    client.submit("n")


def test_a_connection_with_half_a_frame_is_given_up(
    broker: ScratchBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_half(writer: socket.socket, data: bytes, _: float) -> bytes:
        writer.sendall(data[: len(data) // 2])
        raise Late

    with Client(broker.url, timeout=5) as client:
        client.submit("n")
        with monkeypatch.context() as patched:
            patched.setattr("celeriac._link._send_all", send_half)
            with pytest.raises(Late):
                client.submit("n")
        assert client._link._socket is None
        assert client.submit("n").kind is SubmitKind.CREATED


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers")
def test_a_signals_handler_may_use_the_client_of_the_call_that_it_interrupts(
    broker: ScratchBroker,
) -> None:
    with Client(broker.url, timeout=10) as client:
        waited = client.submit("n").id
        kinds: list[Any] = []

        def submit(*_: object) -> None:
            kinds.append(client.submit("n").kind)
            if len(kinds) == 20:
                client.cancel(waited)
            else:
                signal.setitimer(signal.ITIMER_REAL, 0.02)

        before = signal.signal(signal.SIGALRM, submit)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            began = time.monotonic()
            assert client.wait(waited, timeout=20).satisfied
            assert time.monotonic() - began < 15
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert len(kinds) == 20
        assert set(kinds) == {SubmitKind.CREATED}


def test_a_watch_that_the_garbage_collector_ends_takes_no_lock(broker: ScratchBroker) -> None:
    with Client(broker.url, timeout=10) as client:
        task = client.submit("n")
        watch = client.watch(task.id)
        assert next(watch).state == "QUEUED"
        with client._link._lock:
            ends = threading.Thread(target=watch.close)  # type: ignore[attr-defined]
            ends.start()
            ends.join(5)
            assert not ends.is_alive()
        client.get(task.id)
        assert not client._link.exchange.watches.is_going_on


def test_a_client_that_is_dropped_leaves_no_socket_open(broker: ScratchBroker) -> None:
    if sys.platform != "linux":
        pytest.skip("the test counts the open files of Linux")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for turn in range(20):
            client = Client(broker.url, timeout=10)
            client.submit("n")
            if turn % 2:
                client.close()
        del client
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
