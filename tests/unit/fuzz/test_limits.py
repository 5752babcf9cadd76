"""An input may take so much CPU, and as long as it likes while others have the machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from threading import Event

import pytest

from tests.fuzz.limits import TooSlow, limited

CPU_S = 0.05


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGPROF)
    yield
    signal.signal(signal.SIGPROF, before)


def test_an_input_that_never_ends_is_found_even_where_exceptions_are_caught() -> None:
    def check(_data: bytes) -> None:
        while True:
            with suppress(Exception):
                while True:
                    pass

    with pytest.raises(TooSlow, match=r"more than 0\.05 s of CPU"):
        limited(check, CPU_S)(b"")


def test_waiting_is_no_work() -> None:
    waited: list[bytes] = []

    def check(data: bytes) -> None:
        Event().wait(3 * CPU_S)
        waited.append(data)

    limited(check, CPU_S)(b"a")
    assert waited == [b"a"]


def test_the_limit_ends_with_the_input() -> None:
    limited(lambda _: None, CPU_S)(b"")
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
