"""Submits at the commit of a transaction."""

from __future__ import annotations

import pytest
from catalog.tasks import shout
from django.db import connection, transaction

from celeriac import State
from celeriac.errors import WrongType
from celeriac.submission import SubmitKind


def test_without_a_transaction_the_submit_happens_at_once(app):
    result = shout.delay_on_commit("hey")
    assert result.state is State.QUEUED
    assert result.submitted.kind is SubmitKind.CREATED


def test_within_a_transaction_the_submit_waits_for_the_commit(app):
    with transaction.atomic():
        with transaction.atomic():
            result = shout.delay_on_commit("hey")
        assert result.id
        assert result.state is State.UNKNOWN
        assert result.submitted is None
    assert result.state is State.QUEUED


def test_after_a_rollback_nothing_is_submitted(app):
    with transaction.atomic():
        result = shout.delay_on_commit("hey")
        transaction.set_rollback(True)
    assert result.state is State.UNKNOWN


def test_the_caller_chooses_id_and_options(app):
    with transaction.atomic():
        result = shout.apply_async_on_commit(
            ("hey",), task_id="token-of-the-commit", shadow="shout: hey", using="default"
        )
    assert result.id == "token-of-the-commit"
    assert result.info().shadow == "shout: hey"


def test_wrong_arguments_are_refused_before_the_commit(app):
    with transaction.atomic():
        with pytest.raises(WrongType):
            shout.delay_on_commit()
        assert connection.run_on_commit == []


def test_an_error_of_the_submit_is_raised_unless_it_is_robust(app, monkeypatch):
    def refuse(*_):
        raise ConnectionError("no broker")

    monkeypatch.setattr(app, "submit", refuse)
    with pytest.raises(ConnectionError), transaction.atomic():
        shout.delay_on_commit("hey")
    with transaction.atomic():
        result = shout.apply_async_on_commit(("hey",), robust=True)
    assert result.submitted is None
