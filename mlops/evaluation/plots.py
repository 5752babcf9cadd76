"""Plots of a comparison, as PNG files."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from mlops.evaluation.comparison import Comparison

_WIDTH_INCHES = 7.0
_ROW_INCHES = 0.35


def plots(comparison: Comparison) -> dict[str, bytes]:
    """By file name: every measure of every model, and the gain by slice."""
    return {"measures.png": _measures(comparison), "slices.png": _slices(comparison)}


def _measures(comparison: Comparison) -> bytes:
    figure, axes = _figure(height=4.0)
    names = list(next(iter(comparison.measures.values())))
    step = 0.8 / len(comparison.measures)
    for number, (model, found) in enumerate(comparison.measures.items()):
        values = [found[name] for name in names]
        axes.bar(
            [position + number * step for position in range(len(names))],
            [one.value for one in values],
            width=step,
            label=model,
            yerr=[
                [one.value - one.low for one in values],
                [one.high - one.value for one in values],
            ],
        )
    axes.set_xticks([position + 0.4 - step / 2 for position in range(len(names))], names)
    axes.set_title(f"{comparison.queries:,} held-out queries, 95 % intervals")
    axes.legend(fontsize="small")
    return _png(figure)


def _slices(comparison: Comparison) -> bytes:
    rows = [("all", comparison.gain), *((one.name, one.gain) for one in comparison.slices)]
    figure, axes = _figure(height=1.2 + _ROW_INCHES * len(rows))
    positions = list(range(len(rows)))[::-1]
    axes.errorbar(
        [one.value for _, one in rows],
        positions,
        xerr=[
            [one.value - one.low for _, one in rows],
            [one.high - one.value for _, one in rows],
        ],
        fmt="o",
    )
    axes.axvline(0.0, linewidth=1)
    axes.set_yticks(positions, [name for name, _ in rows])
    axes.set_title(f"gain in MRR over {comparison.baseline}, 95 % intervals")
    return _png(figure)


def _figure(height: float) -> tuple[Any, Any]:
    """Without pyplot, whose figures are global and never freed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()
