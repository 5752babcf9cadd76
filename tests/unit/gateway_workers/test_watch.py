"""When a worker is taken to hang: looks in a row, not looks in all."""

from __future__ import annotations

from gateway.crew import Watch, missed_in_a_row

A, B = 101, 102


def test_an_answer_forgives_what_was_missed_before() -> None:
    missed: dict[int, int] = {}
    for answered in (False, False, True, False):
        missed = missed_in_a_row(missed, {A: answered, B: False})
    assert missed == {A: 1, B: 4}


def test_nothing_is_remembered_of_a_worker_that_is_gone() -> None:
    assert missed_in_a_row({A: 9, B: 3}, {B: True}) == {B: 0}


def test_a_worker_has_20_seconds() -> None:
    """Each look waits for an answer as long as it waits for the next look."""
    watch = Watch()
    assert watch.max_missed * 2 * watch.every_s == 20
