"""The evaluation as one HTML page that needs no other file. Names no query: those are people's."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from mlops.evaluation.comparison import Answer, Comparison

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .7rem;text-align:right;"
    "border-bottom:1px solid #ccc}td:first-child,th:first-child{text-align:left}"
    "img{max-width:100%}.verdict{padding:.7rem 1rem;border-left:.4rem solid}"
    ".better{border-color:#2a7d46}.refused{border-color:#b3372f}"
)


def page(
    title: str, comparison: Comparison, facts: Mapping[str, str], images: Mapping[str, bytes]
) -> str:
    """The page; `facts` are said in its last table, `images` are PNG files by name."""
    kind = "better" if comparison.answer is Answer.BETTER else "refused"
    names = list(next(iter(comparison.measures.values())))
    measures = _table(
        ["model", *names],
        ([model, *(str(found[name]) for name in names)] for model, found in _by_model(comparison)),
    )
    slices = _table(
        ["slice", "queries", comparison.candidate, comparison.baseline, "gain"],
        (
            [
                one.name,
                f"{one.queries:,}",
                f"{one.candidate:.3f}",
                f"{one.baseline:.3f}",
                f"{one.gain.value:+.3f} [{one.gain.low:+.3f}, {one.gain.high:+.3f}]",
            ]
            for one in comparison.slices
        ),
    )
    pictures = "".join(
        f'<p><img alt="{escape(name)}" src="data:image/png;base64,{b64encode(data).decode()}"></p>'
        for name, data in images.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f'<p class="verdict {kind}"><b>{comparison.answer.replace("_", " ")}</b>: '
        f"{escape(comparison.sentence)}</p>"
        f"<h2>Measures</h2><p>Means over queries that no trainer saw, with 95 % bootstrap "
        f"intervals.</p>{measures}<h2>Slices</h2><p>Mean reciprocal rank; the gain is that of the "
        f"same queries.</p>{slices}{pictures}<h2>What was compared</h2>"
        f"{_table(['', ''], facts.items())}</html>\n"
    )


def _by_model(comparison: Comparison) -> Iterable[tuple[str, Mapping[str, object]]]:
    return comparison.measures.items()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
