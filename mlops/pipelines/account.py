"""How a run of the retraining pipeline ended, told from what its steps left. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from mlops.contracts.release import ReleaseStatus
from mlops.training.outcomes import (
    Evaluated,
    Extracted,
    Outcome,
    Registered,
    Step,
    Stopped,
    Trained,
    Validated,
)


class Ending(StrEnum):
    """Where a run has come to."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    """The release was ended without blaming the version."""
    STOPPED = "stopped"
    """A step refused to go on; nothing is registered."""
    UNFINISHED = "unfinished"
    """A step failed, or its release is still under way: the run is not done."""


ENDING_OF_PHASE = {
    "settled": Ending.PROMOTED,
    "rolled_back": Ending.ROLLED_BACK,
    "aborted": Ending.ABORTED,
}


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """The release that a run began, as the agent last told of it."""

    release_id: str
    model: str
    version: str
    route: str
    phase: str
    reasons: tuple[str, ...] = ()
    url: str = ""

    @classmethod
    def of(cls, model: str, status: ReleaseStatus, url: str) -> Released:
        """As the agent tells of it, at `url`."""
        return cls(
            release_id=status.id,
            model=model,
            version=status.version,
            route=status.route,
            phase=status.phase,
            reasons=status.reasons,
            url=url,
        )


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one step did."""

    step: str
    what: str


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run."""

    partition: str
    ending: Ending
    sentence: str
    lines: tuple[Line, ...]


def account_of(
    partition: str, outcomes: Mapping[Step, Outcome | None], released: Released | None
) -> Account:
    """What happened, in the order of the steps.

    Args:
        partition: its name.
        outcomes: what each step left; None where it left nothing.
        released: the release, if one was begun.
    """
    lines = [
        Line(step=str(step), what=sentence_of(found))
        for step, found in outcomes.items()
        if found is not None
    ]
    if released is not None:
        lines.append(Line(step="release", what=_release_sentence(released)))
    ending, sentence = _ending(outcomes, released)
    return Account(partition=partition, ending=ending, sentence=sentence, lines=tuple(lines))


def _ending(
    outcomes: Mapping[Step, Outcome | None], released: Released | None
) -> tuple[Ending, str]:
    for found in outcomes.values():
        if isinstance(found, Stopped):
            return Ending.STOPPED, sentence_of(found)
    if released is None:
        missing = next((step for step, found in outcomes.items() if found is None), None)
        what = f"step {missing} has not been done" if missing else "no release was begun"
        return Ending.UNFINISHED, what
    return ENDING_OF_PHASE.get(released.phase, Ending.UNFINISHED), _release_sentence(released)


def _release_sentence(released: Released) -> str:
    why = "; ".join(released.reasons)
    return (
        f"{released.model} {released.version} on route {released.route!r} is {released.phase}"
        + (f": {why}" if why else "")
        + f" (release {released.release_id})"
    )


def sentence_of(found: Outcome) -> str:
    """What a step did, in one sentence with its numbers."""
    match found:
        case Stopped():
            return f"stopped at {found.step} ({found.reason}): {found.sentence}"
        case Extracted():
            return (
                f"{found.rows:,} rows, {found.scored_rows:,} of them with a score, and "
                f"{found.documents:,} documents"
            )
        case Validated():
            dropped = sum(found.dropped.values())
            return (
                f"{found.samples:,} samples: {found.training_pairs:,} to train, "
                f"{found.validation_pairs:,} to stop by, {found.held_out_pairs:,} held out; "
                f"{dropped:,} rows left out"
            )
        case Trained():
            return (
                f"{found.trainer} on {found.encoder}: validation MRR "
                f"{found.frozen_validation_mrr:.3f} -> {found.validation_mrr:.3f} in "
                f"{found.seconds:.1f} s"
            )
        case Evaluated():
            return found.sentence
        case Registered():
            return f"{found.model} {found.version} registered from run {found.run_id}"
