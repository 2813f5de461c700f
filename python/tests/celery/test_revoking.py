"""Revokes with no worker up, and reports that the broker refuses together."""

from __future__ import annotations

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celeriac import _codec as wire
from celeriac.celery.session import Run, Session
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


class Line:
    """Refuses every request with the report of one lease, and takes all others."""

    is_broken = False

    def __init__(self):
        self.requests = []

    def post(self, body, on_answer):
        leases = [report.lease for report in body.reports]
        self.requests.append(leases)
        refused = wire.Error(code=wire.ErrorCode.INVALID_ARGUMENT)
        on_answer(refused if 2 in leases else wire.ReportReply())


def test_a_report_that_the_broker_cannot_take_costs_no_other():
    session = Session(broker_url("celeriac://127.0.0.1:1"))
    session._line = line = Line()
    for lease in (1, 2, 3):
        run = session.add(wire.Delivery(id=f"task-{lease}", lease=lease))
        assert isinstance(run, Run)
        session.end(run, wire.Complete())
    session.flush()
    assert line.requests == [[1, 2, 3], [1], [2], [3]]
    assert not session.runs
    assert not session.has_reports
