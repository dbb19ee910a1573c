"""What a dashboard consists of, in plain values, and the one place that turns it into Grafana's JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from .promql import Expr
from .provisioning import DATASOURCE_UID

_SOURCE = models.DataSourceRef(type_val="prometheus", uid=DATASOURCE_UID)
_COLORS = {"good": "green", "odd": "orange", "bad": "red"}
Mood = Literal["good", "odd", "bad"]


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or one per combination of labels; `legend` may name them: "{{instance}}"."""

    expr: Expr
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph, or one number. The unit is the first query's unless given; the description is the registry's help."""

    title: str
    queries: tuple[Query, ...]
    unit: str = ""
    number: bool = False
    # Value from which on a mood holds, ascending; the first one counts from below.
    moods: tuple[tuple[float, Mood], ...] = ()

    @property
    def shown_unit(self) -> str:
        return self.unit or self.queries[0].expr.unit


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; `name` is its file and part of its uid."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...] = field(default=())

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)


def graph(title: str, *queries: tuple[Expr, str], unit: str = "") -> Panel:
    return Panel(title, tuple(Query(*query) for query in queries), unit)


def number(title: str, expr: Expr, *moods: tuple[float, Mood], unit: str = "") -> Panel:
    return Panel(title, (Query(expr, ""),), unit, number=True, moods=moods)


def render(board: Board) -> str:
    """The JSON that Grafana provisions. Same board, same bytes."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"mooseng-{board.name}")
        .description(board.description)
        .tags(["mooseng"])
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink("MooseNG")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["mooseng"])
            .keep_time(True)
        )
    )
    identity = 0
    for row in board.rows:
        identity += 1
        made.with_row(dashboard.Row(row.title).id(identity))
        for panel in row.panels:
            identity += 1
            made.with_panel(_panel(panel, identity, _width(row.panels, panel)))
    text = json.dumps(made.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False)
    return text + "\n"


def _width(panels: Sequence[Panel], panel: Panel) -> int:
    """Numbers share a line of 24 columns; graphs stand two or three abreast."""
    if panel.number:
        return 24 // sum(other.number for other in panels)
    return 8 if sum(not other.number for other in panels) % 3 == 0 else 12


def _panel(panel: Panel, identity: int, width: int) -> stat.Panel | timeseries.Panel:
    return _stat(panel, identity, width) if panel.number else _graph(panel, identity, width)


def _stat(panel: Panel, identity: int, width: int) -> stat.Panel:
    steps = [models.Threshold(value=None if at == 0 else at, color=_COLORS[mood]) for at, mood in panel.moods]
    made = (
        stat.Panel()
        .id(identity)
        .title(panel.title)
        .description(_description(panel))
        .datasource(_SOURCE)
        .unit(panel.shown_unit)
        .height(4)
        .span(width)
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(
            dashboard.ThresholdsConfig()
            .mode(models.ThresholdsMode.ABSOLUTE)
            .steps(steps or [models.Threshold(value=None, color="text")])
        )
    )
    for target in _targets(panel):
        made.with_target(target)
    return made


def _graph(panel: Panel, identity: int, width: int) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .id(identity)
        .title(panel.title)
        .description(_description(panel))
        .datasource(_SOURCE)
        .unit(panel.shown_unit)
        .height(8)
        .span(width)
        .min(0)
        .line_width(1)
        .fill_opacity(8)
        .show_points(common_models.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
    )
    for target in _targets(panel):
        made.with_target(target)
    return made


def _targets(panel: Panel) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery()
        .expr(query.expr.text)
        .range()
        .legend_format(query.legend or panel.title)
        .ref_id(chr(65 + index))
        for index, query in enumerate(panel.queries)
    ]


def _description(panel: Panel) -> str:
    return " ".join(dict.fromkeys(text for query in panel.queries for text in query.expr.helps))
