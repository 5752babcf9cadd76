"""What a dashboard is made of here: queries, panels on a grid of 24 columns, variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common, dashboard

PROMETHEUS: Final = dashboard.DataSourceRef(type_val="prometheus", uid="prometheus")
CLICKHOUSE: Final = dashboard.DataSourceRef(
    type_val="grafana-clickhouse-datasource", uid="clickhouse"
)
MLFLOW: Final = dashboard.DataSourceRef(type_val="postgres", uid="mlflow")
AIRFLOW: Final = dashboard.DataSourceRef(type_val="postgres", uid="airflow")

COLUMNS: Final = 24
STAT_HEIGHT: Final = 4
HEIGHT: Final = 8

Thresholds = Sequence[tuple[float | None, str]]
NEUTRAL: Final[Thresholds] = ((None, "blue"),)
"""Where no value is good or bad by itself."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One PromQL query; `legend` names its series by their labels."""

    expression: str
    legend: str
    instant: bool = False


@dataclass(slots=True)
class Sql(variants.Dataquery):
    """One SQL query, of ClickHouse or PostgreSQL, in the shape of that data source's plugin."""

    source: dashboard.DataSourceRef
    text: str
    is_series: bool
    """Whether it has a column `time`, in order."""

    def to_json(self) -> dict[str, Any]:
        shared = {"datasource": self.source, "rawSql": self.text, "refId": "A"}
        if self.source is CLICKHOUSE:
            kind = "timeseries" if self.is_series else "table"
            return {
                **shared,
                "editorType": "sql",
                "queryType": kind,
                "format": int(not self.is_series),
            }
        format_name = "time_series" if self.is_series else "table"
        return {**shared, "editorMode": "code", "rawQuery": True, "format": format_name}


def clickhouse(text: str, *, is_series: bool = True) -> Sql:
    return Sql(CLICKHOUSE, text.strip(), is_series)


def postgres(source: dashboard.DataSourceRef, text: str, *, is_series: bool = True) -> Sql:
    return Sql(source, text.strip(), is_series)


Query = Prometheus | Sql


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel; its place follows from its order."""

    title: str
    description: str
    unit: str
    """As Grafana names it: `s`, `reqps`, `percentunit`, `short`."""
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    thresholds: Thresholds = NEUTRAL
    width: int = 8
    least: float | None = 0
    most: float | None = None
    soft_most: float | None = None
    """Where the axis of a panel that is nearly always zero ends, until a value is greater."""
    decimals: int | None = None
    style: str = "line"
    """`bars` or `points` for what happens now and then: a line between two such would tell nothing."""
    stacked: bool = False
    logarithmic: bool = False
    texts: bool = False
    """A stat that shows the names of its series, such as a phase, in place of their values."""
    widths: Mapping[str, int] = field(default_factory=dict)
    """Of a table's columns, in pixels; the others share what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One dashboard."""

    uid: str
    title: str
    description: str
    panels: tuple[Panel, ...]
    variables: tuple[str, ...] = ()
    """Of `VARIABLES`, in order."""
    has_releases: bool = False
    """Whether release events are drawn over its panels."""
    since: str = "now-1h"
    """The time that it shows at first."""


VARIABLES: Final = {
    "route": ("Route", "label_values(gateway_plan_generation, route)"),
    "version": (
        "Version",
        'label_values(http_server_request_duration_seconds_count{route=~"$route"}, version)',
    ),
}

RELEASE_EVENTS: Final = clickhouse(
    """
SELECT at AS time, kind AS title, concat(route, ': ', reason, ' (', actor, ')') AS text, kind AS tags
FROM release_events FINAL
WHERE $__timeFilter(at) AND kind != 'release.held'
ORDER BY at
""",
    is_series=False,
)


_STYLES: Final = {
    "line": common.GraphDrawStyle.LINE,
    "bars": common.GraphDrawStyle.BARS,
    "points": common.GraphDrawStyle.POINTS,
}
_FILLS: Final = {"bars": 60}
"""In percent."""


def or_none(expression: str, label: str) -> str:
    """Zero, named `none`, where the query finds nothing: a counter is there once it counted."""
    return f'{expression} or on () label_replace(vector(0), "{label}", "none", "", "")'


