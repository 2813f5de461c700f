"""Revokes with no worker up."""

from __future__ import annotations

import pytest

pytest.importorskip("celery.exceptions", reason="Celery is not installed in this environment")

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
