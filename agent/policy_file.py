"""Read a policy from YAML or from the API's JSON, and refuse what it does not say clearly."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from agent.freeze import freeze_document, parse_freeze
from agent.policy import (
    Pause,
    Policy,
    SetMirror,
    SetWeight,
    Step,
)
from agent.policy_checks import checks_document, parse_checks
from agent.policy_pairs import pairs_document, parse_pairs
from agent.policy_values import (
    Parser,
    Place,
    PolicyError,
    chance,
    duration_s,
    mapping,
    odds_tolerance,
    percent_bp,
    text,
)
from agent.strict_yaml import NotYaml, read_yaml
from mlops.contracts.plan import FULL_SHARE_BP, MAX_CANARY_SHARE_BP

__all__ = ["PolicyError", "load_policy", "parse_policy", "to_document"]

MAX_FILE_BYTES = 256 * 1024
"""A policy is a page long."""

MAX_STEPS = 100

MAX_GATES = 20


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: it cannot be read, is not YAML, or says something that is not understood.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise PolicyError(f"{path}: more than {MAX_FILE_BYTES} bytes; a policy is a page long")
    return read_policy(content, source=str(path))


def read_policy(content: bytes, *, source: str) -> Policy:
    """`load_policy` without the file."""
    try:
        document = read_yaml(content)
    except NotYaml as error:
        raise PolicyError(f"{source}: {error}") from error
    return parse_policy(document, source=source)


def parse_policy(document: object, *, source: str = "policy", route: str | None = None) -> Policy:
    """A policy from decoded YAML or JSON. Absent keys take the defaults of `Policy`.

    With `route`, a `route` in the document must name it.

    Raises:
        PolicyError: unknown key, or a value that is not understood.
    """
    place = Place(source)
    given = mapping(document, place, _KEYS | {"route": text})
    named = given.pop("route", None)
    if route is not None and named is not None and named != route:
        raise (place / "route").error(f"{route!r}, the route of the release", named)
    policy = Policy(**{_FIELDS[key]: value for key, value in given.items()})
    _check_steps(policy, place / "steps")
    return policy


def to_document(policy: Policy) -> dict[str, Any]:
    """The policy as `parse_policy` reads it: what the agent remembers and the API shows."""
    return {
        "steps": [_step_document(step) for step in policy.steps],
        "bake": {"duration": policy.bake_s},
        "alpha": policy.alpha,
        "beta": policy.beta,
        "lease": policy.lease_s,
        "grace": policy.grace_s,
        "dwell": policy.dwell_s,
        "holdback": policy.holdback_share_bp / 100,
        "block": policy.block_s,
        "settle": policy.settle_s,
        "sampleRatioTolerance": policy.sample_ratio_tolerance,
        "checks": checks_document(policy.checks),
        "pairs": pairs_document(policy.pairs),
        "maxWeight": policy.max_share_bp / 100,
        "freeze": freeze_document(policy.freeze),
        "gates": list(policy.gates),
        "automaticRollback": policy.rolls_back,
        "invalidLimit": policy.invalid_limit_s,
    }


def _check_steps(policy: Policy, place: Place) -> None:
    """What no step says by itself: their order, and the greatest weight."""
    steps = policy.steps
    if isinstance(steps[0], Pause):
        raise (place / 0).error("a setWeight or setMirror first", "a pause")
    for index, step in enumerate(steps):
        here = place / index
        after = steps[index + 1] if index + 1 < len(steps) else None
        is_person = isinstance(after, Pause) and after.duration_s == inf
        if isinstance(step, SetWeight) and step.share_bp > policy.max_share_bp:
            raise (here / "setWeight").error(
                f"at most maxWeight, {policy.max_share_bp / 100:g}", step.share_bp / 100
            )
        if isinstance(step, SetWeight) and not step.share_bp and not is_person:
            raise (here / "setWeight").error(
                "a percentage above 0, or a `pause: {}` after it: at 0 nothing can be proved", 0
            )
        earlier = any(isinstance(one, SetWeight) and one.share_bp for one in steps[:index])
        if isinstance(step, SetMirror) and earlier:
            raise (here / "setMirror").error("no setMirror after a weight that users see", step)


def _step_document(step: Step) -> dict[str, Any]:
    if isinstance(step, SetWeight):
        return {"setWeight": step.share_bp / 100}
    if isinstance(step, SetMirror):
        return {"setMirror": step.share_bp / 100}
    return {"pause": {} if step.duration_s == inf else {"duration": step.duration_s}}


# ---- values ------------------------------------------------------------------------------------


def _lease(value: object, place: Place) -> float:
    seconds = duration_s(value, place)
    if not 1 <= seconds <= 3600:
        raise place.error("a duration between 1s and 1h: longest exposure nobody watches", value)
    return seconds


def _block(value: object, place: Place) -> int:
    seconds = duration_s(value, place)
    if seconds != int(seconds) or not 1 <= seconds <= 300:
        raise place.error("whole seconds between 1s and 300s", value)
    return int(seconds)


def _set_weight(value: object, place: Place) -> SetWeight:
    expected = (
        f"a percentage of at most {MAX_CANARY_SHARE_BP / 100:g} (stable keeps the rest as "
        "the control; promotion follows the last step by itself)"
    )
    share_bp = percent_bp(value, place, expected)
    if not 0 <= share_bp <= MAX_CANARY_SHARE_BP:
        raise place.error(expected, value)
    return SetWeight(share_bp)


def _set_mirror(value: object, place: Place) -> SetMirror:
    expected = "a percentage above 0 and at most 100: how much of stable's traffic is copied"
    share_bp = percent_bp(value, place, expected)
    if not 0 < share_bp <= FULL_SHARE_BP:
        raise place.error(expected, value)
    return SetMirror(share_bp)


def _max_weight(value: object, place: Place) -> int:
    expected = f"a percentage above 0 and at most {MAX_CANARY_SHARE_BP / 100:g}"
    share_bp = percent_bp(value, place, expected)
    if not 0 < share_bp <= MAX_CANARY_SHARE_BP:
        raise place.error(expected, value)
    return share_bp


def _gates(value: object, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_GATES:
        raise place.error(f"a list of at most {MAX_GATES} names of the agent's gates", value)
    return tuple(text(item, place / index) for index, item in enumerate(value))


def _switch(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.error("true or false", value)
    return value


def _holdback(value: object, place: Place) -> int:
    expected = "a percentage from 0 to 50"
    share_bp = percent_bp(value, place, expected)
    if not 0 <= share_bp <= 5000:
        raise place.error(expected, value)
    return share_bp


def _pause(value: object, place: Place) -> Pause:
    given = mapping({} if value is None else value, place, {"duration": duration_s})
    return Pause(given["duration"]) if given else Pause()


def _steps(value: object, place: Place) -> tuple[Step, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STEPS:
        raise place.error(f"a list of 1 to {MAX_STEPS} steps", value)
    steps: list[Step] = []
    for index, item in enumerate(value):
        here = place / index
        if not isinstance(item, dict) or len(item) != 1:
            raise here.error(
                "one of setWeight: PERCENT, setMirror: PERCENT, pause: {duration: 10m}, pause: {}",
                item,
            )
        step = mapping(item, here, _STEPS)
        steps.extend(step.values())
    return tuple(steps)


def _bake(value: object, place: Place) -> float:
    given = mapping(value, place, {"duration": duration_s})
    if not given:
        raise place.error("{duration: 1h}", value)
    return float(given["duration"])


_STEPS: dict[str, Parser] = {
    "setWeight": _set_weight,
    "setMirror": _set_mirror,
    "pause": _pause,
}

_KEYS: dict[str, Parser] = {
    "steps": _steps,
    "bake": _bake,
    "alpha": chance,
    "beta": chance,
    "lease": _lease,
    "grace": duration_s,
    "dwell": duration_s,
    "holdback": _holdback,
    "block": _block,
    "settle": _block,
    "sampleRatioTolerance": odds_tolerance,
    "checks": parse_checks,
    "pairs": parse_pairs,
    "maxWeight": _max_weight,
    "freeze": parse_freeze,
    "gates": _gates,
    "automaticRollback": _switch,
    "invalidLimit": duration_s,
}

_FIELDS = {
    "steps": "steps",
    "bake": "bake_s",
    "alpha": "alpha",
    "beta": "beta",
    "lease": "lease_s",
    "grace": "grace_s",
    "dwell": "dwell_s",
    "holdback": "holdback_share_bp",
    "block": "block_s",
    "settle": "settle_s",
    "sampleRatioTolerance": "sample_ratio_tolerance",
    "checks": "checks",
    "pairs": "pairs",
    "maxWeight": "max_share_bp",
    "freeze": "freeze",
    "gates": "gates",
    "automaticRollback": "rolls_back",
    "invalidLimit": "invalid_limit_s",
}
