"""Submits tasks in batches, and sends them again by rules of its own when an answer was lost.

Sent again unchanged, a batch would run those tasks twice that the broker accepted the first time
and that have ended since. So:

- A task whose id this package made is sent again with `REJECT`. When the broker then answers that
  the task exists, the first copy was accepted.
- For a task whose id the caller chose, the package asks the broker first. When that task was
  submitted or has ended since the first copy was sent, this counts as the answer.

Neither way sees a task that ended and was dropped at once, as with `result_ttl=0`. Such a task may
run twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from celeriac import _codec
from celeriac._calls import KEYS, Call
from celeriac._codec import SubmitOutcome, SubmitOutcomeKind
from celeriac._exchange import Exchange, error_of
from celeriac._flow import Flow, Step, opened
from celeriac._ids import make_id
from celeriac._protobuf import number
from celeriac._values import key
from celeriac._watching import is_ended, is_unknown
from celeriac.errors import (
    CeleriacError,
    DeadlineExceeded,
    Interrupted,
    PayloadTooLarge,
    ProtocolError,
    WrongType,
)
from celeriac.info import state_of
from celeriac.options import OnConflict, TaskOptions
from celeriac.submission import Submission, SubmitKind, Submitted

_BATCH_ITEMS = 1_000
"""The broker allows more tasks in a batch. Shorter batches keep both sides busy at once."""
_BATCH_BYTES = 1024 * 1024
"""So short a batch has fewer fields than a frame may have: each field has two bytes or more."""
_IN_FLIGHT = 8
"""So many batches are sent before the oldest must be answered."""
_REJECT = b"\x90\x01\x01"
"""The field on_conflict with REJECT. Where a number stands twice, the last one counts."""

_SUBMIT_KEY = KEYS[_codec.Submit]
_KINDS = {kind.value: kind for kind in SubmitKind}


class Batch:
    """The tasks of one request."""

    __slots__ = (
        "_first_ms",
        "_is_open",
        "call",
        "deadline",
        "minted",
        "size",
        "submitted",
        "tasks",
    )

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.tasks: list[bytes] = []
        self.submitted: list[Submitted] = []
        self.minted: list[bool] = []
        """Whether this package made the id."""
        self.size = 0
        self.call: Call | None = None
        self._first_ms = 0
        """When the first copy was sent, by the broker's clock; 0 as long as there is none."""
        self._is_open: list[int] = []
        """The places of the tasks that were sent last."""

    def add(self, task: bytes, submitted: Submitted, *, is_minted: bool) -> None:
        """Puts a task into the batch."""
        self.tasks.append(task)
        self.submitted.append(submitted)
        self.minted.append(is_minted)
        self.size += len(task)

    def is_full_for(self, size: int, items_max: int) -> bool:
        """Whether a task of this size belongs into the next batch."""
        count = len(self.tasks)
        return count > 0 and (count >= items_max or self.size + size > _BATCH_BYTES)

    def begin(self) -> Call:
        """The first request with these tasks."""
        self.call = _submit(self.tasks, self.deadline)
        return self.call

    def finish(self, exchange: Exchange) -> Flow[CeleriacError | None]:
        """Waits for the answer, and fills in the outcomes. The value is the error because of which
        none of the tasks has an outcome."""
        assert self.call is not None, "the batch has begun"
        self._is_open = list(range(len(self.tasks)))
        call = self.call
        while True:
            if not call.done:
                yield Step([], [call])
            if call.error is None:
                break
            if not isinstance(call.error, Interrupted):
                return self._fail(call.error)
            try:
                again = yield from self._again(exchange, call)
            except CeleriacError as error:
                return self._fail(error)
            if again is None:
                return None
            yield Step([again], [again])
            call = again
        outcomes = call.result(_codec.SubmitReply).outcomes
        if len(outcomes) != len(self._is_open):
            return self._fail(
                ProtocolError(f"{len(outcomes)} outcomes came for {len(self._is_open)} tasks")
            )
        yield from self._take(exchange, outcomes)
        return None

    def _fail(self, error: CeleriacError) -> CeleriacError:
        for place in self._is_open:
            self.submitted[place].error = error
        return error

    def _take(self, exchange: Exchange, outcomes: list[SubmitOutcome]) -> Flow[None]:
        """Fills in the outcomes of the tasks that were sent last."""
        exist = []
        for place, outcome in zip(self._is_open, outcomes, strict=True):
            submitted = self.submitted[place]
            kind = _KINDS.get(outcome.kind)
            if kind is not None:
                submitted.kind = kind
                submitted.generation = outcome.generation
                submitted.state = state_of(outcome.state)
            elif outcome.kind != SubmitOutcomeKind.REFUSED:
                submitted.error = ProtocolError(
                    f"the broker gave an outcome of the unknown kind {outcome.kind}; "
                    "ask for the state of the task"
                )
            else:
                error = outcome.error or _codec.Error()
                is_own = error.code == _codec.ErrorCode.TASK_EXISTS and self.minted[place]
                if is_own and self._first_ms:
                    exist.append(place)
                else:
                    submitted.error = error_of(error)
        present = yield from self._present(exist)
        for place in exist:
            info = present.get(self.submitted[place].id, _codec.TaskInfo())
            _accepted(self.submitted[place], SubmitKind.CREATED, info)

    def _again(self, exchange: Exchange, call: Call) -> Flow[Call | None]:
        """The next copy, without the tasks that the broker has; None when it has all."""
        self._first_ms = self._first_ms or call.sent_at_ms or 1
        chosen = [place for place in self._is_open if not self.minted[place]]
        present = yield from self._present(chosen)
        still_open = []
        for place in self._is_open:
            info = present.get(self.submitted[place].id)
            if info is None or not self._has_it(place, info):
                still_open.append(place)
        self._is_open = still_open
        if not still_open:
            return None
        tasks = [
            self.tasks[place] + _REJECT if self.minted[place] else self.tasks[place]
            for place in still_open
        ]
        if time.monotonic() >= self.deadline:
            raise DeadlineExceeded("the connection broke, and no time is left to submit again")
        return _submit(tasks, self.deadline)

    def _has_it(self, place: int, info: _codec.TaskInfo) -> bool:
        """Whether the broker's task is the one that the first copy made or joined."""
        on_conflict = _codec.Task.decode(self.tasks[place]).on_conflict
        if is_unknown(info) or on_conflict == OnConflict.REJECT.value:
            # Nobody can tell whose task it is, and to report one is the purpose of REJECT.
            return False
        if info.submitted_at_ms >= self._first_ms:
            is_first = info.generation <= 1
            kind = SubmitKind.CREATED if is_first else SubmitKind.NEW_GENERATION
        elif (
            on_conflict == OnConflict.RUN_AGAIN_IF_FINISHED.value
            and is_ended(info)
            and (info.finished_at_ms or 0) >= self._first_ms
        ):
            kind = SubmitKind.JOINED
        else:
            return False
        _accepted(self.submitted[place], kind, info)
        return True

    def _present(self, places: list[int]) -> Flow[dict[str, _codec.TaskInfo]]:
        """What the broker knows of these tasks."""
        found = {}
        ids = list(dict.fromkeys(self.submitted[place].id for place in places))
        while ids:
            call = Call.of(_codec.Get(ids=ids), self.deadline)
            yield Step([call], [call])
            reply = call.result(_codec.GetReply)
            if not reply.tasks:
                raise ProtocolError("the broker answered a Get without any task")
            found.update({info.id: info for info in reply.tasks})
            ids = [ids[place] for place in reply.left_out if place < len(ids)]
        return found