def _stat(panel: Panel) -> Any:
    made = stat.Panel()
    made.graph_mode(common.BigValueGraphMode.NONE if panel.texts else common.BigValueGraphMode.AREA)
    made.color_mode(common.BigValueColorMode.VALUE)
    if panel.texts:
        made.text_mode(common.BigValueTextMode.NAME)
    calculation = "lastNotNull"
    made.reduce_options(common_builder.ReduceDataOptions().calcs([calculation]).values(False))
    return made


def _timeseries(panel: Panel) -> Any:
    made = timeseries.Panel()
    made.draw_style(_STYLES[panel.style])
    made.line_width(1).fill_opacity(_FILLS.get(panel.style, 20 if panel.stacked else 6))
    made.show_points(common.VisibilityMode.AUTO).point_size(5).span_nulls(False)
    made.legend(
        common_builder.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    made.tooltip(
        common_builder.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    if panel.stacked:
        made.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.soft_most is not None:
        made.axis_soft_max(panel.soft_most)
    if panel.logarithmic:
        scale = common_builder.ScaleDistributionConfig()
        made.scale_distribution(scale.type(common.ScaleDistribution.LOG).log(10))
    if len(panel.thresholds) > 1:
        lines = common.GraphThresholdsStyleMode.DASHED
        made.thresholds_style(common_builder.GraphThresholdsStyleConfig().mode(lines))
    return made


def _table(panel: Panel) -> Any:
    made = table.Panel().show_header(True)
    for column, width in panel.widths.items():
        wanted = dashboard.DynamicConfigValue(id_val="custom.width", value=width)
        made.override_by_name(column, [wanted])
    return made


_KINDS: Final = {"stat": _stat, "timeseries": _timeseries, "table": _table}


def _target(query: Query, ref_id: str) -> Any:
    if isinstance(query, Sql):
        return _Ready(query)
    made = prometheus.Dataquery().expr(query.expression).legend_format(query.legend)
    made = made.ref_id(ref_id).datasource(PROMETHEUS)
    return made.instant() if query.instant else made.range()


class _Ready:
    """A value where the library asks for a builder."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def build(self) -> Any:
        return self._value


def _build_panel(panel: Panel, number: int, place: dashboard.GridPos) -> Any:
    made = _KINDS[panel.kind](panel)
    made.id(number).title(panel.title).description(panel.description).unit(panel.unit)
    made.grid_pos(place)
    made.datasource(panel.queries[0].source if isinstance(panel.queries[0], Sql) else PROMETHEUS)
    steps = [dashboard.Threshold(value=value, color=color) for value, color in panel.thresholds]
    made.thresholds(build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.least is not None and not panel.logarithmic:
        made.min(panel.least)
    if panel.most is not None:
        made.max(panel.most)
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    for index, query in enumerate(panel.queries):
        made.with_target(_target(query, chr(ord("A") + index)))
    return made


def _places(panels: Sequence[Panel]) -> list[dashboard.GridPos]:
    """From left to right, row by row; a row is as high as its highest panel."""
    places = []
    x = y = row_height = 0
    for panel in panels:
        height = STAT_HEIGHT if panel.kind == "stat" else HEIGHT
        if x + panel.width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        places.append(dashboard.GridPos(h=height, w=panel.width, x=x, y=y))
        x += panel.width
        row_height = max(row_height, height)
    return places


def build_dashboard(page: Page) -> Any:
    """The dashboard as the library's value."""
    made = build.Dashboard(page.title).uid(page.uid).description(page.description)
    made.tags(["rag-mlops"]).timezone("browser").refresh("10s").time(page.since, "now")
    made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    for name in page.variables:
        label, query = VARIABLES[name]
        made.with_variable(
            build.QueryVariable(name)
            .label(label)
            .datasource(PROMETHEUS)
            .query(query)
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .current(dashboard.VariableOption(text="All", value="$__all", selected=True))
        )
    if page.has_releases:
        events = build.AnnotationQuery().name("Releases").enable(True).icon_color("purple")
        target: Any = _Ready(RELEASE_EVENTS)  # the library knows only Grafana's own annotations
        made.annotation(events.datasource(CLICKHOUSE).target(target))
    for number, (panel, place) in enumerate(zip(page.panels, _places(page.panels), strict=True)):
        made.with_panel(_build_panel(panel, number + 1, place))
    return made.build()
