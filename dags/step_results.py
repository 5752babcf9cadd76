"""How a step of a pipeline can end other than with a result."""

from __future__ import annotations

from typing import TypeVar

import msgspec

STOPPED, NOT_WORTH_A_RETRY = 99, 64

T = TypeVar("T")


class BadRequest(ValueError):
    """The same request would fail again."""


class Refused(Exception):
    """The step refuses to go on; what follows it is skipped."""


def request_of(content: bytes, kind: type[T]) -> T:
    """The request of a step.

    Raises:
        BadRequest: a field is unknown, missing, or does not fit.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"request: {error}") from error
