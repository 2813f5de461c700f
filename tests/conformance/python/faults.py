"""The subject with a fault that is planted in its worker: `faults.py NAME`. The kit's own tests see
that a script finds each."""

import sys

import subject
from celeriac_client import connection, worker

FAULTS = {}


def fault(name):
    return lambda plant: FAULTS.setdefault(name, plant)


@fault("begin-unconfirmed")
def begin_unconfirmed():
    """A handler begins although its start was not confirmed."""

    def take(self, deliveries, taken=worker.Worker._take_deliveries):
        for delivery in deliveries:
            delivery.report_start = False
        taken(self, deliveries)

    worker.Worker._take_deliveries = take


@fault("run-twice")
def run_twice():
    """A delivery whose lease is held already is run once more."""

    def take(self, deliveries, taken=worker.Worker._take_deliveries):
        for delivery in deliveries:
            self._runs.pop(delivery.lease, None)
        taken(self, deliveries)

    worker.Worker._take_deliveries = take


@fault("forget-reports")
def forget_reports():
    """What was not answered is not sent again."""

    def lost(self, was=worker.Reports.lost):
        was(self)
        self.clear()

    worker.Reports.lost = lost


@fault("report-again")
def report_again():
    """What was answered is sent again on the next connection."""
    said = []

    def add(self, report, was=worker.Reports.add):
        said.append(report)
        was(self, report)

    def opened(self, was=worker.Reports.opened):
        was(self)
        for report in list(said):
            self._kept[next(self._numbers)] = report
            self._send(max(self._kept))

    worker.Reports.add = add
    worker.Reports.opened = opened


@fault("keep-lost-leases")
def keep_lost_leases():
    """The handler of a lease that is lost goes on."""
    worker.Worker._drop_lost = lambda self, leases: None


@fault("no-heartbeats")
def no_heartbeats():
    """Nothing is sent while there is nothing to say."""
    connection.Connection._beat = lambda self, every, beat: None


if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    subject.main()
