"""Revokes with no worker up, and revokes that a worker reads late."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celeriac import _codec as wire
from celeriac.cancel import CancelKind
from celeriac.celery.envelope import Raw
from celeriac.celery.revoking import with_ended, without_later_runs
from celeriac.celery.session import Session, sessions
from celeriac.url import broker_url

QUEUE = "nobody-serves-it"


def send(app, user):
    stamps = {"stamps": {"user": [user]}, "stamped_headers": ["user"]}
    return app.send_task("nobody.knows", queue=QUEUE, headers=stamps)


def test_a_revoke_by_a_stamp_needs_no_worker(apps):
    named, other = send(apps.app, "7"), send(apps.app, "8")
    apps.app.control.revoke_by_stamped_headers({"user": "7"})
    assert (named.state, other.state) == ("REVOKED", "PENDING")
    apps.app.control.revoke_by_stamped_headers({"user": ["8", "9"]})
    assert other.state == "REVOKED"


def test_a_revoke_for_one_worker_is_left_to_it(apps):
    result = send(apps.app, "10")
    apps.app.control.revoke(result.id, destination=["elsewhere@host"])
    assert result.state == "PENDING"
    result.revoke()
    assert result.state == "REVOKED"


@pytest.mark.parametrize(("generation", "left"), [(1, ["token"]), (2, [])])
def test_a_late_revoke_does_not_hit_the_next_run_of_the_id(generation, left):
    """The broker had revoked the run before, and this worker has got the next one meanwhile."""
    session = Session(broker_url("celeriac://127.0.0.1:1"))
    sessions._all.add(session)
    session.add(wire.Delivery(id="token", lease=7, generation=generation))
    command = {"method": "revoke", "arguments": {"task_id": ["token"], "terminate": True}}
    raw = Raw(json.dumps(command).encode(), "application/json", "utf-8", {}, {})
    outcome = wire.CancelOutcome(id="token", kind=CancelKind.REVOKED.value)
    read = without_later_runs(with_ended(raw, [wire.CancelReply(outcomes=[outcome])]))
    assert json.loads(read.body)["arguments"]["task_id"] == left
    # A run that the broker has left to its worker is for the worker to revoke.
    assert without_later_runs(with_ended(raw, [wire.CancelReply()])) == raw
