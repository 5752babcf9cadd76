"""Read a policy from YAML or from the API's JSON, and refuse what it does not say clearly.

Every error names the source, the key's path, what was expected and what came; an unknown key also
names the nearest known one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import inf, isfinite
from pathlib import Path
from typing import Any

import yaml

from agent.policy import (
    Checks,
    ErrorsCheck,
    LatencyCheck,
    Pause,
    Policy,
    ScoreCheck,
    SetWeight,
    Step,
)
from mlops.contracts.plan import MAX_CANARY_SHARE_BP

MAX_FILE_BYTES = 256 * 1024
"""A policy is a page long."""

MAX_STEPS = 100

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


class PolicyError(ValueError):
    """The policy says something that is not understood."""


class _Place:
    """Where in which file we are, for errors."""

    __slots__ = ("path", "source")

    def __init__(self, source: str, path: str = "") -> None:
        self.source = source
        self.path = path

    def __truediv__(self, key: str | int) -> _Place:
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if self.path else key
        return _Place(self.source, f"{self.path}{step}")

    def error(self, expected: str, got: object) -> PolicyError:
        where = f"{self.source}: {self.path}" if self.path else self.source
        return PolicyError(f"{where}: expected {expected}, got {_shown(got)}")


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
    try:
        document = yaml.load(content, Loader=_StrictLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: not YAML: {error}") from error
    return parse_policy(document, source=str(path))


def parse_policy(document: object, *, source: str = "policy", route: str | None = None) -> Policy:
    """A policy from decoded YAML or JSON. Absent keys take the defaults of `Policy`.

    With `route`, a `route` in the document must name it.

    Raises:
        PolicyError: unknown key, or a value that is not understood.
    """
    place = _Place(source)
    given = _mapping(document, place, _KEYS | {"route": _text})
    named = given.pop("route", None)
    if route is not None and named is not None and named != route:
        raise (place / "route").error(f"{route!r}, the route of the release", named)
    policy = Policy(**{_FIELDS[key]: value for key, value in given.items()})
    first = policy.steps[0]
    if isinstance(first, Pause):
        raise (place / "steps" / 0).error("a setWeight first", "a pause")
    return policy


def to_document(policy: Policy) -> dict[str, Any]:
    """The policy as `parse_policy` reads it: what the agent remembers and the API shows."""
    checks: dict[str, Any] = {}
    if policy.checks.errors is not None:
        checks["errors"] = {"margin": policy.checks.errors.margin}
    for name, check in (("latency", policy.checks.latency), ("ttft", policy.checks.ttft)):
        if check is not None:
            checks[name] = {"quantiles": list(check.quantiles), "margin": check.margin}
    if policy.checks.score is not None:
        score = policy.checks.score
        checks["score"] = {"field": score.field, "margin": score.margin}
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
        "checks": checks,
    }


def _step_document(step: Step) -> dict[str, Any]:
    if isinstance(step, SetWeight):
        return {"setWeight": step.share_bp / 100}
    return {"pause": {} if step.duration_s == inf else {"duration": step.duration_s}}


# ---- values ------------------------------------------------------------------------------------

_Parser = Callable[[object, _Place], Any]


def _mapping(value: object, place: _Place, known: Mapping[str, _Parser]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.error(f"a mapping with {_listed(known)}", value)
    parsed = {}
    for key, item in value.items():
        parser = known.get(key) if isinstance(key, str) else None
        if parser is None:
            near = get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise (place / str(key)).error(f"one of {_listed(known)}", f"{key!s}{hint}")
        parsed[str(key)] = parser(item, place / str(key))
    return parsed


def _text(value: object, place: _Place) -> str:
    if not isinstance(value, str) or not value:
        raise place.error("a text that is not empty", value)
    return value


def _number(value: object, place: _Place, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise place.error(expected, value)
    return float(value)


def duration_s(value: object, place: _Place) -> float:
    """`30s`, `10m`, `1h`, `1h30m`, `250ms`, or a number of seconds."""
    expected = "a duration such as 30s, 10m, 1h30m, or a number of seconds"
    if not isinstance(value, str):
        seconds = _number(value, place, expected)
        if seconds < 0:
            raise place.error(expected, value)
        return seconds
    text = value.strip()
    if not text or _DURATION.sub("", text):
        raise place.error(expected, value)
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(text))


def _lease(value: object, place: _Place) -> float:
    seconds = duration_s(value, place)
    if not 1 <= seconds <= 3600:
        raise place.error("a duration between 1s and 1h: longest exposure nobody watches", value)
    return seconds


def _block(value: object, place: _Place) -> int:
    seconds = duration_s(value, place)
    if seconds != int(seconds) or not 1 <= seconds <= 300:
        raise place.error("whole seconds between 1s and 300s", value)
    return int(seconds)


def _chance(value: object, place: _Place) -> float:
    chance = _number(value, place, "a chance between 0 and 1, such as 0.05")
    if not 0 < chance < 1:
        raise place.error("a chance between 0 and 1, such as 0.05", value)
    return chance


def _tolerance(value: object, place: _Place) -> float:
    expected = "a ratio of odds from 1 to 10"
    ratio = _number(value, place, expected)
    if not 1 <= ratio <= 10:
        raise place.error(expected, value)
    return ratio


def _margin(value: object, place: _Place) -> float:
    """`10%` or `0.005`."""
    expected = "a share above 0 and at most 100%, such as 10% or 0.005"
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            margin = float(value.strip()[:-1]) / 100
        except ValueError:
            raise place.error(expected, value) from None
    else:
        margin = _number(value, place, expected)
    if not 0 < margin <= 1:
        raise place.error(expected, value)
    return margin


def _percent_bp(value: object, place: _Place, expected: str) -> int:
    text = value.strip().removesuffix("%") if isinstance(value, str) else value
    try:
        percent = float(text) if isinstance(text, str) else _number(text, place, expected)
    except ValueError:
        raise place.error(expected, value) from None
    share_bp = percent * 100
    if not isfinite(share_bp) or abs(share_bp - round(share_bp)) > 1e-6:
        raise place.error(f"{expected}, in steps of 0.01", value)
    return round(share_bp)


def _set_weight(value: object, place: _Place) -> SetWeight:
    expected = (
        f"a percentage above 0 and at most {MAX_CANARY_SHARE_BP / 100:g} (stable keeps the rest as "
        "the control; promotion follows the last step by itself)"
    )
    share_bp = _percent_bp(value, place, expected)
    if not 0 < share_bp <= MAX_CANARY_SHARE_BP:
        raise place.error(expected, value)
    return SetWeight(share_bp)


def _holdback(value: object, place: _Place) -> int:
    expected = "a percentage from 0 to 50"
    share_bp = _percent_bp(value, place, expected)
    if not 0 <= share_bp <= 5000:
        raise place.error(expected, value)
    return share_bp


def _pause(value: object, place: _Place) -> Pause:
    given = _mapping({} if value is None else value, place, {"duration": duration_s})
    return Pause(given["duration"]) if given else Pause()


def _steps(value: object, place: _Place) -> tuple[Step, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STEPS:
        raise place.error(f"a list of 1 to {MAX_STEPS} steps", value)
    steps: list[Step] = []
    for index, item in enumerate(value):
        here = place / index
        if not isinstance(item, dict) or len(item) != 1:
            raise here.error("one of setWeight: PERCENT, pause: {duration: 10m}, pause: {}", item)
        step = _mapping(item, here, {"setWeight": _set_weight, "pause": _pause})
        steps.extend(step.values())
    return tuple(steps)


def _bake(value: object, place: _Place) -> float:
    given = _mapping(value, place, {"duration": duration_s})
    if not given:
        raise place.error("{duration: 1h}", value)
    return float(given["duration"])


def _quantiles(value: object, place: _Place) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise place.error("a list of quantiles such as [0.5, 0.95]", value)
    found = tuple(_chance(item, place / index) for index, item in enumerate(value))
    if len(set(found)) != len(found):
        raise place.error("quantiles that differ", value)
    return found


def _check(kind: Callable[..., Any], known: Mapping[str, _Parser]) -> _Parser:
    def parse(value: object, place: _Place) -> object:
        return kind(**_mapping({} if value is None else value, place, known))

    return parse


def _checks(value: object, place: _Place) -> Checks:
    """What the file lists is judged, and nothing else."""
    latency = {"quantiles": _quantiles, "margin": _margin}
    given = _mapping(
        value,
        place,
        {
            "errors": _check(ErrorsCheck, {"margin": _margin}),
            "latency": _check(LatencyCheck, latency),
            "ttft": _check(LatencyCheck, latency),
            "score": _check(ScoreCheck, {"field": _text, "margin": _margin}),
        },
    )
    if not given:
        raise place.error("at least one of 'errors', 'latency', 'ttft', 'score'", value)
    return Checks(**({"errors": None, "latency": None} | given))


_KEYS: dict[str, _Parser] = {
    "steps": _steps,
    "bake": _bake,
    "alpha": _chance,
    "beta": _chance,
    "lease": _lease,
    "grace": duration_s,
    "dwell": duration_s,
    "holdback": _holdback,
    "block": _block,
    "settle": _block,
    "sampleRatioTolerance": _tolerance,
    "checks": _checks,
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
}


def _listed(known: Mapping[str, _Parser]) -> str:
    return ", ".join(repr(key) for key in sorted(known))


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


class _StrictLoader(yaml.SafeLoader):
    """YAML as SafeLoader reads it, but a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  PyYAML's own signature
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
