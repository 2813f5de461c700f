"""The tasks of one block of `batch()`: they are sent in batches, and their answers are awaited
later. No I/O."""

from __future__ import annotations

import time

from celeriac._exchange import Exchange
from celeriac._flow import Flow, Step
from celeriac._submitting import Batch
from celeriac.errors import BatchFailed, CeleriacError
from celeriac.submission import Submitted

_ITEMS = 100
"""So many tasks are sent together."""
_IN_FLIGHT = 16
"""So many batches are sent before the oldest must be answered."""


class Pipeline:
    """Collects tasks and sends them."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._batch = Batch(0.0)
        self._begun: list[Batch] = []
        self._failures: list[tuple[str, CeleriacError]] = []

    def add(
        self, exchange: Exchange, data: bytes, submitted: Submitted, *, is_minted: bool
    ) -> Flow[None]:
        """Takes one task, and sends the tasks before it when there are enough of them."""
        if self._batch.is_full_for(len(data), min(_ITEMS, exchange.limits.batch_items_max)):
            yield from self._send(exchange)
        self._batch.add(data, submitted, is_minted=is_minted)

    def flush(self, exchange: Exchange) -> Flow[None]:
        """Sends what is left, and waits for all answers. Raises `BatchFailed`."""
        if self._batch.tasks:
            yield from self._send(exchange)
        while self._begun:
            yield from self._finish(exchange)
        failures, self._failures = self._failures, []
        if failures:
            raise BatchFailed(failures)

    def _send(self, exchange: Exchange) -> Flow[None]:
        batch, self._batch = self._batch, Batch(0.0)
        batch.deadline = time.monotonic() + self._timeout
        self._begun.append(batch)
        yield Step([batch.begin()], [])
        while len(self._begun) > _IN_FLIGHT:
            yield from self._finish(exchange)

    def _finish(self, exchange: Exchange) -> Flow[None]:
        batch = self._begun.pop(0)
        yield from batch.finish(exchange)
        for submitted in batch.submitted:
            if submitted.error is not None:
                self._failures.append((submitted.id, submitted.error))
