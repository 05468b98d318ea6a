"""What a process tells over HTTP, as Prometheus and probes read it."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from worker.metrics import ledger_catalogue, process_catalogue
from worker.metrics.catalogue import Described

CATALOGUE = {
    metric.name: metric
    for module in (ledger_catalogue, process_catalogue)
    for metric in vars(module).values()
    if isinstance(metric, Described)
}
Sample = tuple[str, frozenset[tuple[str, str]]]


def get(port: int, path: str, *, method: str = "GET") -> tuple[int, str]:
    """Return the status and the body of an answer; 0 where nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  as written here
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def health(port: int, question: str) -> tuple[int, dict[str, Any]]:
    """Ask `live` or `ready`."""
    status, body = get(port, f"/health/{question}")
    return status, json.loads(body) if body else {}


def scrape(port: int) -> Mapping[Sample, float]:
    """Return all values by name and labels."""
    status, body = get(port, "/metrics")
    assert status in (0, 200), body
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def value(samples: Mapping[Sample, float], name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))