def _submit(tasks: list[bytes], deadline: float) -> Call:
    parts: list[bytes] = []
    for task in tasks:
        parts += (b"\n", number(len(task)), task)
    body = b"".join(parts)
    return Call(_codec.Submit, b"".join((_SUBMIT_KEY, number(len(body)), body)), deadline)


def _accepted(submitted: Submitted, kind: SubmitKind, info: _codec.TaskInfo) -> None:
    submitted.kind = kind
    submitted.generation = info.generation or 1
    submitted.state = state_of(info.state)


def encoded(
    exchange: Exchange,
    name: str,
    payload: bytes,
    options: TaskOptions,
    task_id: str | None,
    content_type: str,
) -> tuple[bytes, Submitted, bool]:
    """The bytes of one task, its outcome that is still to come, and whether its id was made
    here."""
    if task_id is None:
        task_id = options.task_id
    is_minted = task_id is None
    if task_id is None:
        task_id = make_id()
    elif task_id.__class__ is not str:
        task_id = str(key("task_id", task_id))
    data = options.encode(name, payload, content_type, task_id)
    if len(payload) > exchange.limits.payload_bytes_max:
        raise PayloadTooLarge(
            f"the payload has {len(payload)} bytes, "
            f"and the broker allows {exchange.limits.payload_bytes_max}"
        )
    return data, Submitted(task_id), is_minted


def submit_one(batch: Batch, exchange: Exchange) -> Flow[Submitted]:
    """Submits a batch of one task."""
    call = batch.begin()
    yield Step([call], [call])
    yield from batch.finish(exchange)
    submitted = batch.submitted[0]
    if submitted.error is not None:
        raise submitted.error
    return submitted


def submit_many(
    exchange: Exchange, submissions: Iterable[Submission], timeout: float
) -> Flow[list[Submitted | CeleriacError]]:
    """Submits tasks in batches. The value has an outcome for each task, in order."""
    outcomes: list[Submitted | CeleriacError] = []
    begun: list[Batch] = []
    failures: list[CeleriacError | None] = []
    yield from opened(exchange, time.monotonic() + timeout)
    items_max = min(exchange.limits.batch_items_max, _BATCH_ITEMS)
    batch = Batch(time.monotonic() + timeout)
    for submission in submissions:
        try:
            name, payload, options, task_id, content_type = _checked(submission)
            data, submitted, is_minted = encoded(
                exchange, name, payload, options, task_id, content_type
            )
        except CeleriacError as error:
            outcomes.append(error)
            continue
        if batch.is_full_for(len(data), items_max):
            yield Step([batch.begin()], [])
            begun.append(batch)
            if len(begun) >= _IN_FLIGHT:
                failures.append((yield from begun.pop(0).finish(exchange)))
            batch = Batch(time.monotonic() + timeout)
        batch.add(data, submitted, is_minted=is_minted)
        outcomes.append(submitted)
    if batch.tasks:
        batch.deadline = time.monotonic() + timeout
        yield Step([batch.begin()], [])
        begun.append(batch)
    for each in begun:
        failures.append((yield from each.finish(exchange)))
    if failures and all(failures):
        # Nothing was submitted: the caller gets the error in place of a list of refusals.
        raise failures[-1] or ProtocolError("no task was submitted")
    return [
        outcome.error if isinstance(outcome, Submitted) and outcome.error else outcome
        for outcome in outcomes
    ]


def _checked(submission: Submission) -> Submission:
    if not isinstance(submission, Submission):
        raise WrongType(f"a {type(submission).__name__} is no Submission")
    if not isinstance(submission.options, TaskOptions):
        raise WrongType(f"options is a {type(submission.options).__name__}; it must be TaskOptions")
    return submission
