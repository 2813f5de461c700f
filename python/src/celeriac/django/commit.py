"""Submits a task when the present transaction is committed."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from celeriac._ids import make_id
from celeriac.result import Result
from celeriac.submission import Submission
from celeriac.task import Task


def submit_on_commit(
    task: Task[..., Any], submission: Submission, *, using: str | None, robust: bool
) -> Result:
    """Submits what `task.submission` made, at the commit. The result has the id from the start, and
    its `submitted` after the submit."""
    task_id = submission.task_id or make_id()
    result = Result(task_id, task.app)

    def submit() -> None:
        done = task.app.submit(submission._replace(task_id=task_id), task.codec)
        result.submitted = done.submitted

    transaction.on_commit(submit, using=using, robust=robust)
    return result
