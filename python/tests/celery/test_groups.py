"""Groups leave without a wait for each member, and are stored when the call returns."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

from kombu.exceptions import OperationalError

from celeriac import _codec as wire
from celeriac.admin import QueueSettings
from celeriac.celery import together
from celeriac.celery.line import Line
from celeriac.client import Client
from celeriac.scratch_broker import ScratchBroker
from celery import chord, group

POLICY = {"max_retries": 100, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5}


def states_of(broker, results):
    with Client(broker.url) as client:
        infos = client.info([result.id for result in results.results])
    return {(info.state.name, info.generation) for info in infos}


def members(apps, count, queue):
    return [apps.add.s(number, number).set(queue=queue) for number in range(count)]


@pytest.fixture
def waited(monkeypatch):
    """The requests for which a caller has waited."""
    seen, call = [], Line.call

    def noting(self, body, *args, **options):
        seen.append(type(body))
        return call(self, body, *args, **options)

    monkeypatch.setattr(Line, "call", noting)
    return seen


def test_no_member_waits_for_an_answer(apps, quick_broker, waited):
    apps.add.apply_async((1, 1), queue="group")
    assert waited.count(wire.Submit) == 1
    results = group(members(apps, 1500, "group"))()
    assert waited.count(wire.Submit) == 1
    assert states_of(quick_broker, results) == {("QUEUED", 1)}
    # After the group each publish waits again.
    apps.add.apply_async((1, 1), queue="group")
    assert waited.count(wire.Submit) == 2


def test_groups_within_groups_and_generators(apps, quick_broker):
    inner = chord(members(apps, 20, "group"), apps.total.s().set(queue="group"))
    outer = group([inner, *members(apps, 20, "group")])()
    assert states_of(quick_broker, outer.results[0].parent) == {("QUEUED", 1)}
    lazy = group(each for each in members(apps, 20, "group"))()
    assert states_of(quick_broker, lazy) == {("QUEUED", 1)}


def test_a_group_through_a_batch_of_kombu(apps, quick_broker, waited):
    with apps.app.producer_pool.acquire(block=True) as producer:
        if not hasattr(producer, "batch"):
            pytest.skip("kombu before 5.7 has no batches")
        with producer.batch(100):
            results = group(members(apps, 250, "batch")).apply_async(producer=producer)
    assert wire.Submit not in waited
    assert states_of(quick_broker, results) == {("QUEUED", 1)}


def test_a_refused_member_fails_the_call(apps, quick_broker):
    with Client(quick_broker.url) as client:
        client.admin.configure_queue("narrow", QueueSettings(tasks_max=3))
    with pytest.raises(OperationalError, match="narrow"):
        group(members(apps, 10, "narrow"))()
    assert together._local.pipelines is None
    assert apps.add.apply_async((1, 1), queue="group").state == "PENDING"


def test_a_restart_of_the_broker_in_the_middle_loses_no_member_and_doubles_none(
    apps, quick_broker, monkeypatch
):
    monkeypatch.setitem(apps.app.conf, "task_publish_retry_policy", POLICY)

    def some():
        for number, each in enumerate(members(apps, 300, "restarted")):
            if number in (100, 200):
                quick_broker.kill()
                # The next member finds no broker.
                threading.Timer(0.3, quick_broker.start).start()
            yield each

    results = group(some())()
    assert states_of(quick_broker, results) == {("QUEUED", 1)}
    with Client(quick_broker.url) as client:
        (found,) = [each for each in client.admin.queues() if each.name == "restarted"]
    assert found.ready == 300


def test_a_group_that_loses_its_broker_is_an_operational_error_in_its_time(apps):
    with ScratchBroker() as broker:
        app = apps.app.__class__("gone", broker=broker.url, set_as_current=False)
        app.conf.broker_transport_options = {"confirm_timeout": 1.0}

        def some():
            for number in range(20):
                if number == 10:
                    broker.kill()
                yield app.signature("subject.add", (number, number), queue="gone")

        begun_at = time.monotonic()
        with pytest.raises(OperationalError):
            group(some(), app=app)()
        # The default would take ten seconds.
        assert time.monotonic() - begun_at < 8
        assert together._local.pipelines is None
        app.close()
