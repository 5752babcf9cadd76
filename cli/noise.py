"""What stable's own noise says, for people: the margins it allows, and who stands out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.judge.eprocess import Floats, Ints
from agent.judge.margins import (
    DEVIATIONS,
    Suggestion,
    latency_margin,
    rate_margin,
    score_margin,
)
from agent.judge.servers import (
    ServerCounts,
    StandsOut,
    comparable,
    deviations_of_one,
    standing_out,
    taken_together,
)
from mlops.doctor.findings import Finding, State

MAX_SERVERS: Final = 50
"""Compared, the busiest: their histograms take 0.6 MB of memory each."""
ALIKE: Final = "they answer alike"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Stable's requests by blocks of time and groups, the newest block last."""

    names: Sequence[str]
    requests: Ints
    """(blocks, groups), as all but the bins."""
    errors: Ints
    scored: Ints
    score_totals: Floats
    latency_bins: Ints
    """(blocks, groups, bins)"""
    first_byte_bins: Ints

    def standing_out(self) -> tuple[StandsOut, ...]:
        """Where the groups are comparable servers."""
        return standing_out(
            ServerCounts(requests=self.requests, errors=self.errors, latency_bins=self.latency_bins)
        )


def comparable_servers(servers: Noise | None) -> Noise | None:
    """Those of the servers that can be compared, in blocks long enough for it."""
    found = comparable(servers.requests) if servers is not None else None
    if servers is None or found is None:
        return None
    present, together = found

    return Noise(
        names=[servers.names[at] for at in present],
        requests=taken_together(servers.requests[:, present], together),
        errors=taken_together(servers.errors[:, present], together),
        scored=taken_together(servers.scored[:, present], together),
        score_totals=taken_together(servers.score_totals[:, present], together),
        latency_bins=taken_together(servers.latency_bins[:, present], together),
        first_byte_bins=taken_together(servers.first_byte_bins[:, present], together),
    )


def margin_lines(keys: Noise | None, servers: Noise | None) -> list[str]:
    """Of each check the wider of the margins, and what asks for it."""
    of_users = _margins(keys, DEVIATIONS) if keys is not None else {}
    of_servers: dict[str, Suggestion] = {}
    if servers is not None:
        of_servers = _margins(servers, deviations_of_one(len(servers.names)))
    lines = []
    for check in ("errors", "latency", "ttft", "score"):
        ours, theirs = of_users.get(check), of_servers.get(check)
        if theirs is not None and (ours is None or theirs.margin > ours.margin):
            lines.append(_said(check, theirs, f"its {theirs.groups} servers"))
        elif ours is not None:
            lines.append(_said(check, ours, "equal groups of users"))
    return lines


def _margins(noise: Noise, deviations: float) -> dict[str, Suggestion]:
    found = {
        "errors": rate_margin(noise.errors, noise.requests, deviations),
        "latency": latency_margin(noise.latency_bins, deviations),
        "ttft": latency_margin(noise.first_byte_bins, deviations),
        "score": score_margin(noise.score_totals, noise.scored, deviations),
    }
    return {check: one for check, one in found.items() if one is not None}


def _said(check: str, one: Suggestion, groups: str) -> str:
    if check in ("latency", "ttft"):
        margin, spread = f"{one.margin * 100:g}%", f"{one.spread:.1%}"
    else:
        margin, spread = f"{one.margin:g}", f"{one.spread:.2g}"
    return f"{check}: {{margin: {margin}}} ({groups} differ by {spread})"


def servers_finding(route: str, servers: Noise) -> Finding:
    """A warning where one of stable's servers stands out."""
    part, count = f"servers of {route}", len(servers.names)
    found = servers.standing_out()
    if not found:
        return Finding(part=part, state=State.OK, what=f"{count} of stable: {ALIKE}")
    return Finding(
        part=part,
        state=State.WARNING,
        what=f"{count} of stable: {told(servers, found)}",
        mend="look at that server; until it is like the others, a canary may be as unlucky: the "
        "margins above allow for it",
    )


def told(servers: Noise, found: Sequence[StandsOut]) -> str:
    """Who stands out, and by what."""
    by_server: dict[str, list[str]] = {}
    for one in found:
        by_server.setdefault(servers.names[one.server], []).append(_difference(one))
    return "; ".join(f"{name} stands out: {', '.join(by)}" for name, by in by_server.items())


def _difference(one: StandsOut) -> str:
    if one.figure == "errors":
        return f"errors {one.difference * 100:+.2g} points"
    return f"{one.figure} {one.difference:+.1%}"
