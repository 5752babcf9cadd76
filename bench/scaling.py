"""The arithmetic of docs/scaling.md, from the figures of the report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

DAY_S: Final = 86_400
POD_CORES: Final = 0.3
"""What a gateway's pod may use before there is one more: the HPA's target in deploy/kubernetes."""
RATES: Final = (1_000, 10_000, 30_000, 100_000)
"""Requests a second, of the page's table."""
CYCLE_RATE: Final = 1e8 / 3600
"""Requests a second at which the agent's cycle is measured: 10^8 an hour."""
USD_OF_A_CORE_HOUR: Final = 0.04
USED: Final = 0.6
ENGINE_CORES: Final = 2
"""Of the machine that the engine and its client had for themselves."""

MEASURED: Final[Mapping[str, tuple[str, str]]] = {
    "gateway_us": ("gateway", "same work: CPU per request"),
    "event_us": ("gateway", "event streams: CPU per event"),
    "idle_kib": ("gateway", "10,000 open idle connections, after a request"),
    "two_workers": ("gateway", "two workers against one, CPU per request"),
    "recorder_rows": ("recorder", "stored in one second of a core, chat"),
    "recorder_rows_floats": ("recorder", "stored in one second of a core, 384 floats"),
    "beside_rows": ("recorder", "stored, chat"),
    "beside_rows_floats": ("recorder", "stored, 384 floats"),
    "engine_rows": ("store", "insert of 2,000 rows at a time, no floats each"),
    "engine_rows_floats": ("store", "insert of 2,000 rows at a time, 384 floats each"),
    "look_ms": ("store", "one look, 10,000,000 rows in the hour"),
    "cycle_ms": ("agent", "10^8 requests an hour: CPU of a cycle, median"),
    "fleet_s": ("agent", "500 gateways: from a decision to the last one, median"),
}
"""Names here, and in the report."""
WITHOUT_REPORT: Final = {"engine_rows": 35_660.0, "engine_rows_floats": 14_830.0, "look_ms": 29.8}
"""Of `make bench-store` on a quiet machine, until the report has it: docs/performance.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What one of each carries; the names say the unit, rows are a second's."""

    gateway_us: float
    event_us: float
    idle_kib: float
    two_workers: float
    recorder_rows: float
    recorder_rows_floats: float
    beside_rows: float
    beside_rows_floats: float
    engine_rows: float
    engine_rows_floats: float
    look_ms: float
    cycle_ms: float
    fleet_s: float

    @property
    def recorder_us(self) -> float:
        return 1e6 / self.recorder_rows

    @property
    def pod_rate(self) -> float:
        """Requests a second of a pod at its target."""
        return POD_CORES / self.gateway_us * 1e6

    def million_s(self, *, floats: bool) -> dict[str, float]:
        """CPU seconds of a million queries, by part."""
        recorder = self.recorder_rows_floats if floats else self.recorder_rows
        engine = self.engine_rows_floats if floats else self.engine_rows
        return {
            "gateway": self.gateway_us,
            "recorder": 1e6 / recorder,
            "ClickHouse": 1e6 / engine * ENGINE_CORES,
            "agent": 1e6 / CYCLE_RATE * self.cycle_ms / 1000,
        }


def inputs(report: Mapping[str, Any]) -> Inputs | None:
    """None while the report lacks one of them."""
    values = dict(WITHOUT_REPORT)
    for name, (benchmark, wanted) in MEASURED.items():
        figures = report.get(benchmark, {"figures": []})["figures"]
        found = [figure["value"] for figure in figures if figure["name"] == wanted]
        if found:
            values[name] = found[0]
    return Inputs(**values) if values.keys() == MEASURED.keys() else None


def block(name: str, report: Mapping[str, Any]) -> str | None:
    """The Markdown of one of `BLOCKS`; None while the report lacks a figure."""
    found = inputs(report)
    return BLOCKS[name](found) if found else None


