"""The part of a spooled record that lane and endpoint share.

Apart from `record`, which is compiled.
"""

from __future__ import annotations

import msgspec


class Stamp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a record that every exchange of one plan, arm and endpoint shares.

    Encoded once (`msgspec.json`) when a plan comes into force, and copied into each record; of an
    exchange with several attempts encoded anew. Fields may be added: a recorder of another version
    leaves out what it does not know, and takes the default of what it does not find.
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
    endpoint: str = ""
    """That was asked last, as the plan writes it; empty where none was."""
    first_attempt_endpoint: str = ""
    """Of an exchange with several attempts: that the first one asked. Else left out."""
