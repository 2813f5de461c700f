"""Runs the conformance kit's scripts for workers, where the kit is built: it plays a broker, with
the failures of a real one. `CELERIAC_CONFORMANCE` may name its program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KIT = Path(os.environ.get("CELERIAC_CONFORMANCE", ROOT / "target/debug/celeriac-conformance"))
SUBJECT = Path(__file__).with_name("subject.py")


@pytest.mark.skipif(not KIT.exists(), reason="the kit is not built")
@pytest.mark.parametrize("pool", ["threads", "asyncio", "processes"])
def test_all_scripts_for_workers_pass(pool):
    environment = {
        **os.environ,
        "CELERIAC_SUBJECT_POOL": pool,
        "PYTHONPATH": os.pathsep.join([str(SUBJECT.parent), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [KIT, "--role", "worker", sys.executable, str(SUBJECT)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed, 0 failed" in done.stdout
