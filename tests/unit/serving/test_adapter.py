"""An adapter's file holds one, or says what it holds instead."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from mlops.serving.adapter import Adapter


def saved(**arrays: object) -> bytes:
    content = BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def one_array() -> bytes:
    content = BytesIO()
    np.save(content, np.eye(2, dtype=np.float32))
    return content.getvalue()


def test_what_is_written_is_read() -> None:
    weights = np.eye(3, dtype=np.float32)
    found = Adapter.from_bytes(Adapter(queries=weights, documents=2 * weights).to_bytes())
    assert found.dimension == 3
    assert (found.documents == 2 * weights).all()


def test_a_file_of_one_map_has_it_on_both_sides() -> None:
    found = Adapter.from_bytes(saved(weights=np.eye(2, dtype=np.float32)))
    assert (found.queries == found.documents).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 and no more",
        b"{}",
        one_array(),
        saved(queries=np.eye(2, dtype=np.float32)),
        saved(weights=np.float32(1)),
        saved(weights=np.ones(4, dtype=np.float32)),
        saved(weights=np.ones((2, 3), dtype=np.float32)),
        saved(weights=np.eye(2)),
        saved(weights=np.full((2, 2), np.nan, dtype=np.float32)),
        saved(weights=np.array([[object()]])),
        Adapter.identity(64).to_bytes().replace(b"\x00\x00\x80?", b"\x00\x00\x00\x00", 1),
    ],
    ids=["empty", "torn", "text", "one array", "one side", "a number", "a vector", "not square",
         "double", "not finite", "objects", "damaged"],
)  # fmt: skip
def test_what_is_no_adapter_is_refused_as_a_value(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Adapter.from_bytes(content)
