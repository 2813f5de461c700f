"""Installs a wheel of this package into an empty environment, and uses it as its users do.

    python tools/check_wheel.py target/wheels/celeriac-0.1.0-py3-none-linux_x86_64.whl
    python tools/check_wheel.py WHEEL --python python3.13 --celery

The environment has nothing but pip and the wheel, so a dependency that slipped in shows. `--celery`
then installs Celery and pytest beside it, from PyPI.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

SONGS = """\
from celeriac import Celeriac

app = Celeriac(queue="songs")

@app.task(name="songs.double")
def double(number: int) -> int:
    return 2 * number
"""

#: A test of a user, who names only a fixture.
USER_TEST = """\
import songs

def test_it(celeriac_app, celeriac_worker):
    assert songs.double.delay(21).get(timeout=30) == 42
"""

ENTRY_POINTS = """\
from importlib.metadata import entry_points
for group in ("kombu.serializers", "celery.result_backends", "pytest11"):
    for point in entry_points(group=group):
        if point.name == "celeriac":
            print(group, point.value)
            if group == "kombu.serializers":
                point.load()
"""

CELERY = """\
import celery, kombu
app = celery.Celery("songs", broker="celeriac://127.0.0.1:1", backend="rpc://")
assert celery.Celery("other", broker="memory://").connection().connect()
print(kombu.Connection("celeriac://127.0.0.1:1").get_transport_cls().__module__)
"""


class Environment:
    """An empty environment, with a folder for what a user writes."""

    def __init__(self, folder: Path, python: str) -> None:
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        # What the caller set, such as PYTHONPATH, must not help.
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        self.variables = {**kept, "PATH": f"{self.bin}:/usr/bin:/bin"}

    def run(self, *words: str, fails: bool = False) -> str:
        """Runs a program of the environment, and returns what it prints."""
        done = subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=self.folder, env=self.variables, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if (done.returncode != 0) != fails:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    @contextlib.contextmanager
    def background(self, *words: str) -> Iterator[None]:
        """Runs a program of the environment during the block. SIGTERM must end it with 0."""
        with open(self.folder / f"{words[0]}.log", "w+b") as log:
            process = subprocess.Popen(
                [self.bin / words[0], *words[1:]],
                cwd=self.folder, env=self.variables, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                yield
                process.terminate()
                code = process.wait(30)
            finally:
                process.kill()
            log.seek(0)
            if code != 0:
                raise SystemExit(f"{' '.join(words)} ended with {code}:\n{log.read().decode()}")

    def install(self, *packages: str) -> None:
        """Installs packages with pip."""
        self.run("python", "-m", "pip", "install", "--quiet", *packages)


def main() -> None:
    """Checks one wheel."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", default=sys.executable, help="the interpreter to install for")
    parser.add_argument("--celery", action="store_true", help="check beside Celery and pytest too")
    given = parser.parse_args()
    check_files(given.wheel)
    with tempfile.TemporaryDirectory(prefix="celeriac-wheel-") as folder:
        environment = Environment(Path(folder), given.python)
        environment.install("--no-index", str(given.wheel.resolve()))
        print(environment.run("python", "--version").strip())
        check_commands(environment)
        check_entry_points(environment)
        if given.celery:
            environment.install("celery>=5.4,<5.8", "pytest")
            check_pytest(environment)
            check_celery(environment)
    print("The wheel is well.")


def check_files(wheel: Path) -> None:
    """What a wheel must have, and must not."""
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        modes = {name: files.getinfo(name).external_attr >> 16 for name in names}
    scripts = [name for name in names if ".data/scripts/" in name]
    assert {Path(name).name for name in scripts} == {"celeriac", "celeriac-worker"}, scripts
    assert all(modes[name] & 0o111 for name in scripts), "a script is not executable"
    assert "celeriac/py.typed" in names
    strange = [name for name in names if "__pycache__" in name or "tests/" in name]
    assert not strange, strange
    print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB, {len(names)} files")


def check_commands(environment: Environment) -> None:
    """The commands of the first page of the README."""
    (environment.folder / "songs.py").write_text(SONGS)
    version = environment.run("celeriac", "--version").split()[-1]
    assert environment.run("python", "-m", "celeriac", "--version").split()[-1] == version
    assert environment.run("celeriac-worker", "--version").split()[-1] == version
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    environment.variables["CELERIAC_URL"] = f"celeriac://127.0.0.1:{port}"
    listen = ("--data", "data", "--listen", f"127.0.0.1:{port}")
    submit = ("celeriac", "submit", "songs.double", "--queue", "songs", "--args", "[21]", "--wait")
    with environment.background("celeriac", "serve", *listen):
        wait_for(port)
        for options in (
            ("--pool", "processes"),
            ("--start-method", "forkserver"),
            ("-P", "threads"),
        ):
            with environment.background("celeriac-worker", "songs", *options):
                assert "42" in environment.run(*submit)
    # Without its binary the module says what is missing.
    (environment.bin / "celeriac").rename(environment.bin / "away")
    assert "Install the package again" in environment.run("python", "-m", "celeriac", fails=True)
    (environment.bin / "away").rename(environment.bin / "celeriac")


def wait_for(port: int) -> None:
    """Waits until the broker listens."""
    until = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        assert time.monotonic() < until, "the broker does not listen"
        time.sleep(0.05)


def check_entry_points(environment: Environment) -> None:
    """The entry points are there, and the one that runs at every `import celery` imports."""
    found = environment.run("python", "-c", ENTRY_POINTS).splitlines()
    assert found == [
        "kombu.serializers celeriac._register:serializer",
        "celery.result_backends celeriac.celery.backend:CeleriacBackend",
        "pytest11 celeriac.testing",
    ], found


def check_pytest(environment: Environment) -> None:
    """A test of a user has the fixtures, without a word in its project."""
    (environment.folder / "test_songs.py").write_text(USER_TEST)
    assert "1 passed" in environment.run("python", "-m", "pytest", "-q", "test_songs.py")


def check_celery(environment: Environment) -> None:
    """Celery finds the transport, and is not broken by a package that is broken."""
    assert "celeriac.celery.transport" in environment.run("python", "-c", CELERY)
    package = Path(
        environment.run("python", "-c", "import celeriac; print(*celeriac.__path__)").strip()
    )
    for module in package.rglob("*.py"):
        if module.relative_to(package).as_posix() not in ("__init__.py", "_register.py"):
            module.write_text("raise RuntimeError('broken')\n")
    broken = "import celery; print(celery.Celery('a', broker='memory://').connection().connect())"
    environment.run("python", "-W", "error", "-c", broken)


if __name__ == "__main__":
    main()
