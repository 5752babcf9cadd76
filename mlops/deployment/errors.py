"""How a gateway, the agent or a model server can fail its caller, told apart by what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.deployment.rollback import RolledBack


class Unavailable(Exception):
    """A server did not answer, or said that it cannot now. Trying again may help."""


class Refused(Exception):
    """A server understood and refused; the same request will be refused again."""

    def __init__(self, message: str, *, status: int, code: str = "") -> None:
        """`status` is HTTP's, `code` the `Problem`'s."""
        super().__init__(message)
        self.status = status
        self.code = code


class GatewayError(Exception):
    """A gateway did not do what was asked."""


class GatewayUnavailable(Unavailable, GatewayError):
    """A gateway is away."""


class GatewayRefused(Refused, GatewayError):
    """A gateway refused."""


class StaleGeneration(GatewayRefused):
    """The plan is not newer than the live one."""

    def __init__(self, message: str, *, live_generation: int) -> None:
        super().__init__(message, status=409, code="stale_generation")
        self.live_generation = live_generation


class AgentError(Exception):
    """The agent did not do what was asked."""


class AgentUnavailable(Unavailable, AgentError):
    """The agent is away."""


class AgentRefused(Refused, AgentError):
    """The agent refused."""


class ServerError(Exception):
    """A model server did not load what it was asked to."""


class ServerUnavailable(Unavailable, ServerError):
    """A model server is away."""


class ServerRefused(Refused, ServerError):
    """No such version, say, or one that it cannot serve.

    `code` is `not_servable`, or what the artifact store says of itself: `missing_bucket`,
    `bad_credentials`, `corrupt_artifact`, `no_space`.
    """


class NotDeployable(ValueError):
    """What is asked for cannot be deployed as it stands; says what is missing."""


class ReleaseUnderWay(NotDeployable):
    """Another version is being released on the route: wait for its end, or abort it."""

    def __init__(self, message: str, *, release_id: str) -> None:
        super().__init__(message)
        self.release_id = release_id


class RollbackIncomplete(Exception):
    """Some gateways did not confirm; the others have rolled back."""

    def __init__(self, message: str, result: RolledBack) -> None:
        super().__init__(message)
        self.result = result