def one_of_each(given: Inputs) -> str:
    rows = [
        (
            "gateway, CPU of a small request with everything recorded",
            f"{given.gateway_us:.1f} µs",
            "bench-gateway",
        ),
        ("gateway, an event of a stream", f"{given.event_us:.0f} µs", "bench-gateway"),
        (
            "gateway, a connection that idles between requests",
            f"{given.idle_kib:.1f} KiB",
            "bench-gateway",
        ),
        (
            "gateway, CPU of a request with two workers against one",
            f"{given.two_workers:.2f} times",
            "bench-gateway",
        ),
        (
            "recorder, CPU of a row, chat; with 384 floats",
            f"{given.recorder_us:.0f}; {1e6 / given.recorder_rows_floats:.0f} µs "
            f"({given.recorder_rows:,.0f}; {given.recorder_rows_floats:,.0f} rows in a second "
            "of a core)",
            "bench-recorder",
        ),
        (
            "recorder, rows a second beside the engine on two cores",
            f"{given.beside_rows:,.0f}; {given.beside_rows_floats:,.0f}",
            "bench-recorder",
        ),
        (
            "ClickHouse's engine, rows a second, no floats; with 384",
            f"{given.engine_rows:,.0f}; {given.engine_rows_floats:,.0f}, with its client on two "
            "cores",
            "bench-store",
        ),
        (
            "a look of the agent, 10 million rows in the hour",
            f"{given.look_ms:.0f} ms",
            "bench-store",
        ),
        (
            f"agent, CPU of a cycle at 10^8 requests an hour ({CYCLE_RATE:,.0f} a second)",
            f"{given.cycle_ms:.1f} ms of each second",
            "bench-agent",
        ),
        ("500 gateways, from a decision to the last one", f"{given.fleet_s:.2f} s", "bench-agent"),
    ]
    narrow = "recorder" if given.recorder_us > given.gateway_us else "gateway"
    lines = ["| | measured | command |", "|---|---|---|"]
    lines += [f"| {what} | {value} | `make {command}` |" for what, value, command in rows]
    return "\n".join(lines) + (
        f"\n\nA core forwards {1e6 / given.gateway_us:,.0f} requests, and a recorder stores "
        f"{given.recorder_rows_floats:,.0f} to {given.recorder_rows:,.0f} rows: "
        f"**the {narrow} is the narrow place.** A pod\nat its target of {POD_CORES} cores "
        f"forwards {POD_CORES} s / {given.gateway_us:.1f} µs = "
        f"**{given.pod_rate:,.0f} requests a second**, for which its recorder takes\n"
        f"{given.pod_rate * given.recorder_us / 1e6:.2f} of a core for chat rows, and "
        f"{given.pod_rate / given.recorder_rows_floats:.2f} with 384 floats each.\n"
    )


def arithmetic(given: Inputs) -> str:
    lines = [
        "| requests a second | pods | cores, gateways + recorders | rows a day "
        "| ClickHouse, in what the engine took here |",
        "|---|---|---|---|---|",
    ]
    for rate in RATES:
        pods = max(2, ceil(rate / given.pod_rate) + 1)
        zones = (
            f"; {ceil(pods * 1.5)} where one zone of three may fail" if rate == RATES[-1] else ""
        )
        lines.append(
            f"| {rate:,} | {pods}{zones} "
            f"| {rate * given.gateway_us / 1e6:.2f} + {rate * given.recorder_us / 1e6:.2f} "
            f"| {rate * DAY_S / 1e9:.2f} billion | {rate / given.engine_rows:.2f}; with 384 floats "
            f"{rate / given.engine_rows_floats:.2f} |"
        )
    return "\n".join(lines) + "\n"


def cost(given: Inputs) -> str:
    plain, floats = (given.million_s(floats=each) for each in (False, True))
    lines = ["| | CPU seconds | with 384 floats a row |", "|---|---|---|"]
    lines += [f"| {part} | {plain[part]:.1f} | {floats[part]:.1f} |" for part in plain]
    total, total_floats = sum(plain.values()), sum(floats.values())
    lines.append(f"| | **{total:.0f}** | **{total_floats:.0f}** |")
    usd, usd_floats = (one / 3600 * USD_OF_A_CORE_HOUR for one in (total, total_floats))
    return "\n".join(lines) + (
        f"\n\nAt {USD_OF_A_CORE_HOUR} USD for a core hour (an assumption: put your price in) a "
        f"million queries cost **{usd:.4f} USD** of CPU,\nor {usd / USED:.4f} with machines "
        f"that are used to {USED:.0%}; with 384 floats a row {usd_floats:.4f} and "
        f"{usd_floats / USED:.4f}. "
        f"A model server's\nsecond of a core for each query would be "
        f"{1e6 / 3600 * USD_OF_A_CORE_HOUR:.0f} USD.\n"
    )


BLOCKS: Final = {
    "scaling: one of each": one_of_each,
    "scaling: arithmetic": arithmetic,
    "scaling: cost": cost,
}
