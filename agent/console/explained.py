"""A policy, line by line, with what each line means for a release. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from agent.policy import Policy, QuantileCheck, RateCheck, ScoreCheck, SetMirror
from agent.release import stages


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a policy."""

    name: str
    """As the policy file spells it."""
    value: str
    meaning: str


def explained(policy: Policy) -> list[Line]:
    """Everything that is in force, defaults too."""
    return [*_steps(policy), *_chances(policy), *_times(policy), *_checks(policy), *_rules(policy)]


def duration(seconds: float) -> str:
    """`90 s`, `10 min`, `2 h`."""
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"


def _steps(policy: Policy) -> Iterator[Line]:
    for number, stage in enumerate(stages(policy), 1):
        ends = (
            "waits for a person's promote"
            if stage.waits
            else f"ends after {duration(stage.duration_s)} at the earliest, once all checks have "
            "proved themselves"
        )
        if stage.mirror_share_bp:
            value = f"mirror {stage.mirror_share_bp / 100:g} %"
            what = "That part of stable's requests is copied to the new version; no user sees it"
        else:
            value = f"weight {stage.share_bp / 100:g} %"
            what = "That part of users gets the new version"
        yield Line(name=f"steps[{number}]", value=value, meaning=f"{what}. The step {ends}.")
    yield Line(
        name="bake",
        value=duration(policy.bake_s),
        meaning="This long after the promotion it is still compared with the old version.",
    )
    yield Line(
        name="holdback",
        value=f"{policy.holdback_share_bp / 100:g} %",
        meaning="Users who keep the old version during the bake, as the comparison.",
    )


def _chances(policy: Policy) -> Iterator[Line]:
    yield Line(
        name="alpha",
        value=f"{policy.alpha:g}",
        meaning=f"A harmless version is taken back in at most {policy.alpha:.2%} of releases, "
        "however often the numbers are looked at.",
    )
    yield Line(
        name="beta",
        value=f"{policy.beta:g}",
        meaning="A version worse than the margins is promoted in at most "
        f"{policy.beta:.2%} of releases.",
    )


def _times(policy: Policy) -> Iterator[Line]:
    yield Line(
        name="lease",
        value=duration(policy.lease_s),
        meaning="If the agent dies or cannot see, everything goes to stable this long after its "
        "last renewal.",
    )
    yield Line(
        name="grace",
        value=duration(policy.grace_s),
        meaning="Warm-up after the first request: only a catastrophe is judged.",
    )
    yield Line(name="dwell", value=duration(policy.dwell_s), meaning="Shortest stay at any weight.")
    yield Line(
        name="invalidLimit",
        value=duration(policy.invalid_limit_s),
        meaning="If evidence cannot be trusted for longer, the release ends without blame.",
    )


def _checks(policy: Policy) -> Iterator[Line]:
    for name in policy.checks.__dataclass_fields__:
        check = getattr(policy.checks, name)
        label = f"checks.{name}"
        if check is None:
            yield Line(name=label, value="off", meaning="Not judged.")
        elif isinstance(check, RateCheck):
            yield Line(
                name=label,
                value=f"margin {check.margin:.2%}",
                meaning="A rise of the rate by less than this does not matter.",
            )
        elif isinstance(check, QuantileCheck):
            at = ", ".join(f"p{100 * quantile:g}" for quantile in check.quantiles)
            yield Line(
                name=label,
                value=f"{at}, margin {check.margin:.0%}",
                meaning=f"A change ({check.direction.value}) of a quantile by less than this does "
                "not matter.",
            )
        elif isinstance(check, ScoreCheck):
            judged = "" if check.comparable else " Not comparable between versions, so not judged."
            yield Line(
                name=label,
                value=f"{check.field}, margin {check.margin:g}",
                meaning=f"A fall of the mean by less than this does not matter.{judged}",
            )


def _rules(policy: Policy) -> Iterator[Line]:
    if any(isinstance(step, SetMirror) for step in policy.steps):
        yield Line(
            name="pairs.margin",
            value=f"{policy.pairs.margin:g}",
            meaning="Part of the mirrored queries in which the new version may be worse, beyond "
            "those in which it is better.",
        )
    yield Line(
        name="maxWeight",
        value=f"{policy.max_share_bp / 100:g} %",
        meaning="No step may give the new version more users than this before the promotion.",
    )
    yield Line(
        name="gates",
        value=", ".join(policy.gates) or "none",
        meaning="The team's own rules that every step must pass.",
    )
    yield Line(
        name="freeze",
        value=f"{len(policy.freeze)} windows" if policy.freeze else "none",
        meaning="Times in which nothing advances; a rollback always works.",
    )
    yield Line(
        name="automaticRollback",
        value="on" if policy.rolls_back else "off",
        meaning="A version that is proved worse is taken back at once."
        if policy.rolls_back
        else "A version that is proved worse is held, and a person must roll back.",
    )
