"""What is too large, or has no place in a task, is refused with the limit in the error."""

from __future__ import annotations

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

import amqp
from kombu import Queue
from kombu.exceptions import OperationalError

from celery import group

MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("size", "limit"), [(9 * MEGABYTE, str(8 * MEGABYTE)), (17 * MEGABYTE, str(16 * MEGABYTE))]
)
@pytest.mark.parametrize("retry", [True, False])
def test_a_message_over_a_limit_is_refused_and_the_limit_is_named(apps, size, limit, retry):
    with pytest.raises(OperationalError, match=limit):
        apps.add.apply_async(("x" * size, ""), queue="large", retry=retry)
    # The same connection goes on.
    assert apps.add.apply_async((1, 1), queue="large").state == "PENDING"


def test_a_refusal_is_of_the_class_that_amqp_has_too(apps):
    with pytest.raises(amqp.PreconditionFailed, match="at most 255 bytes"):
        apps.add.apply_async((1, 1), task_id="i" * 300, queue="large")


def test_messages_that_are_together_longer_than_a_frame_leave_in_several(apps):
    with apps.app.connection() as connection, connection.Producer() as producer:
        queue = Queue("many-large")(connection.default_channel)
        queue.declare()
        batch = connection.default_channel.create_publish_batch(100)
        for number in range(10):
            message = connection.default_channel.prepare_message(
                str(number) * (3 * MEGABYTE), content_type="text/plain", content_encoding="utf-8"
            )
            batch.publish(message, routing_key="many-large")
        batch.flush()
        assert [queue.get(no_ack=True).body[:1] for _ in range(10)] == [
            b"%d" % number for number in range(10)
        ]
        assert producer.channel is not None


def test_a_group_has_an_error_for_its_member_that_is_too_large(apps):
    with pytest.raises(OperationalError, match=str(8 * MEGABYTE)):
        group(apps.add.s("x" * size, "").set(queue="large") for size in (1, 9 * MEGABYTE))()


def test_headers_that_are_no_json_arrive_as_far_as_they_can(apps):
    odd = {"object": object(), "bytes": b"\xff", "nan": float("inf"), "key": {1: 2}}
    long = {"long": "y" * 100_000}
    with apps.app.connection() as connection:
        channel = connection.default_channel
        for headers in (odd, long):
            apps.add.apply_async((1, 1), queue="headers", headers=headers)
        first, second = channel.basic_get("headers"), channel.basic_get("headers")
    assert first.headers["bytes"] == b"\xff"
    assert first.headers["object"] is None
    assert second.headers["long"] == "y" * 100_000
