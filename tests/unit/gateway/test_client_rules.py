"""How many clients a worker takes in."""

from __future__ import annotations

import pytest

from gateway.client_rules import MAX_TURNED_AWAY, OWN_DESCRIPTORS, ClientRules, most_clients
from gateway.settings import ClientSettings, LimitSettings


@pytest.mark.parametrize(
    ("descriptors", "most"),
    [(262_144, 207_923), (20_000, 14_208), (8_192, 4_761), (1_024, 332), (192, 1), (20, 1)],
)
def test_clients_leave_descriptors_to_upstreams_and_to_those_turned_away(
    descriptors: int, most: int
) -> None:
    assert most_clients(descriptors) == most
    limits = LimitSettings(connections=most)
    told = ClientRules(ClientSettings(limits=limits)).max_turned_away
    left = descriptors - OWN_DESCRIPTORS - most - told
    assert left >= min(most, 2_000) or most == 1


def test_not_everybody_above_the_bound_is_told() -> None:
    rules = ClientRules(ClientSettings(limits=LimitSettings(connections=10_000)))
    assert rules.max_turned_away == MAX_TURNED_AWAY
    assert ClientRules(ClientSettings(limits=LimitSettings(connections=3))).max_turned_away == 16
