"""How a gateway's admin API can fail its caller. Three kinds, told apart by what helps."""

from __future__ import annotations


class GatewayError(Exception):
    """A gateway did not do what was asked."""


class GatewayUnavailable(GatewayError):
    """It did not answer, or said that it cannot now. Trying again may help."""


class GatewayRefused(GatewayError):
    """It understood and refused; the same request will be refused again."""

    def __init__(self, message: str, *, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class StaleGeneration(GatewayRefused):
    """The plan is not newer than the live one."""

    def __init__(self, message: str, *, live_generation: int) -> None:
        super().__init__(message, status=409, code="stale_generation")
        self.live_generation = live_generation
