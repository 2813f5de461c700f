"""A worker of a broker with TLS."""

from __future__ import annotations

from pathlib import Path

import handlers
import pytest
from observing import wait_for_state

from celeriac import State
from celeriac.errors import TlsError
from celeriac.scratch_broker import ScratchBroker
from tls_files import TlsFolder


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TlsFolder:
    made = TlsFolder(tmp_path)
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def broker(tls: TlsFolder):
    with ScratchBroker(
        *("--lease-ms", "3000", "--heartbeat-ms", "500"), *tls.serve_with_clients("required")
    ) as scratch:
        yield scratch


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_o17_tasks_run_over_tls_and_over_a_restart_with_new_files(run, broker, tls, tmp_path, pool):
    run(pool=pool)
    notes = tmp_path / "notes"
    result = handlers.note_and_nap.delay(str(notes), 1.0)
    wait_for_state(result, State.STARTED)
    broker.kill()
    tls.make_ca()
    tls.sign("broker", "subjectAltName=IP:127.0.0.1", "serverAuth")
    tls.sign("client", "subjectAltName=DNS:worker-8", "clientAuth")
    broker.start()
    result.get(timeout=20)
    assert notes.read_text().splitlines() == ["begun", "ended"]


def test_o17_a_worker_whose_tls_is_wrong_at_the_start_ends_with_the_reason(
    app, broker, monkeypatch
):
    monkeypatch.setenv("CELERIAC_CA_FILE", "/missing.pem")
    worker = app.worker(queues=[app.queue], modules=["handlers"], concurrency=1)
    with pytest.raises(TlsError, match="the CA file /missing"):
        worker.run()
