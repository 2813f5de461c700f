"""A plugin of pytest: writes one line of JSON for each test, with its last outcome."""

import json
import os
from collections import Counter

FILE = os.environ["OUTCOMES"]

_rows = {}
_seconds = Counter()
_reruns = Counter()


def _is_subtest(report):
    return type(report).__name__ == "SubtestReport"


def _outcome_of(report):
    """The outcome that this report means for the test; None when it means none."""
    if _is_subtest(report):
        return "failed" if report.failed else None
    if hasattr(report, "wasxfail"):
        if report.skipped:
            return "xfailed"
        return "xpassed" if report.when == "call" else None
    if report.failed:
        return "failed" if report.when == "call" else "error"
    if report.skipped:
        return "skipped"
    return "passed" if report.when == "call" else None


def _reason_of(report):
    told = report.longrepr
    text = str(told[2] if isinstance(told, tuple) else told or "")
    return text[-600:]


def pytest_runtest_logreport(report):
    name = report.nodeid
    if not _is_subtest(report):
        _seconds[name] += report.duration
    if report.outcome == "rerun":
        _reruns[name] += 1
        _rows.pop(name, None)
        return
    outcome = _outcome_of(report)
    # What a subtest or the call has failed stays failed, whatever the teardown says.
    if outcome is None or (_rows.get(name, {}).get("outcome") == "failed" and not report.failed):
        return
    if not (outcome == "error" and name in _rows and _rows[name]["outcome"] == "failed"):
        _rows[name] = {"outcome": outcome, "reason": _reason_of(report)}


def pytest_sessionfinish():
    with open(FILE, "w") as file:
        for name, row in _rows.items():
            row.update(id=name, seconds=round(_seconds[name], 3), reruns=_reruns[name])
            file.write(json.dumps(row) + "\n")
