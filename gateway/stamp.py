"""The part of a spooled record that its lane shares. Apart from `record`, which is compiled."""

from __future__ import annotations

import msgspec


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a record that every exchange of one plan and arm shares.

    Encoded once (`msgspec.json`) when a plan comes into force, and copied into each record.
    """

    route: str
    model: str
    generation: int
    share_bp: int
    arm: str
    served_arm: str
    version: str
    """Of the slot that answered."""
    profile: str
    """How the recorder reads the bodies."""
