"""The worker as its user sees it: it is made with its settings, runs, and ends."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from celeriac.app import Celeriac
from celeriac.errors import CeleriacError, InvalidArgument
from celeriac.task import Task
from celeriac.url import broker_url
from celeriac.worker.broker import Broker, worker_info
from celeriac.worker.credit import Credit
from celeriac.worker.driver import GO_ON, GRACEFUL, IMMEDIATE, Driver
from celeriac.worker.leases import Leases
from celeriac.worker.loop import Loop
from celeriac.worker.pool import Pool
from celeriac.worker.settings import Settings, instance_name

log = logging.getLogger("celeriac.worker")


class Unanswered(CeleriacError):
    """The worker shut down, and the broker did not answer the reports of some tasks in time. The
    broker treats the worker as lost: the tasks run again, or end as FAILURE `worker_lost`."""

    retryable = True

    def __init__(self, tasks: int) -> None:
        super().__init__(
            f"the worker ended before the broker answered the reports of {tasks} tasks"
        )
        self.tasks = tasks


class Worker:
    """Runs the tasks of an app. Its keywords are the fields of `celeriac.worker.Settings`.

    `run` works until the process gets SIGTERM or SIGINT. `start` and `stop` do the same on a thread
    beside other code, as tests do:

    >>> with app.worker(pool="threads", concurrency=2):  # doctest: +SKIP
    ...     shout.delay("hey").get()
    """

    def __init__(self, app: Celeriac, **settings: Any) -> None:
        self.app = app
        self.settings = Settings(**settings)
        self.instance = self.settings.instance or instance_name()
        self._driver: Driver | None = None
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None
        self._requested = GO_ON
        self._ends_at_hang_up = False
        self._has_ended = threading.Event()
        self._on_end: Callable[[], int] = lambda: 0
        """Wakes the main thread in `run`."""

    def run(self) -> None:
        """Works until a signal or an order of the broker ends the worker. The first SIGTERM or
        SIGINT ends it in order, the second one at once. SIGHUP does so in a terminal, which sends
        it when it is closed; without a terminal, and below `nohup`, it is ignored. Call this on the
        main thread.

        Raises the refusal of a broker that does not accept the worker, and `Unanswered`.
        """
        # At the hang-up itself the terminal is gone.
        self._ends_at_hang_up = _has_terminal()
        heard = list(_SIGNALS)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            # As `nohup` wants it. A shell has its background jobs ignore SIGINT too, but who sends
            # that to a worker means it.
            heard.remove(signal.SIGHUP)
        before = {each: signal.signal(each, self._on_signal) for each in heard}
        # The system may give a signal to another thread. A main thread that waits for a lock then
        # sleeps on, and Python runs its handlers on the main thread only. A read ends with the byte
        # that Python writes for every signal.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before_descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._on_end = lambda: os.write(writer, b"\0")
        try:
            self.start()
            while not self._has_ended.is_set():
                os.read(reader, 64)
            self.join()
        finally:
            signal.set_wakeup_fd(before_descriptor)
            for each, handler in before.items():
                signal.signal(each, handler)
            self._on_end = lambda: 0
            os.close(reader)
            os.close(writer)

    def start(self) -> None:
        """Begins to work, on threads of its own. It does not wait for the broker."""
        if self._thread is not None:
            raise InvalidArgument("The worker has been started before. Make another one.")
        tasks = self.app.tasks
        if not tasks:
            raise InvalidArgument("The app has no tasks, so a worker has nothing to run.")
        url = broker_url(self.app.url)
        settings = self.settings
        loop = Loop()
        leases = Leases(loop.wake)
        pool = self._pool(tasks, leases)
        queues = settings.subscriptions(task.options.queue for task in tasks.values())
        info = worker_info(queues, sorted(tasks), settings.slots)
        broker = Broker(url, info, self.instance, loop)
        credit = Credit(settings.slots, settings.credit)
        self._loop = loop
        self._driver = Driver(loop, broker, leases, pool, credit, settings.grace_seconds)
        self._driver.requested = self._requested
        log.info(
            "The worker %s begins: %d tasks, queues %s, %d %s, broker %s.",
            self.instance,
            len(tasks),
            ", ".join(queues),
            settings.slots,
            settings.pool,
            url.shown,
        )
        self._thread = threading.Thread(target=self._drive, name="celeriac-worker", daemon=True)
        self._thread.start()

    def stop(self, *, now: bool = False) -> None:
        """Asks the worker to end, in order or at once. It does not wait; `join` does."""
        self._request(IMMEDIATE if now else GRACEFUL)

    def join(self, timeout: float | None = None) -> bool:
        """Waits until the worker has ended, and raises what `run` raises. Returns False when the
        time is over before."""
        if self._thread is None or self._driver is None:
            return True
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        if self._fault is not None:
            raise self._fault
        if self._driver.error is not None:
            raise self._driver.error
        if self._driver.unanswered:
            raise Unanswered(self._driver.unanswered)
        return True

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()

    def _pool(self, tasks: dict[str, Task[..., Any]], leases: Leases) -> Pool:
        if self.settings.pool == "processes":
            from celeriac.worker.process_pool import ProcessPool

            return ProcessPool(self.app, tasks, leases, self.settings)
        from celeriac.worker.local_pool import LocalPool

        return LocalPool(self.app, tasks, leases, self.settings.slots)

    def _drive(self) -> None:
        assert self._driver is not None
        try:
            self._driver.run()
        except BaseException as fault:
            log.exception("The worker ends because of a fault of its own.")
            self._fault = fault
        finally:
            self._has_ended.set()
            self._on_end()

    def _request(self, what: int) -> None:
        # A signal may come before there is a driver: `start` looks at the wish again.
        self._requested = max(self._requested, what)
        driver, loop = self._driver, self._loop
        if driver is not None and loop is not None:
            driver.requested = self._requested
            loop.wake()

    def _on_signal(self, number: int, _: object) -> None:
        if number == signal.SIGHUP and not self._ends_at_hang_up:
            log.info("SIGHUP has no meaning for the worker, ignored.")
            return
        self._request(IMMEDIATE if self._requested >= GRACEFUL else GRACEFUL)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
