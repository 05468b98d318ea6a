"""The catalogue: every metric of Tallyman's own, with its labels and what it tells."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)


class Type(StrEnum):
    """How a metric's value is to be read."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a metric is."""

    name: str
    type: Type
    labels: tuple[str, ...]
    help: str


def gauge(name: str, tells: str, *labels: str) -> Described:
    return Described(name=f"tallyman_{name}", type=Type.GAUGE, labels=labels, help=tells)


def counter(name: str, tells: str, *labels: str) -> Described:
    return Described(name=f"tallyman_{name}_total", type=Type.COUNTER, labels=labels, help=tells)


def histogram(name: str, tells: str, *labels: str) -> Described:
    return Described(name=f"tallyman_{name}", type=Type.HISTOGRAM, labels=labels, help=tells)


Values = Iterable[tuple[tuple[str, ...], float]]
"""Values by the labels that they are of, in the order of the metric's labels."""


def family(metric: Described, values: Values) -> Metric:
    """Return a gauge or a counter as prometheus_client exposes it."""
    is_counter = metric.type is Type.COUNTER
    made = (CounterMetricFamily if is_counter else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in values:
        made.add_metric(labels, value)
    return made


def histogram_family(
    metric: Described, values: Iterable[tuple[tuple[str, ...], Mapping[float, int], float]]
) -> Metric:
    """Return a histogram; `values` are numbers by upper bound, not yet added up, and the sum."""
    made = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, numbers, total in values:
        made.add_metric(labels, buckets=list(_added_up(numbers)), sum_value=total)
    return made


def _added_up(numbers: Mapping[float, int]) -> Iterator[tuple[str, float]]:
    so_far = 0
    for bound in sorted(numbers):
        so_far += numbers[bound]
        yield ("+Inf" if bound == float("inf") else str(bound)), so_far
