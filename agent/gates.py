"""When a release may go on: its gates, its freeze windows and its blast radius. Pure.

These are the team's rules: unlike a verdict, a person's `promote` does not pass over them.
"""

from __future__ import annotations

from agent.policy import Policy
from agent.release import Consult, GateAnswer, Phase, Picture, Release, stages

PASSED_FOR_S = 60.0
"""How long a yes counts: the step is made in the cycle after it, unless something else holds."""

ASK_AGAIN_S = 10.0
"""After a no, a failure or a timeout."""


def held_by(release: Release, policy: Policy, picture: Picture) -> str:
    """What the team's rules say against the next step, as a phrase; empty: nothing."""
    if picture.frozen:
        return picture.frozen
    return _cap(release, policy, picture) or _gates(picture)


def _cap(release: Release, policy: Policy, picture: Picture) -> str:
    following = 0 if release.plan is None else release.stage + 1
    if release.phase is Phase.BAKING or following >= len(stages(policy)):
        return ""
    share_bp = stages(policy)[following].share_bp
    if share_bp <= picture.max_share_bp:
        return ""
    return (
        f"the next weight, {share_bp / 100:g} %, is above the route's "
        f"{picture.max_share_bp / 100:g} %"
    )


def _gates(picture: Picture) -> str:
    for name, answer in picture.gates.items():
        if answer is None:
            return f"gate {name!r} is being asked"
        if not answer.passed:
            return f"gate {name!r}: {answer.why}"
        if _is_old(answer, picture.now_s):
            return f"gate {name!r} is being asked again"
    return ""


def consult(release: Release, picture: Picture) -> tuple[Consult, ...]:
    """Ask the gates that have not said yes lately; not one of them again too soon."""
    names = tuple(
        name
        for name, answer in picture.gates.items()
        if answer is None or _is_old(answer, picture.now_s)
    )
    return (Consult(release, names),) if names else ()


def refusal(picture: Picture) -> str:
    """Why the version must get no traffic at all; empty: nothing says so."""
    found = [
        f"{name}: {answer.why}"
        for name, answer in picture.gates.items()
        if answer is not None and answer.refuses
    ]
    return "; ".join(found)


def _is_old(answer: GateAnswer, now_s: float) -> bool:
    limit_s = PASSED_FOR_S if answer.passed else ASK_AGAIN_S
    return not 0 <= now_s - answer.at_s < limit_s
