"""Errors: one class for each code, all below `CeleriacError`, and whole after a copy."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import timedelta

import pytest

from celeriac import _codec, errors
from celeriac.errors import BrokerError, CeleriacError, TaskNotEnded

CLASSES = [
    each
    for each in vars(errors).values()
    if inspect.isclass(each) and issubclass(each, Exception) and each.__module__ == errors.__name__
]

EXAMPLES: list[CeleriacError] = [
    errors.InvalidUrl("no host"),
    errors.ConnectError("refused"),
    BrokerError.of(15, "full", True, 1500),
    BrokerError.of(1000, "later"),
    errors.DeadlineExceeded("no answer"),
    errors.WrongType("priority is a str"),
    errors.BatchFailed([("a", errors.QueueFull("full")), ("b", errors.TaskExists("there"))]),
    errors.TaskFailed("a", "ValueError", "no", "Traceback", 3),
    errors.TaskRevoked("a", "expired"),
    errors.TaskUnknown("a"),
    errors.TaskNotEnded("a", "STARTED", 1.5),
]


def test_every_error_is_below_one_class_and_says_what_it_is() -> None:
    assert len(CLASSES) > 30
    for each in CLASSES:
        assert issubclass(each, CeleriacError), each
        assert isinstance(each.retryable, bool), each
        assert inspect.getdoc(each), each


def test_every_code_of_the_protocol_has_a_class_of_its_own() -> None:
    codes = {int(code) for code in _codec.ErrorCode} - {0}
    assert set(BrokerError.by_code) == codes
    assert len({BrokerError.by_code[code] for code in codes}) == len(codes)


@pytest.mark.parametrize("error", EXAMPLES, ids=[type(each).__name__ for each in EXAMPLES])
def test_an_error_is_whole_after_a_copy(error: CeleriacError) -> None:
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(copied) is type(error)
        assert str(copied) == str(error)
        assert copied.args == error.args
        assert copied.retryable == error.retryable
        mine, theirs = dict(vars(error)), dict(vars(copied))
        # The failures of a batch are errors, which are equal only to themselves.
        assert str(mine.pop("failures", "")) == str(theirs.pop("failures", ""))
        assert mine == theirs


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.ConnectError(""), ConnectionError),
        (errors.DeadlineExceeded(""), TimeoutError),
        (errors.TaskNotEnded("a", "QUEUED", 1), TimeoutError),
        (errors.InvalidArgument(""), ValueError),
        (errors.WrongType(""), TypeError),
        (errors.NotFound(""), LookupError),
        (errors.InvalidUrl(""), ValueError),
    ],
)
def test_errors_are_also_of_pythons_own_kinds(error: Exception, kind: type[Exception]) -> None:
    assert isinstance(error, kind)
    assert isinstance(error, CeleriacError)


def test_a_failed_batch_may_be_tried_again_when_all_of_its_failures_may() -> None:
    full, exists = errors.QueueFull("full"), errors.TaskExists("there")
    assert errors.BatchFailed([("a", full)]).retryable
    assert not errors.BatchFailed([("a", full), ("b", exists)]).retryable
    assert "2 tasks" in str(errors.BatchFailed([("a", full), ("b", exists)]))


def test_a_wait_may_have_its_time_as_a_timedelta() -> None:
    error = TaskNotEnded("task-1", "QUEUED", timedelta(milliseconds=1500))
    assert str(error) == "the task 'task-1' is QUEUED after 1.5 s"
