"""When the reports of a worker's session leave."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from celeriac import _codec as wire
from celeriac.celery.session import Session
from celeriac.url import broker_url

WAIT = 30.0


class Line:
    """Refuses every request with a report on lease 2, and takes all others."""

    is_broken = False
    welcome = wire.Welcome(heartbeat_ms=3_600_000)

    def __init__(self):
        self.requests = []
        self.was_asked = threading.Event()

    def post(self, body, on_answer):
        leases = [report.lease for report in body.reports]
        self.requests.append(leases)
        refused = wire.Error(code=wire.ErrorCode.INVALID_ARGUMENT)
        on_answer(refused if 2 in leases else wire.ReportReply())
        self.was_asked.set()


@pytest.fixture
def session():
    made = Session(broker_url("celeriac://127.0.0.1:1"))
    made._line = Line()
    return made


def leased(session, lease):
    return session.add(wire.Delivery(id=f"task-{lease}", lease=lease))


def test_a_report_that_the_broker_cannot_take_costs_no_other(session):
    for lease in (1, 2, 3):
        session.end(leased(session, lease), wire.Complete())
    session.flush()
    assert session.line.requests == [[1, 2, 3], [1], [2], [3]]
    assert not session.runs
    assert not session.has_reports


def test_a_beginning_leaves_although_the_event_loop_sleeps(session):
    line, stopped = session.line, session._stopped
    beside = threading.Thread(target=session._beat, args=(line, stopped), daemon=True)
    beside.start()
    session.report(leased(session, 1), wire.Settle())
    assert line.was_asked.wait(WAIT)
    assert line.requests == [[1]]
    session._line = None
    session.close()
    beside.join(WAIT)
    assert not beside.is_alive()


def test_the_end_of_a_short_task_takes_the_place_of_its_beginning(session):
    run = leased(session, 1)
    session.report(run, wire.Settle())
    session.end(run, wire.Complete())
    session.flush()
    assert session.line.requests == [[1]]
    assert not session.runs
