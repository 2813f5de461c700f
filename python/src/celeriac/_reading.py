"""The flows of the calls that read, wait, cancel and forget. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from celeriac import _codec
from celeriac._calls import Call
from celeriac._exchange import Exchange
from celeriac._flow import Flow, Step, ask, opened, parts
from celeriac._values import span_ms
from celeriac.cancel import CancelKind, Cancelled, CancelMode
from celeriac.errors import BrokerError, CeleriacError, InvalidArgument, ProtocolError
from celeriac.info import STATES, State, TaskInfo, info_of
from celeriac.waiting import Waited, WaitMode

_WAIT_MARGIN = 1.0
"""How much longer than its own time a Wait has for its answer, which comes at the end of it."""
_KINDS = {kind.value: kind for kind in CancelKind}


def get(
    exchange: Exchange,
    ids: Sequence[str],
    timeout: float,
    *,
    with_results: bool = False,
    with_payloads: bool = False,
) -> Flow[list[TaskInfo]]:
    """What the broker knows of these tasks, in their order."""
    if not ids:
        return []
    deadline = time.monotonic() + timeout
    yield from opened(exchange, deadline)
    found = []
    for part in parts(ids, exchange.limits.batch_items_max):
        found += yield from _get(part, deadline, with_results, with_payloads)
    return [info_of(info) for info in found]


def _get(
    ids: Sequence[str], deadline: float, with_results: bool, with_payloads: bool
) -> Flow[list[_codec.TaskInfo]]:
    found: dict[int, _codec.TaskInfo] = {}
    places = list(range(len(ids)))
    while places:
        body = _codec.Get(
            ids=[ids[place] for place in places],
            with_results=with_results,
            with_payloads=with_payloads,
        )
        reply = yield from ask(body, _codec.GetReply, deadline)
        places = _match(places, reply.tasks, reply.left_out, found)
    return [found[place] for place in range(len(ids))]


def _match(
    places: list[int],
    tasks: list[_codec.TaskInfo],
    left_out: list[int],
    found: dict[int, _codec.TaskInfo],
) -> list[int]:
    """Puts the tasks of an answer into their places. The value is the places that it left out."""
    missing = set(left_out)
    present = [place for at, place in enumerate(places) if at not in missing]
    if len(present) != len(tasks) or not present:
        raise ProtocolError(f"{len(tasks)} tasks came for {len(places)} ids")
    found.update(zip(present, tasks, strict=True))
    return [place for at, place in enumerate(places) if at in missing]


def wait(
    exchange: Exchange,
    ids: Sequence[str],
    seconds: float,
    timeout: float,
    *,
    mode: WaitMode,
    until: State,
    with_results: bool,
) -> Flow[Waited]:
    """Waits until the tasks have reached a state."""
    if not ids:
        return Waited(True, [])
    began = time.monotonic()
    waits_until = began + seconds
    deadline = waits_until + _WAIT_MARGIN
    yield from opened(exchange, waits_until + 0.5)
    size = exchange.limits.batch_items_max
    if mode is WaitMode.ANY and len(ids) > size:
        raise InvalidArgument(f"one wait for any of {len(ids)} tasks; {size} are allowed")
    if not isinstance(until, State):
        raise InvalidArgument(f"until is {until!r}; it must be a State")
    calls = []
    for part in parts(ids, size):
        body = _codec.Wait(
            ids=list(part), mode=mode.value, until=STATES.index(until), with_results=with_results
        )
        calls.append(Call.of(body, deadline, waits_until=waits_until))
    yield Step(calls, calls)
    satisfied = True
    tasks = []
    for part, call in zip(parts(ids, size), calls, strict=True):
        reply = call.result(_codec.WaitReply)
        satisfied &= reply.satisfied
        found: dict[int, _codec.TaskInfo] = {}
        left = _match(list(range(len(part))), reply.tasks, reply.left_out, found)
        rest_by = time.monotonic() + timeout
        rest = yield from _get([part[place] for place in left], rest_by, with_results, False)
        found.update(zip(left, rest, strict=True))
        tasks += [info_of(found[place]) for place in range(len(part))]
    return Waited(satisfied, tasks)


def cancel(
    exchange: Exchange,
    selected: Sequence[str] | _codec.Cancel,
    timeout: float,
    *,
    mode: CancelMode,
    grace: float | None,
    reason: str,
) -> Flow[list[Cancelled]]:
    """Cancels the tasks of these ids, or those that the request selects."""
    deadline = time.monotonic() + timeout
    grace_ms = span_ms("grace", grace)
    if not isinstance(mode, CancelMode):
        raise InvalidArgument(f"mode is {mode!r}; it must be a CancelMode")
    bodies = [selected] if isinstance(selected, _codec.Cancel) else []
    if not isinstance(selected, _codec.Cancel):
        if not selected:
            return []
        yield from opened(exchange, deadline)
        for part in parts(selected, exchange.limits.batch_items_max):
            bodies.append(_codec.Cancel(ids=list(part)))
    calls = []
    for body in bodies:
        body.mode, body.grace_ms, body.reason = mode.value, grace_ms, reason
        calls.append(Call.of(body, deadline))
    yield Step(calls, calls)
    outcomes = []
    for body, call in zip(bodies, calls, strict=True):
        given = call.result(_codec.CancelReply).outcomes
        if body.ids and len(given) != len(body.ids):
            raise ProtocolError(f"{len(given)} outcomes came for {len(body.ids)} ids")
        for place, outcome in enumerate(given):
            task_id = body.ids[place] if body.ids else outcome.id
            kind = _KINDS.get(outcome.kind, CancelKind.UNSPECIFIED)
            outcomes.append(Cancelled(task_id, kind))
    return outcomes


def forget(
    exchange: Exchange, ids: Sequence[str], timeout: float
) -> Flow[list[CeleriacError | None]]:
    """Drops ended tasks."""
    if not ids:
        return []
    deadline = time.monotonic() + timeout
    yield from opened(exchange, deadline)
    outcomes: list[CeleriacError | None] = []
    for part in parts(ids, exchange.limits.batch_items_max):
        reply = yield from ask(_codec.Forget(ids=list(part)), _codec.ForgetReply, deadline)
        if len(reply.outcomes) != len(part):
            raise ProtocolError(f"{len(reply.outcomes)} outcomes came for {len(part)} ids")
        outcomes += [
            _refusal(task_id, code) for task_id, code in zip(part, reply.outcomes, strict=True)
        ]
    return outcomes


def _refusal(task_id: str, code: int) -> CeleriacError | None:
    if not code:
        return None
    reasons = {
        int(_codec.ErrorCode.NOT_FINISHED): "has not ended",
        int(_codec.ErrorCode.NOT_FOUND): "does not exist",
    }
    return BrokerError.of(code, f"the task {task_id!r} {reasons.get(code, 'was not dropped')}")


def watch_deadline(timeout: float | None) -> float:
    """When a watch ends whose caller gave a time, or none."""
    return math.inf if timeout is None else time.monotonic() + timeout
