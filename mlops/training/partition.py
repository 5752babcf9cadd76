"""One retraining's folder: its plan, the files of its steps, and what each step said.

A step writes its files first and its report last, whole. With the report there the step is done and
is never done again; without it, what lies there of a broken attempt is written over.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from mlops.serving.files import write_whole
from mlops.training.outcomes import Outcome, Step, Stopped
from mlops.training.plan import Plan

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_PLAN: Final = "plan.json"


class PartitionConflict(ValueError):
    """The partition was begun with another plan."""


class StepMissing(RuntimeError):
    """A step is asked for whose predecessor has not been done."""


class Partition:
    """A named folder below the folder of partitions (`MLOPS_RETRAINING_DATA_PATH`)."""

    def __init__(self, root: Path, name: str) -> None:
        """Nothing is made on disk yet.

        Raises:
            ValueError: `name` is not letters, digits, dots, dashes and underscores.
        """
        if _NAME.match(name) is None:
            raise ValueError(
                f"partition {name!r}: expected up to 128 letters, digits, '.', '-' and '_', "
                "such as 2026-01-31T0000"
            )
        self.name = name
        self.path = root / name

    def __repr__(self) -> str:
        return f"Partition({self.path})"

    def begin(self, plan: Plan) -> None:
        """Keep the plan; safe to repeat with the same one.

        Raises:
            PartitionConflict: another plan is kept here.
        """
        if (self.path / _PLAN).exists():
            if self.plan() != plan:
                raise PartitionConflict(
                    f"{self.path} was begun with another plan; a partition is never reused: "
                    "take another name"
                )
            return
        write_whole(self.path / _PLAN, msgspec.json.format(msgspec.json.encode(plan)) + b"\n")

    def plan(self) -> Plan:
        """Raises StepMissing where nothing was begun."""
        try:
            content = (self.path / _PLAN).read_bytes()
        except FileNotFoundError as error:
            raise StepMissing(f"{self.path} has no plan: begin it with `extract`") from error
        return msgspec.json.decode(content, type=Plan)

    def outcome(self, step: Step) -> Outcome | None:
        """What a step said; None where it has not been done."""
        try:
            content = self._report(step).read_bytes()
        except FileNotFoundError:
            return None
        found: Outcome = msgspec.json.decode(content, type=Outcome)
        return found

    def required(self, step: Step) -> Outcome:
        """What a step said that must have been done by now.

        Raises:
            StepMissing: it has not.
        """
        found = self.outcome(step)
        if found is None:
            raise StepMissing(f"{self.path}: step {step} has not been done")
        return found

    def stopped(self) -> Stopped | None:
        """The stop that this partition ended with, if it did."""
        outcomes = (self.outcome(step) for step in Step)
        return next((one for one in outcomes if isinstance(one, Stopped)), None)

    def finish(self, step: Step, outcome: Outcome) -> None:
        """Say that a step is done: the last thing it writes."""
        content = msgspec.json.format(msgspec.json.encode(outcome)) + b"\n"
        write_whole(self._report(step), content)

    def _report(self, step: Step) -> Path:
        return self.path / f"{step}.json"
