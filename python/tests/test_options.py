"""Options of tasks: each reaches the message, and each wrong value is named."""

from __future__ import annotations

import math
import os
import pickle
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from celeriac import Celeriac, _codec
from celeriac.errors import InvalidArgument, WrongType
from celeriac.options import Backoff, Jitter, OnConflict, RetryPolicy, TaskOptions

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=timezone.utc)
NOON_MS = 1_780_315_200_000


def test_every_option_reaches_the_message() -> None:
    options = TaskOptions(
        task_id="user-1",
        queue="songs",
        shadow="cluster: Dynamite",
        priority=9,
        eta=NOON,
        expires=timedelta(days=1),
        result_ttl=0,
        max_attempts=3,
        retry=RetryPolicy(
            max_attempts=9,
            delay=1.5,
            backoff=Backoff.POLYNOMIAL,
            factor=3,
            delay_max=timedelta(minutes=1),
            jitter=Jitter.EQUAL,
        ),
        time_limit=60,
        soft_time_limit=0.25,
        max_deliveries=2,
        on_conflict="reject",
        tags=["a", "b"],
        headers={"traceparent": "00-1", "raw": b"\xff"},
        root_id="root",
        parent_id="parent",
        early_ack=True,
    )
    assert options.to_task("songs.cluster", b"[]", "application/x") == _codec.Task(
        id="user-1",
        name="songs.cluster",
        queue="songs",
        payload=b"[]",
        content_type="application/x",
        headers={"traceparent": b"00-1", "raw": b"\xff"},
        shadow="cluster: Dynamite",
        priority=9,
        eta_at_ms=NOON_MS,
        expires_in_ms=86_400_000,
        result_ttl_ms=0,
        retry=_codec.RetryPolicy(
            max_attempts=3, backoff=2, delay_ms=1500, factor=3.0, delay_max_ms=60_000, jitter=2
        ),
        soft_time_limit_ms=250,
        time_limit_ms=60_000,
        max_deliveries=2,
        on_conflict=OnConflict.REJECT.value,
        root_id="root",
        parent_id="parent",
        tags=["a", "b"],
        early_ack=True,
    )


def test_options_that_are_not_set_are_not_sent() -> None:
    assert TaskOptions().to_task("n", b"", task_id="a") == _codec.Task(id="a", name="n")
    assert TaskOptions().encode("n", b"", "", "a") == b'\n\x01a\x12\x01n"\x00'


def test_the_bytes_are_the_same_from_one_object_for_many_tasks() -> None:
    options = TaskOptions(queue="songs", expires=60)
    for name, content_type in [("a", ""), ("b", "x/y"), ("a", "x/y"), ("a", "")] * 2:
        for task_id, payload in [("1", b"x" * 300), ("é" * 100, b"")]:
            task = _codec.Task.decode(options.encode(name, payload, content_type, task_id))
            assert task == _codec.Task(
                id=task_id,
                name=name,
                queue="songs",
                payload=payload,
                content_type=content_type,
                expires_in_ms=60_000,
            )


