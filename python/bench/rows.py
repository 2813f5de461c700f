"""The rows of Python in the report of `make bench`, which calls this program: Celery on each broker
that is installed, and the package's own client and worker.

    python rows.py ROUNDS SCALE OUTPUT

The file OUTPUT gets one JSON object: `rows`, and in a sentence each what is `missing` and what has
`failed`. It is written anew after each workload, so that an interrupted run is worth something.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent / "src"))

import native  # noqa: E402
from figures import Figure, middle_of  # noqa: E402
from servers import celeriac_server  # noqa: E402

TITLES = {
    "delay": "delay(), one at a time",
    "pipelined": "delay(), answers later",
    "batch": "batches of 100",
    "prefork": "worker with 2 processes, full queue",
    "threads": "worker with 8 threads, full queue",
    "lifecycle": "batches and a worker with 2 processes",
    "roundtrip": "delay().get()",
}
FROM_FULL_QUEUE = ("prefork", "threads")
NATIVE = "Python client and worker"
DURABLE = "fdatasync before each confirmation"


class Report:
    """All that was found so far."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.missing: list[str] = []
        self.failed: list[dict[str, str]] = []

    def add(self, system: str, version: str, durability: str, workload: str, found: list[Figure]):
        middle = middle_of(found)
        is_rate = middle.p50_ms is None
        self.rows.append(
            {
                "system": system,
                "version": version,
                "durability": durability,
                "workload": TITLES[workload],
                "rounds": len(found),
                "per_second": middle.rate if is_rate else None,
                "p50_ms": middle.p50_ms,
                "client_cpu_us_per_task": middle.client_us,
                "cpu_us_per_task": middle.server_us,
            }
        )
        figure = f"{middle.rate:,.0f}/s" if is_rate else f"{middle.p50_ms:.2f} ms"
        print(f"python   {TITLES[workload]:<38} {system}, {durability}: {figure}", file=sys.stderr)

    def fail(self, system: str, workload: str, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        self.failed.append({"system": system, "workload": TITLES[workload], "reason": reason})
        print(f"python   {TITLES[workload]:<38} {system} failed: {reason}", file=sys.stderr)

    def write(self) -> None:
        found = {"rows": self.rows, "missing": self.missing, "failed": self.failed}
        draft = f"{self.path}.draft"
        Path(draft).write_text(json.dumps(found))
        os.replace(draft, self.path)


def measure_native(report: Report, rounds: int, scale: float) -> None:
    version = platform.python_version()
    with celeriac_server() as server:
        for workload, (count, opened) in native.WORKLOADS.items():
            try:
                with opened(server) as work:
                    tasks = max(int(count * scale) // 100 * 100, 100)
                    turns = rounds * (1 if workload in FROM_FULL_QUEUE else 5)
                    found = [work(tasks) for _ in range(turns)]
            except Exception as error:
                report.fail(NATIVE, workload, error)
            else:
                report.add(NATIVE, version, DURABLE, workload, found)
            report.write()


def measure_celery(report: Report, rounds: int, scale: float) -> None:
    try:
        import celery
        import with_celery
    except ImportError as error:
        install = f"{sys.executable} -m pip install 'celery[redis]'"
        report.missing.append(f"Celery is not installed ({error}): {install}")
        return
    systems = with_celery.SYSTEMS
    with with_celery.started(list(systems), report.missing) as servers:
        for workload in with_celery.WORKLOADS:
            try:
                turns = with_celery.turns_of(workload, servers, rounds, scale)
            except Exception as error:
                report.fail("Celery", workload, error)
            else:
                for name, found in turns.items():
                    title, durability, _ = systems[name]
                    report.add(title, celery.__version__, durability, workload, found)
            report.write()


def main() -> None:
    rounds, scale, output = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    report = Report(output)
    measure_native(report, rounds, scale)
    measure_celery(report, rounds, scale)
    report.write()


if __name__ == "__main__":
    main()
