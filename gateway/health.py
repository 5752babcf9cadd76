"""Active health: what checks in a row mean. Pure."""

from __future__ import annotations

from gateway.upstream_settings import HealthCheckSettings


class Health:
    """One endpoint under `health_check`. It counts as healthy until checks say otherwise."""

    __slots__ = ("_in_a_row", "_settings", "healthy", "problem")

    def __init__(self, settings: HealthCheckSettings) -> None:
        self._settings = settings
        self._in_a_row = 0
        """Checks in a row that contradict `healthy`."""
        self.healthy = True
        self.problem = ""
        """Of the last check that failed; empty while healthy."""

    def checked(self, problem: str) -> bool:
        """Take in one check; empty: it passed. Whether `healthy` changed."""
        if problem and not self.healthy:
            self.problem = problem
        if (not problem) == self.healthy:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        needed = self._settings.unhealthy if self.healthy else self._settings.healthy
        if self._in_a_row < needed:
            return False
        self._in_a_row = 0
        self.healthy = not self.healthy
        self.problem = problem
        return True


def problem_of_status(status: int, settings: HealthCheckSettings) -> str:
    """Empty where the status passes."""
    if any(low <= status <= high for low, high in settings.expect):
        return ""
    wanted = ", ".join(
        str(low) if low == high else f"{low}-{high}" for low, high in settings.expect
    )
    return f"{settings.path} answered {status}, expected {wanted}"
