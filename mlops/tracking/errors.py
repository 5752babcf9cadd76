"""How MLflow can fail its caller. Two kinds, told apart by what helps."""

from __future__ import annotations


class TrackingError(Exception):
    """MLflow did not do what was asked."""


class TrackingUnavailable(TrackingError):
    """Nobody answers there, or not as MLflow. Trying again later may help."""


class TrackingRefused(TrackingError):
    """It understood and refused; the same call will be refused again."""
