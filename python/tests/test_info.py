"""What the broker tells of tasks, queues and workers, as Python shows it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from celeriac import _codec, _hello
from celeriac.info import STATES, State, WaitingFor, info_of, state_of
from celeriac.listing import broker_of, queue_of, worker_of
from celeriac.url import BrokerUrl

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=timezone.utc)
NOON_MS = 1_780_315_200_000


def test_the_states_are_those_of_the_protocol() -> None:
    assert [state.name for state in STATES] == [state.name for state in _codec.TaskState]
    assert [int(state) for state in _codec.TaskState] == list(range(len(STATES)))
    assert [each.name for each in WaitingFor] == [each.name for each in _codec.WaitingFor]
    assert {state for state in STATES if state.is_ended} == {"SUCCESS", "FAILURE", "REVOKED"}
    assert f"{State.QUEUED}" == "QUEUED" == str(State.QUEUED)


@pytest.mark.parametrize("number", [-1, 9, 1000, 2**31 - 1])
def test_a_state_of_a_later_protocol_counts_as_unknown(number: int) -> None:
    assert state_of(number) is State.UNKNOWN
    info = info_of(_codec.TaskInfo(id="a", state=number, waiting_for=number, generation=1))
    assert info.state is State.UNKNOWN
    assert info.waiting_for is WaitingFor.NOTHING


def test_everything_of_a_task_is_shown() -> None:
    wire = _codec.TaskInfo(
        id="a",
        state=7,
        generation=2,
        version=9,
        submitted_at_ms=NOON_MS,
        eta_at_ms=0,
        finished_at_ms=NOON_MS + 1,
        progress=_codec.Progress(state="HALF", meta=b"0.5", at_ms=NOON_MS),
        errors=[
            _codec.TaskError(kind="OSError", message="first", attempt=1),
            _codec.TaskError(kind="ValueError", message="last", at_ms=NOON_MS, attempt=2),
        ],
        tags=["t"],
        headers={"h": b"v"},
    )
    info = info_of(wire)
    assert (info.state, info.generation, info.version) == (State.FAILURE, 2, 9)
    assert info.submitted_at == NOON
    assert info.eta == datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert info.finished_at == NOON + timedelta(milliseconds=1)
    assert info.started_at is None
    assert info.progress is not None
    assert (info.progress.state, info.progress.meta, info.progress.at) == ("HALF", b"0.5", NOON)
    assert info.error is not None
    assert (info.error.kind, info.error.at, info.error.attempt) == ("ValueError", NOON, 2)
    assert info.errors[0].at is None
    assert (info.tags, info.headers) == (("t",), {"h": b"v"})
    names = set(_codec.TaskInfo.__slots__)
    shown = {name.replace("_at_ms", "_at") for name in names}
    assert {each for each in shown if not hasattr(info, each)} == {"eta_at"}


def test_an_error_says_where_its_attempt_ran() -> None:
    there = _codec.TaskError(leased_at_ms=NOON_MS, started_at_ms=NOON_MS, worker="w")
    wire = _codec.TaskInfo(
        id="a",
        errors=[there, _codec.TaskError()],
        cancel_requested=True,
        cancel_requested_at_ms=NOON_MS,
        deliveries_max=20,
    )
    info = info_of(wire)
    assert (info.cancel_requested_at, info.deliveries_max) == (NOON, 20)
    ran, nowhere = info.errors
    assert (ran.leased_at, ran.started_at, ran.worker) == (NOON, NOON, "w")
    assert (nowhere.leased_at, nowhere.started_at, nowhere.worker) == (None, None, "")


def test_a_time_that_python_cannot_show_is_no_error() -> None:
    info = info_of(_codec.TaskInfo(id="a", state=6, generation=1, finished_at_ms=2**62))
    assert info.finished_at is None
    queue = queue_of(_codec.QueueInfo(name="q", oldest_ready_ms=2**63))
    assert queue.oldest_ready > timedelta(days=36_000)


def test_a_worker_is_shown() -> None:
    wire = _codec.WorkerStatus(instance_id="w", queues=["q"], connected_at_ms=NOON_MS, lost=True)
    worker = worker_of(wire)
    assert (worker.instance_id, worker.queues, worker.lost) == ("w", ("q",), True)
    assert worker.connected_at == NOON
    assert worker.seen_at is None


def test_a_broker_is_shown_with_every_field_and_without_what_its_system_does_not_tell() -> None:
    wire = _codec.BrokerInfo(
        server_version="0.1.0",
        started_at_ms=NOON_MS,
        uptime_ms=2**63,
        memory_bytes=0,
        tasks=_codec.TaskCounts(ready=3),
        data=_codec.DataUsage(disk_low_bytes=7, disk_is_low=True, usable_bytes=5),
        limits=_codec.Limits(credit_max=5),
        result_ttl_ms=1_500,
    )
    broker = broker_of(wire)
    assert (broker.version, broker.started_at, broker.ready) == ("0.1.0", NOON, 3)
    assert broker.uptime > timedelta(days=36_000)
    assert broker.memory_bytes == 0
    assert broker.data is not None
    assert (broker.data.disk_low_bytes, broker.data.disk_is_low) == (7, True)
    assert broker.data.usable_bytes == 5
    silent = broker_of(
        _codec.BrokerInfo(data=_codec.DataUsage(disk_free_bytes=3, reusable_bytes=4))
    )
    assert silent.data is not None
    assert silent.data.usable_bytes == 7
    assert (broker.limits.credit_max, broker.limits.result_ttl) == (5, timedelta(seconds=1.5))
    for shown, messages in (
        (broker, (_codec.BrokerInfo, _codec.TaskCounts)),
        (broker.data, (_codec.DataUsage,)),
        (broker.limits, (_codec.Limits,)),
    ):
        for name in (name for message in messages for name in message.__slots__):
            as_shown = name.removeprefix("server_").replace("_at_ms", "_at").removesuffix("_ms")
            in_limits = hasattr(broker.limits, as_shown)
            assert as_shown == "tasks" or hasattr(shown, as_shown) or in_limits, name
    nothing = broker_of(_codec.BrokerInfo())
    assert (nothing.memory_bytes, nothing.data, nothing.started_at) == (None, None, None)


def test_an_instance_has_a_name_that_the_protocol_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("host", "x" * 400, "ü" * 200, ""):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        name = _hello.instance_name()
        assert 0 < len(name.encode()) <= 255
        assert name != _hello.instance_name()
    hello = _hello.hello_of(BrokerUrl("h", 1, "s3cret"), "mine")()
    assert (hello.instance_id, hello.token, hello.protocol_max) == ("mine", "s3cret", 1)
    assert hello.client_name
    with pytest.raises(ValueError, match="instance"):
        _hello.hello_of(BrokerUrl("h"), "x" * 256)
