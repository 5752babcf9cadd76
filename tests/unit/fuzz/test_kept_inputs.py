"""Rules that hold whatever comes from disk, from people and from model servers: the kept corpora.

`make fuzz` looks for more, guided by coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import features, files, spool

CORPUS = Path(features.__file__).parent / "corpus"
CHECKS: dict[str, Callable[[bytes], None]] = {
    "spool": spool.check_spool,
    "gateway_file": files.check_gateway_file,
    "policy": files.check_policy,
    "features": features.check_features,
}
KEPT = [(name, path) for name in CHECKS for path in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize(("name", "path"), KEPT, ids=lambda each: getattr(each, "name", each))
def test_kept(name: str, path: Path) -> None:
    CHECKS[name](path.read_bytes())


@pytest.mark.parametrize("name", CHECKS)
def test_kept_inputs_put_together_and_changed(name: str) -> None:
    kept = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]

    @settings(max_examples=100, deadline=None, derandomize=True)  # to look for more: make fuzz
    @given(
        st.sampled_from(kept),
        st.sampled_from(kept),
        st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 9), st.binary(max_size=3))),
    )
    def check(data: bytes, other: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        for at, cut, word in changes:
            data = data[:at] + word + data[at + cut :]
        CHECKS[name](data)
        CHECKS[name](data[: len(data) // 2] + other[len(other) // 2 :])

    check()
