"""Whoever dies without a last word is still counted to the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.recorder.entries import Entry, Key
from gateway.recorder.untold import MAX_UNTOLD, Untold, last_words, told_after, untold_after
from gateway.spool.reader import Position
from mlops.contracts.tally import Tally, TallyEntry

STABLE: Key = ("rag", "stable", 3)
CANARY: Key = ("rag", "canary", 3)


def exchange(second: int, key: Key = STABLE, missing: int = 0) -> Entry:
    return Entry(
        start=Position(),
        end=Position(),
        weight_bytes=1,
        key=key,
        ended_at_us=second * 1_000_000 + 7,
        missing=missing,
    )


def tally(second: int, missing: int = 0) -> Entry:
    told = Tally(worker="0-a", second=second)
    return Entry(start=Position(), end=Position(), weight_bytes=1, tally=told, missing=missing)


def test_what_ended_after_the_last_tally_is_untold() -> None:
    entries = [exchange(5), exchange(6), tally(5), exchange(6), exchange(7, CANARY)]
    assert untold_after((), entries, 0, 0) == (Untold(6, STABLE, 2), Untold(7, CANARY, 1))


def test_counting_goes_on_from_the_batch_before() -> None:
    before = untold_after((), [exchange(5), exchange(6)], 0, 0)
    assert untold_after(before, [tally(5), exchange(6)], 6, 0) == (Untold(6, STABLE, 2),)
    assert untold_after(before, [tally(6)], 6, 5) == ()


def test_what_ended_before_the_last_tally_is_told_after_it() -> None:
    """The clock was set back: a tally of second 3 stands already, and another would replace it."""
    entries = [exchange(5), tally(5), exchange(3), exchange(4)]
    assert untold_after((), entries, 0, 0) == (Untold(6, STABLE, 2),)
    assert untold_after((), [exchange(3)], 6, 5) == (Untold(6, STABLE, 1),)
    assert untold_after((), [*entries, tally(6)], 0, 0) == ()


def test_a_lost_record_counts_as_its_neighbour_s() -> None:
    assert untold_after((), [exchange(5), exchange(5, CANARY, missing=2)], 0, 0) == (
        Untold(5, CANARY, 3, 2),
        Untold(5, STABLE, 1),
    )


def test_a_record_lost_before_a_tally_is_told_by_it() -> None:
    assert untold_after((), [exchange(5), tally(5, missing=1)], 0, 0) == ()


def test_seconds_whose_tally_is_lost_are_told_at_the_end() -> None:
    entries = [exchange(5), exchange(6, missing=1), tally(6), exchange(7), tally(7)]
    assert untold_after((), entries, 0, 0) == (Untold(5, STABLE, 1, stranded=True),)


def test_the_last_words_are_one_tally_a_second_and_the_final_one() -> None:
    untold = (Untold(6, CANARY, 3, 1), Untold(6, STABLE, 2), Untold(7, STABLE, 1))
    assert last_words("0-a", untold, 8) == [
        Tally(
            worker="0-a",
            second=6,
            entries=(
                TallyEntry(
                    route="rag", arm="canary", generation=3, answered=3, dropped={"damaged": 1}
                ),
                TallyEntry(route="rag", arm="stable", generation=3, answered=2),
            ),
        ),
        Tally(
            worker="0-a",
            second=7,
            entries=(TallyEntry(route="rag", arm="stable", generation=3, answered=1),),
        ),
        Tally(worker="0-a", second=8, final=True),
    ]


def test_without_tallies_seconds_are_summed_so_that_a_cursor_stays_small() -> None:
    entries = [exchange(second, key) for second in range(MAX_UNTOLD) for key in (STABLE, CANARY)]
    assert untold_after((), entries, 0, 0) == (
        Untold(MAX_UNTOLD - 1, CANARY, MAX_UNTOLD),
        Untold(MAX_UNTOLD - 1, STABLE, MAX_UNTOLD),
    )


@given(
    st.lists(
        st.tuples(st.sampled_from([STABLE, CANARY]), st.booleans(), st.integers(0, 2)), max_size=40
    ),
    st.integers(0, 40),
)
def test_told_and_untold_together_are_everything(
    steps: list[tuple[Key, bool, int]], cut: int
) -> None:
    """Wherever the batches are cut, and a worker tallies each second that is over."""
    second, told, entries = 10, 0, []
    waiting = 0
    for key, ticks, missing in steps:
        entries.append(exchange(second, key, missing))
        waiting += 1 + missing
        if ticks:
            entries.append(tally(second))
            told, waiting, second = told + waiting, 0, second + 1
    first = untold_after((), entries[:cut], 0, 0)
    last = max([0, *(entry.second for entry in entries[:cut])])
    untold = untold_after(first, entries[cut:], last, told_after(0, entries[:cut]))
    assert sum(each.answered for each in untold) == waiting
