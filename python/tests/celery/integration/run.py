"""Runs Celery's own integration tests and kombu's tests for transports, with both addresses those
of a broker of Celeriac. `.ci/celery` calls it with the Python of an environment of its own.

Lists in this folder name the tests of Celery: `celery.txt` all that are run, `quick.txt` the share
that `quick` runs, and `left_out.txt` those that are not run, each with the reason. A line names one
test with all its parameters.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from queue import Empty, SimpleQueue

from trees import celery_tree, kombu_tree, source_of

from celeriac.scratch_broker import ScratchBroker

HERE = Path(__file__).parent
LANES = 2
"""So many groups of tests run side by side. Most of the time they wait."""

TEST_SECONDS, GROUP_SECONDS = 300, 3600
_OWN_PROCESS_FROM = 15
"""A class with that many tests is a group of its own."""

COLUMNS = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
NOTES_HINT = "redis-server is missing: the tests that keep notes in Redis skip themselves"


def listed(name):
    """The tests that a list names."""
    lines = (line.split("#")[0].strip() for line in (HERE / name).read_text().splitlines())
    return [line for line in lines if line]


def groups_of(tests):
    """The tests in groups, each for one process of pytest: by file, and large classes alone."""
    classes = Counter("::".join(test.split("::")[:2]) for test in tests)
    groups = defaultdict(list)
    for test in tests:
        name = "::".join(test.split("::")[:2])
        large = classes[name] >= _OWN_PROCESS_FROM
        groups[name if large else test.split("::")[0]].append(test)
    return sorted(groups.values(), key=len, reverse=True)


class Lane:
    """A broker, and a Redis for the notes of tests, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self.broker = ScratchBroker()
        self.redis = None
        self.redis_port = free_port()
        if shutil.which("redis-server"):
            command = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1"]
            command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
            self.redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_for_port(self.redis_port)

    def environment(self):
        own = {
            "TEST_BROKER": self.broker.url,
            "TEST_BACKEND": self.broker.url,
            "KOMBU_URL": self.broker.url,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.redis_port),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "WORKER_LOGLEVEL": "INFO",
        }
        # Celery's commands and kombu read variables of their own.
        foreign = ("CELERY_", "KOMBU_", "BROKER_", "RESULT_BACKEND", "CELERIAC_URL")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, **own}

    def run(self, tree, tests, plugins, log):
        """Runs tests in one process of pytest, and gives their outcomes."""
        outcomes, ids = self.folder / "outcomes", self.folder / "ids"
        outcomes.unlink(missing_ok=True)
        ids.write_text("\n".join(tests))
        if self.redis is not None:
            subprocess.run(
                ["redis-cli", "-p", str(self.redis_port), "flushall"], capture_output=True
            )
        command = [sys.executable, "-m", "pytest", "-v", "-p", "outcomes", "-p", "no:cacheprovider"]
        command += [each for plugin in plugins for each in ("-p", plugin)]
        command += [f"--timeout={TEST_SECONDS}", f"@{ids}"]
        environment = {**self.environment(), "OUTCOMES": str(outcomes)}
        with log.open("wb") as written:
            status = run_to_the_end(command, cwd=tree, env=environment, log=written)
        rows = [json.loads(line) for line in outcomes.open()] if outcomes.exists() else []
        done = [row["id"] for row in rows]
        for test in tests:
            if not any(is_of(each, test) for each in done):
                reason = f"it did not run; pytest ended with {status}, see {log}"
                row = {"id": test, "outcome": "error", "seconds": 0, "reruns": 0, "reason": reason}
                rows.append(row)
        return rows

    def close(self):
        self.broker.close()
        if self.redis is not None:
            self.redis.terminate()
            self.redis.wait()


def run_to_the_end(command, cwd, env, log):
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=log, stderr=log)
    try:
        return process.wait(GROUP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"the signal after {GROUP_SECONDS} s, status {process.wait()}"


def is_of(test, listed_test):
    """Whether a test is the listed one, with or without parameters, or in its class or file."""
    return test == listed_test or test.startswith((f"{listed_test}[", f"{listed_test}::"))


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def wait_for_port(port):
    until = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def run_all(tests, folder, logs):
    """Runs all groups, and gives the outcomes of all tests."""
    sources = Path(os.environ["SOURCES"])
    celery, kombu = folder / "celery", folder / "kombu"
    celery_tree(source_of("celery", sources), celery, bool(shutil.which("redis-server")))
    kombu_tree(source_of("kombu", sources), kombu)
    work = SimpleQueue()
    for number, group in enumerate(groups_of(tests)):
        name = group[0].split("::")[0].rpartition("/")[2].removesuffix(".py")
        log = logs / f"celery-{number}-{name}.log"
        work.put((celery, group, ["celery.contrib.pytest"], log))
    work.put((kombu, ["t/integration/test_celeriac.py"], [], logs / "kombu.log"))
    rows, failures = [], []

    def serve(number):
        try:
            lane = Lane(folder / f"lane-{number}")
            try:
                while True:
                    rows.extend(lane.run(*work.get_nowait()))
            except Empty:
                return
            finally:
                lane.close()
        except Exception as error:
            failures.append(error)

    lanes = [threading.Thread(target=serve, args=(number,)) for number in range(LANES)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    if failures:
        raise failures[0]
    return rows


def show(rows, seconds):
    """Prints what failed, what was skipped, and the table."""
    for row in sorted(rows, key=lambda row: row["id"]):
        if row["outcome"] in ("failed", "error", "skipped"):
            reason = row["reason"].strip().splitlines() or [""]
            print(f"{row['outcome'].upper()} {row['id']}: {reason[-1][:200]}")
    table, times = defaultdict(Counter), Counter()
    for row in rows:
        file = row["id"].split("::")[0].rpartition("/")[2]
        for name in (file, "all"):
            table[name][row["outcome"]] += 1
            table[name]["rerun"] += row["reruns"]
            times[name] += row["seconds"]
    print(f"{'file':28}" + "".join(f"{name:>9}" for name in (*COLUMNS, "rerun", "seconds")))
    for name in [*sorted(set(table) - {"all"}), "all"]:
        figures = "".join(f"{table[name][column]:9}" for column in (*COLUMNS, "rerun"))
        print(f"{name:28}{figures}{times[name]:9.0f}")
    print(f"This took {seconds:.0f} s.")


def main(quick):
    began = time.monotonic()
    tests, left_out = listed("celery.txt"), listed("left_out.txt")
    if quick:
        tests = [test for test in tests if any(is_of(test, each) for each in listed("quick.txt"))]
    logs = Path(os.environ["LOGS"])
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="celeriac-celery-") as folder:
        rows = run_all(tests, Path(folder), logs)
    show(rows, time.monotonic() - began)
    print(f"Logs are in {logs}. {len(left_out)} tests are left out: see left_out.txt.")
    if not shutil.which("redis-server"):
        print(NOTES_HINT)
    return int(any(row["outcome"] in ("failed", "error") for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["quick"]))
