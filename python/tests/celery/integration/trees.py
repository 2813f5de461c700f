"""The tests as Celery and kombu have released them, made ready to run outside of docker."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent

_KOMBU_CONFTEST = '''
"""kombu's release leaves out what its tests need of tox."""


def pytest_configure(config):
    config.addinivalue_line("markers", "env(name): the environment of tox")
'''


def source_of(name: str, folder: Path) -> Path:
    """Fetches the source of the installed version, once, and gives the folder with it."""
    release = version(name)
    source = folder / f"{name}-{release}"
    if not source.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--no-binary", ":all:", "--dest", str(folder)]
        subprocess.run([*command, f"{name}=={release}"], check=True)
        unpacked = folder / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        archive = folder / f"{name}-{release}.tar.gz"
        subprocess.run(["tar", "-xzf", archive, "-C", unpacked], check=True)
        (unpacked / f"{name}-{release}").rename(source)
    return source


def celery_tree(source: Path, tree: Path, with_redis: bool) -> None:
    """Copies Celery's integration tests to a new folder."""
    shutil.copytree(source / "t" / "integration", tree / "t" / "integration")
    for file in (source / "t").glob("*.py"):
        shutil.copy(file, tree / "t")
    shutil.copy(source / "pyproject.toml", tree)
    tests = tree / "t" / "integration"
    if with_redis:
        _open_guards(tests)
    # These helpers look at the channels of a result backend that is Redis.
    _change(
        tests / "conftest.py",
        "def get_active_redis_channels():\n",
        "def get_active_redis_channels():\n    pytest.skip('looks at the channels of Redis')\n",
    )
    # A record of the log of another process does not always come within 10 ms.
    _change(tests / "test_tasks.py", "time.sleep(.01)", "time.sleep(.5)")


def _open_guards(tests: Path) -> None:
    """Many tests use Redis as a place for notes, beside the broker and the result backend. They
    ask whether the result backend is Redis, and would skip themselves."""
    for name in ("test_canvas.py", "test_tasks.py", "test_group_chains.py"):
        text = (tests / name).read_text()
        # This test looks at the keys of a result backend that is Redis.
        own = re.search(r"\n    def test_chord_on_error\(.*?(?=\n    def test_)", text, re.DOTALL)
        kept = own.group(0) if own else ""
        text = text.replace(kept, "\0") if kept else text
        text = re.sub(r"result_backend\.startswith\((['\"])redis\1\)", _GUARD, text)
        text = text.replace("result_backend.startswith(('redis', 'rpc'))", _GUARD)
        # Two tests hang with every result backend that stores values under keys.
        text = text.replace(
            "xfail(TEST_BACKEND.startswith('redis://'), reason=\"Issue #6437\")",
            "xfail(reason='Issue #6437', strict=False)",
        )
        (tests / name).write_text(text.replace("\0", kept))


_GUARD = "result_backend.startswith(('celeriac', 'redis'))"


def kombu_tree(source: Path, tree: Path) -> None:
    """Copies kombu's common classes of tests for transports, and adds ours to them."""
    tests = tree / "t" / "integration"
    tests.mkdir(parents=True)
    for name in ("__init__.py", "common.py"):
        shutil.copy(source / "t" / "integration" / name, tests)
    for file in (source / "t").glob("*.py"):
        shutil.copy(file, tree / "t")
    shutil.copy(HERE / "kombu_transport.py", tests / "test_celeriac.py")
    (tree / "conftest.py").write_text(_KOMBU_CONFTEST)


def _change(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    if before not in text:
        raise SystemExit(f"{file.name} of this version of Celery has no {before!r}")
    file.write_text(text.replace(before, after))