def test_a_naive_datetime_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        seoul = TaskOptions(eta=datetime(2026, 6, 1, 21, 0), expires=datetime(2026, 6, 1, 21, 0))
        task = seoul.to_task("n")
        assert (task.eta_at_ms, task.expires_at_ms) == (NOON_MS, NOON_MS)
        aware = datetime(2026, 6, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
        assert TaskOptions(eta=aware).to_task("n").eta_at_ms == NOON_MS
    finally:
        monkeypatch.undo()
        time.tzset()
    assert os.environ.get("TZ") == before


WRONG: list[tuple[str, Any]] = [
    ("task_id", 5),
    ("queue", b"songs"),
    ("shadow", None),
    ("priority", True),
    ("priority", "9"),
    ("priority", 1.5),
    ("countdown", "5"),
    ("countdown", True),
    ("eta", 5),
    ("eta", "2026-01-01"),
    ("expires", "tomorrow"),
    ("result_ttl", [1]),
    ("max_attempts", 2.0),
    ("retry", {"max_attempts": 3}),
    ("time_limit", object()),
    ("on_conflict", 1),
    ("tags", "abc"),
    ("tags", 5),
    ("tags", [5]),
    ("headers", [("a", "b")]),
    ("headers", {"a": 5}),
    ("headers", {5: "a"}),
    ("root_id", 5),
    ("early_ack", "yes"),
]


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_a_wrong_type_is_named(option: str, value: Any) -> None:
    with pytest.raises(WrongType, match=option.rstrip("s")):
        TaskOptions(**{option: value})
    with pytest.raises(TypeError):
        TaskOptions(**{option: value})


BAD: list[tuple[str, Any]] = [
    ("task_id", ""),
    ("task_id", "x" * 256),
    ("task_id", "é" * 128),
    ("queue", "x" * 256),
    ("queue", "\ud800"),
    ("priority", -1),
    ("priority", 10),
    ("countdown", -1),
    ("countdown", -0.5),
    ("countdown", math.nan),
    ("countdown", math.inf),
    ("countdown", 10**400),
    ("countdown", timedelta(days=-1)),
    ("expires", timedelta.max),
    ("expires", datetime(1969, 12, 31, tzinfo=timezone.utc)),
    ("eta", datetime(1, 1, 1)),
    ("eta", datetime.max),
    ("result_ttl", 101 * 365 * 86_400),
    ("max_attempts", 0),
    ("max_attempts", 2**32),
    ("max_deliveries", 0),
    ("time_limit", 0),
    ("soft_time_limit", 0),
    ("on_conflict", "sometimes"),
    ("tags", ["x"] * 33),
    ("tags", [""]),
    ("headers", {"": "a"}),
    ("headers", {"a": "x" * 65_536}),
    ("headers", {str(i): "" for i in range(257)}),
    ("parent_id", "x" * 256),
]


@pytest.mark.parametrize(("option", "value"), BAD)
def test_a_value_out_of_bounds_is_named(option: str, value: Any) -> None:
    if option == "eta" and value == datetime.max:
        value = value.replace(tzinfo=timezone(timedelta(hours=-23)))
    with pytest.raises(InvalidArgument, match=option.rstrip("s")):
        TaskOptions(**{option: value})
    with pytest.raises(ValueError, match=option.rstrip("s")):
        TaskOptions(**{option: value})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"factor": -1}, "factor"),
        ({"factor": 1001}, "factor"),
        ({"factor": math.nan}, "factor"),
        ({"factor": "2"}, "factor"),
        ({"delay": -1}, "delay"),
        ({"delay_max": math.inf}, "delay_max"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"backoff": 1}, "backoff"),
        ({"jitter": "some"}, "jitter"),
    ],
)
def test_a_retry_policy_names_its_wrong_value(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        RetryPolicy(**settings)


def test_eta_and_countdown_exclude_each_other() -> None:
    with pytest.raises(InvalidArgument, match="countdown and eta"):
        TaskOptions(eta=NOON, countdown=5)


def test_an_option_that_does_not_exist_is_named() -> None:
    app = Celeriac()
    task = app.task(lambda: None, name="plain")
    for use in (
        lambda: task.apply_async(max_retries=3),
        lambda: app.send_task("plain", max_retries=3),
        lambda: app.task(name="other", max_retries=3)(print),
        lambda: TaskOptions().replace(max_retries=3),
    ):
        with pytest.raises(WrongType, match="there is no option 'max_retries' of a task"):
            use()


@pytest.mark.parametrize("args", [5, None, "text", b"bytes", {"a": 1}, {1, 2}])
def test_arguments_that_have_no_order_are_refused(args: Any) -> None:
    app = Celeriac()
    task = app.task(lambda *values: values, name="plain")
    for use in (lambda: task.submission(args), lambda: app.send_task("plain", args)):
        with pytest.raises(WrongType, match="arguments are a tuple or a list"):
            use()
    for named in ([1], "text", 5):
        with pytest.raises(WrongType, match="named arguments are a dict"):
            task.submission((), named)  # type: ignore[arg-type]


def test_arguments_may_come_from_a_generator() -> None:
    task = Celeriac().task(lambda *values: values, name="plain")
    assert task.submission(each for each in (1, 2)).payload == b"[[1,2],{}]"


def test_what_is_no_name_or_no_middleware_is_refused() -> None:
    app = Celeriac()
    for name in (5, "x" * 300, "\ud800"):
        with pytest.raises(InvalidArgument, match="name"):
            app.task(name=name)(print)  # type: ignore[call-overload]
    assert not app.tasks.keys() & {5, "x" * 300, "\ud800"}
    with pytest.raises(WrongType, match="middleware is a int"):
        Celeriac(middleware=[5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"queues": [5]}, "queues is a int"),
        ({"queues": {"": 1}}, "queues must have 1 to 255 bytes"),
        ({"grace": "soon"}, "grace is 'soon'"),
        ({"instance": "x" * 300}, "instance must have"),
        ({"modules": "songs"}, "modules is a text"),
        ({"start_method": "fork"}, "plain fork"),
    ],
)
def test_a_wrong_setting_of_a_worker_is_named(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        Celeriac().worker(**settings)


def test_a_short_span_is_not_lost() -> None:
    assert TaskOptions(countdown=1e-9).to_task("n").countdown_ms in (0, 1)
    assert TaskOptions(countdown=0.0001).to_task("n").countdown_ms == 1
    assert TaskOptions(countdown=0.1).to_task("n").countdown_ms == 100
    assert TaskOptions(countdown=timedelta(microseconds=1)).to_task("n").countdown_ms == 1


@pytest.mark.parametrize("payload", ["text", 5, None, [1]])
def test_a_payload_that_is_no_bytes_is_refused(payload: Any) -> None:
    with pytest.raises(WrongType, match="payload"):
        TaskOptions().encode("n", payload, "", "a")


def test_other_kinds_of_bytes_are_taken_as_a_payload() -> None:
    for payload in (bytearray(b"[]"), memoryview(b"[]")):
        data = TaskOptions().encode("n", payload, "", "a")  # type: ignore[arg-type]
        assert _codec.Task.decode(data).payload == b"[]"


@pytest.mark.parametrize("name", ["", "x" * 256, 5, None, "\ud800"])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="name"):
        TaskOptions().encode(name, b"", "", "a")


def test_options_are_copied_with_changes_and_over_processes() -> None:
    options = TaskOptions(queue="songs", tags=(word for word in "ab"), priority=3)
    changed = options.replace(priority=5)
    assert (changed.priority, changed.queue, tuple(changed.tags)) == (5, "songs", ("a", "b"))
    assert options.priority == 3
    copied = pickle.loads(pickle.dumps(options))
    assert copied == options
    assert copied.to_task("n") == options.to_task("n")
    with pytest.raises(TypeError):
        options.replace(unknown=1)
