"""What is told of a run, whichever way it ended."""

from __future__ import annotations

import pytest

from mlops.pipelines.account import Ending, Released, account_of
from mlops.training.outcomes import Extracted, Outcome, Step, Stopped, StopReason

EXTRACTED = Extracted(
    rows=1_200,
    scored_rows=900,
    documents=10,
    documents_digest="d",
    rows_digest="r",
    first_ended_at="",
    last_ended_at="",
)
STOPPED = Stopped(
    step=Step.VALIDATE, reason=StopReason.TOO_FEW_SAMPLES, sentence="40 of 100 samples"
)


def outcomes(**found: Outcome) -> dict[Step, Outcome | None]:
    return {one: found.get(one) for one in Step}


def released(phase: str) -> Released:
    return Released(
        release_id="rel-1", model="m", version="1.1.0", route="rag", phase=phase, reasons=("why",)
    )


def test_a_stop_is_told_with_its_reason() -> None:
    account = account_of("p", outcomes(extract=EXTRACTED, validate=STOPPED), None)
    assert account.ending is Ending.STOPPED
    assert account.sentence == "stopped at validate (too_few_samples): 40 of 100 samples"
    assert [one.step for one in account.lines] == ["extract", "validate"]


@pytest.mark.parametrize(
    ("phase", "ending"),
    [
        ("settled", Ending.PROMOTED),
        ("rolled_back", Ending.ROLLED_BACK),
        ("aborted", Ending.ABORTED),
        ("baking", Ending.UNFINISHED),
        ("progressing", Ending.UNFINISHED),
    ],
)
def test_a_release_ends_the_run_as_it_ends_itself(phase: str, ending: Ending) -> None:
    account = account_of("p", outcomes(extract=EXTRACTED), released(phase))
    assert account.ending is ending
    assert "m 1.1.0 on route 'rag' is " + phase in account.sentence
    assert "why" in account.sentence


def test_a_step_that_left_nothing_is_named() -> None:
    account = account_of("p", outcomes(extract=EXTRACTED), None)
    assert account.ending is Ending.UNFINISHED
    assert account.sentence == "step validate has not been done"
