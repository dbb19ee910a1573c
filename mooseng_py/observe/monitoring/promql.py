"""Prometheus expressions that cannot name what the registry does not have: a wrong name, label or kind is refused when made."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from .. import registry
from ..registry import Kind, Metric

# Set by the scrape configuration on every series.
TARGET_LABELS = ("instance", "role", "job")
# Grafana replaces it by what suits the zoom and the scrape interval; rules name their own.
PANEL_WINDOW = "$__rate_interval"


class QueryError(ValueError):
    """An expression that could never have data; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression, the exported series that it reads, and what its values are: "s", "bytes", "Bps", "ops", ... as Grafana calls it."""

    text: str
    series: frozenset[str]
    unit: str
    helps: tuple[str, ...]
    compound: bool = False

    def __truediv__(self, other: Expr) -> Expr:
        return _joined(self, "/", other, "percentunit" if self.unit == other.unit else self.unit)

    def __sub__(self, other: Expr) -> Expr:
        return _joined(self, "-", other, self.unit)

    def above(self, limit: float) -> Expr:
        """Only where it is greater."""
        return _with(self, f"{_operand(self)} > {limit:g}", compound=True)

    def below(self, limit: float) -> Expr:
        return _with(self, f"{_operand(self)} < {limit:g}", compound=True)

    def equals(self, value: float) -> Expr:
        return _with(self, f"{_operand(self)} == {value:g}", compound=True)

    def below_of(self, other: Expr) -> Expr:
        """Only where it is less than the other."""
        return _joined(self, "<", other, self.unit)

    def or_zero(self) -> Expr:
        """0 where there is nothing."""
        return _with(self, f"{_operand(self)} or vector(0)", compound=True)

    def on_leader(self, *by: str) -> Expr:
        """What the leading master says; the others' view may be old."""
        leads = value("mooseng_master_is_leader").equals(1)
        text = f"{_operand(self)} and on (instance) {_operand(leads)}"
        both = Expr(text, self.series | leads.series, self.unit, self.helps, compound=True)
        return aggregate("max", both, *by)


def value(name: str, **where: str) -> Expr:
    """A gauge as it is. Raises: QueryError."""
    metric = _find(name, "gauge")
    return Expr(_selector(metric.name, metric, where), frozenset({name}), _UNITS[metric.unit], (metric.help,))


def rate(name: str, *by: str, window: str = PANEL_WINDOW, **where: str) -> Expr:
    """A counter's growth per second, summed over what `by` leaves out. Raises: QueryError."""
    metric = _find(name, "counter")
    _require_labels(metric, by)
    text = _sum(by, f"rate({_selector(name, metric, where)}[{window}])")
    return Expr(text, frozenset({name}), _RATE_UNITS[metric.unit], (metric.help,))


def grown(name: str, *by: str, window: str, **where: str) -> Expr:
    """A counter's growth within the window. Raises: QueryError."""
    metric = _find(name, "counter")
    _require_labels(metric, by)
    text = _sum(by, f"increase({_selector(name, metric, where)}[{window}])")
    return Expr(text, frozenset({name}), _UNITS[metric.unit], (metric.help,))


def mean(name: str, *by: str, window: str = PANEL_WINDOW, **where: str) -> Expr:
    """Of a summary; nothing where nothing happened. Raises: QueryError."""
    metric = _find(name, "summary")
    _require_labels(metric, by)
    total, count = (
        _sum(by, f"rate({_selector(part, metric, where)}[{window}])") for part in (name + "_sum", name + "_count")
    )
    return Expr(
        f"{total} / ({count} > 0)", frozenset(metric.exported), _UNITS[metric.unit], (metric.help,), compound=True
    )


def happened(name: str, *by: str, window: str = PANEL_WINDOW, **where: str) -> Expr:
    """Of a summary: how many per second. Raises: QueryError."""
    metric = _find(name, "summary")
    _require_labels(metric, by)
    text = _sum(by, f"rate({_selector(name + '_count', metric, where)}[{window}])")
    return Expr(text, frozenset({name + "_count"}), "ops", (metric.help,))


def restarts(window: str) -> Expr:
    """How often each node was started within the window."""
    metric = _find("process_start_time_seconds", "gauge")
    text = f"changes({_selector(metric.name, metric, {})}[{window}])"
    return Expr(text, frozenset({metric.name}), "short", ("Starts of a node within the window.",))


def age(name: str) -> Expr:
    """Seconds since a gauge's point in time."""
    at = value(name)
    return Expr(f"time() - {at.text}", at.series, at.unit, at.helps, compound=True)


def aggregate(how: str, what: Expr, *by: str) -> Expr:
    """`how`: sum, min, max, count."""
    grouping = f" by ({', '.join(by)})" if by else ""
    unit = "short" if how == "count" else what.unit
    return Expr(f"{how}{grouping} ({what.text})", what.series, unit, what.helps)


_UNITS = {"": "short", "seconds": "s", "bytes": "bytes"}
# A counter of seconds grows by processors in use.
_RATE_UNITS = {"": "ops", "seconds": "short", "bytes": "Bps"}


def _find(name: str, kind: Kind) -> Metric:
    metric = registry.METRICS.get(name)
    if metric is None:
        close = difflib.get_close_matches(name, registry.METRICS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise QueryError(f"nobody emits {name}{hint}")
    if metric.kind != kind:
        raise QueryError(f"{name} is a {metric.kind}, and this needs a {kind}")
    return metric


def _selector(series: str, metric: Metric, where: Mapping[str, str]) -> str:
    _require_labels(metric, tuple(where))
    inner = ", ".join(f'{label}="{wanted}"' for label, wanted in sorted(where.items()))
    return f"{series}{{{inner}}}" if inner else series


def _require_labels(metric: Metric, labels: tuple[str, ...]) -> None:
    if unknown := [label for label in labels if label not in (*metric.labels, *TARGET_LABELS)]:
        allowed = ", ".join((*metric.labels, *TARGET_LABELS))
        raise QueryError(f"{metric.name} has no label {unknown[0]}; it has {allowed}")


def _sum(by: tuple[str, ...], inner: str) -> str:
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def _operand(expr: Expr) -> str:
    return f"({expr.text})" if expr.compound else expr.text


def _joined(left: Expr, operator: str, right: Expr, unit: str) -> Expr:
    text = f"{_operand(left)} {operator} {_operand(right)}"
    helps = tuple(dict.fromkeys((*left.helps, *right.helps)))
    return Expr(text, left.series | right.series, unit, helps, compound=True)


def _with(expr: Expr, text: str, *, compound: bool) -> Expr:
    return Expr(text, expr.series, expr.unit, expr.helps, compound)
