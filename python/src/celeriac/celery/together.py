"""Groups of Celery: their members leave one after another, and the answers come together.

Celery publishes the members of a group one by one. Within a group a publish does not wait for its
answer; the end of the group waits for all of them. So the group is stored when its call returns, as
before, and a refusal of a member is raised by a later publish or by the end of the group.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.exceptions import OperationalError

from celeriac.celery.faults import CONNECTION_ERRORS
from celeriac.celery.pipeline import Pipeline


class _Local(threading.local):
    """The pipelines of the group that this thread publishes."""

    pipelines: dict[Any, Pipeline] | None = None


_local = _Local()


def pipeline_for(connection: Any) -> Pipeline | None:
    """The pipeline through which this thread publishes on a connection, if it does not wait for
    each answer."""
    own: Pipeline | None = connection.pipeline
    pipelines = _local.pipelines
    if own is not None or pipelines is None:
        return own
    if connection not in pipelines:
        made = Pipeline(connection)
        _take_over(made, pipelines)
        pipelines[connection] = made
    return pipelines[connection]


def _take_over(pipeline: Pipeline, pipelines: dict[Any, Pipeline]) -> None:
    """What was not confirmed before another connection was lost is sent again on this one."""
    for connection, other in pipelines.items():
        if connection.line.is_broken and other is not pipeline:
            pipeline.take_over(other)


@contextmanager
def together() -> Iterator[None]:
    """What this thread publishes within this block is stored when the block ends."""
    if _local.pipelines is not None:
        # A group within a group.
        yield
        return
    pipelines = _local.pipelines = {}
    try:
        yield
    except BaseException:
        _local.pipelines = None
        with contextlib.suppress(Exception):
            _flush(pipelines)
        raise
    _local.pipelines = None
    _flush(pipelines)


def _flush(pipelines: dict[Any, Pipeline]) -> None:
    try:
        if pipelines:
            _take_over(list(pipelines.values())[-1], pipelines)
        for pipeline in pipelines.values():
            pipeline.flush()
    except CONNECTION_ERRORS as error:
        # No publish is under way, for which kombu would make this error.
        raise OperationalError(str(error)) from error
    finally:
        for connection, pipeline in pipelines.items():
            connection.pipelines.remove(pipeline)


def install() -> None:
    """Lets the groups of Celery publish in this way."""
    canvas: Any = sys.modules.get("celery.canvas")
    original = getattr(getattr(canvas, "group", None), "_apply_tasks", None)
    if original is None or getattr(original, "is_celeriac", False):
        return

    def _apply_tasks(self: Any, *args: Any, **options: Any) -> Iterator[Any]:
        with together():
            yield from original(self, *args, **options)

    _apply_tasks.is_celeriac = True  # type: ignore[attr-defined]
    canvas.group._apply_tasks = _apply_tasks
