"""The page /metrics: native samples and the daemon's own, in the Prometheus text format, named by the registry.

A native sample without a registry entry is shown as it is and counted, so that it is seen; a test refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from . import registry

# Name, labels, value.
Sample = tuple[str, Sequence[tuple[str, str]], float]


class Page:
    """Renders what `samples` gives at each request."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(_Samples(samples))

    def render(self) -> bytes:
        """The page. Raises what `samples` raises."""
        return generate_latest(self._registry)


class _Samples(Collector):
    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from families(self._samples())


def families(samples: Iterable[Sample]) -> list[Metric]:
    """Samples sorted into metric families; a summary's sum and count are joined by their labels."""
    found: dict[str, Metric] = {}
    halves: dict[tuple[str, tuple[str, ...]], dict[str, float]] = {}
    for name, labels, value in samples:
        keys, values = [key for key, _ in labels], tuple(text for _, text in labels)
        entry = registry.find(name)
        if entry is None:
            family = found.setdefault(
                name,
                UnknownMetricFamily(name, "Not in the registry: mooseng_py/observe/registry.py lacks it.", labels=keys),
            )
            family.add_metric(values, value)  # type: ignore[attr-defined]  # every family class has it, their base has not
            continue
        metric, part = entry
        family = found.setdefault(metric.name, _family(metric, keys))
        if part:
            halves.setdefault((metric.name, values), {})[part] = value
        else:
            family.add_metric(values, value)  # type: ignore[attr-defined]  # as above
    for (name, values), parts in halves.items():
        found[name].add_metric(values, count_value=parts.get("count", 0.0), sum_value=parts.get("sum", 0.0))  # type: ignore[attr-defined]  # as above
    return list(found.values())


def _family(metric: registry.Metric, labels: Sequence[str]) -> Metric:
    if metric.kind == "counter":
        return CounterMetricFamily(metric.name, metric.help, labels=labels)
    if metric.kind == "summary":
        return SummaryMetricFamily(metric.name, metric.help, labels=labels)
    return GaugeMetricFamily(metric.name, metric.help, labels=labels)
