"""What a rule takes out is gone, and what it does not is as it was."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.model import Body, Features
from gateway.features.redaction import PATTERNS, Drop, Mask, hash_of, luhn, redact
from gateway.features.rules import RouteRules, Rules
from mlops.contracts.record import MAX_TEXT_CHARS

SECRET = "a secret of some length"
EVERYTHING = Mask(frozenset(PATTERNS))

MASKED = [
    ("write to ann.lee+x@mail.example.org now", "write to [email] now"),
    ("ann@example.org, bob@example.org.", "[email], [email]."),
    ("card 4111 1111 1111 1111 please", "card [card] please"),
    ("4111-1111-1111-1111", "[card]"),
    ("378282246310005", "[card]"),
    ("no. 17 4111 1111 1111 1111 12 27", "no. 17 [card] 12 27"),
    ("from 192.168.0.17 at", "from [ip] at"),
    ("10.0.0.1:8080 and 255.255.255.255", "[ip]:8080 and [ip]"),
    ("2001:db8::8a2e:370:7334 or ::1", "[ip] or [ip]"),
    ("fe80:0:0:0:200:f8ff:fe21:67cf", "[ip]"),
    ("call +49 (0)30 901820 today", "call [phone] today"),
    ("call (555) 123-4567", "call [phone]"),
    ("0041 44 668 18 00", "[phone]"),
]

LEFT = [
    "a lease of 30 seconds, 12,000 requests, 3.14159",
    "on 2024-05-17 and 17.05.2024",
    "version 1.2.3 of rag-embedding",
    "not an address: user@, @home, a@b",
    "at 10:30:45, std::vector, 1:2",
    "ERR-20231199",
]


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_a_person_s_data_is_masked(text: str, expected: str) -> None:
    assert EVERYTHING.text(text) == expected


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_a_little_like_it_is_left(text: str) -> None:
    assert EVERYTHING.text(text) == text


@pytest.mark.parametrize("name", PATTERNS)
def test_only_the_patterns_asked_for_are_masked(name: str) -> None:
    text = "ann@example.org 4111111111111111 10.1.2.3 +49 30 901820"
    masked = Mask(frozenset({name})).text(text)
    assert masked is not None
    assert masked.count("[") >= 1
    assert f"[{name}]" in masked
    for other in PATTERNS.keys() - {name}:
        assert f"[{other}]" not in masked


def test_a_card_is_one_by_its_check_digit() -> None:
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")
    assert Mask(frozenset({"card"})).text("4111111111111112") == "4111111111111112"


@given(st.text(alphabet="0123456789 .:-()+@abf", max_size=80))
def test_masking_again_changes_nothing(text: str) -> None:
    once = EVERYTHING.text(text)
    assert once is not None
    assert EVERYTHING.text(once) == once


def test_an_address_cut_at_the_end_of_a_long_text_is_not_left_half() -> None:
    text = ("x" * MAX_TEXT_CHARS)[:-9] + " ann@exam"
    masked = EVERYTHING.text(text)
    assert masked is not None
    assert "ann" not in masked


def test_long_text_without_anything_is_quick_to_look_through() -> None:
    """Patterns are bounded: no text makes them go over it again and again."""
    for text in ("a." * 30_000 + "@", "1 " * 30_000, "1.1." * 15_000, ":" * 60_000, "(" * 60_000):
        EVERYTHING.text(text)


@given(st.text(st.sampled_from("abc é@:.+-/() 0123456789٣")))
def test_a_text_passed_over_at_a_glance_has_nothing_in_it(text: str) -> None:
    expected = text
    for mask in PATTERNS.values():
        expected = mask(expected)
    assert EVERYTHING.text(text) == expected


@pytest.mark.parametrize("length", [16, 63, 64, 65, 300])
def test_a_hash_is_an_hmac_however_long_the_secret_is(length: int) -> None:
    secret = "s" * length
    expected = hmac.digest(secret.encode(), "annä".encode(), "sha256")[:16].hex()
    assert hash_of(secret).text("annä") == expected


def test_equal_values_have_equal_hashes_under_one_secret() -> None:
    rule = hash_of(SECRET)
    expected = hmac.new(SECRET.encode(), b"ann", hashlib.sha256).hexdigest()[:32]
    assert rule.text("ann") == rule.text("ann") == expected
    assert hash_of(SECRET + "!").text("ann") != expected
    assert SECRET not in repr(rule)


def test_a_short_secret_is_refused_without_being_said() -> None:
    with pytest.raises(ValueError, match="has 5 bytes, expected at least 16") as caught:
        hash_of("short")
    assert "short" not in str(caught.value)


def test_every_kind_of_feature_can_be_dropped() -> None:
    features = Features(
        query_text="why",
        embedding=[1.0],
        prompt_tokens=3,
        relevance_score=0.5,
        retrieved_ids=["a"],
        retrieved_scores=[0.1],
        retrieved_count=1,
        user_id="u",
    )
    names = ("query_text", "embedding", "prompt_tokens", "relevance_score", "retrieved_ids")
    redact(features, dict.fromkeys(names, Drop()))
    assert features == Features(user_id="u", retrieved_count=1)


def test_lists_of_text_are_hashed_one_by_one() -> None:
    rule = hash_of(SECRET)
    features = Features(retrieved_ids=["a", "b"])
    redact(features, {"retrieved_ids": rule})
    assert features.retrieved_ids == [rule.text("a"), rule.text("b")]


def test_an_unknown_route_lets_nothing_through() -> None:
    """What it would have redacted is not known: its file came later, or is gone."""
    rules = Rules({"rag": RouteRules()})
    asked = Body(data=b'{"query_text": "why"}')
    assert rules.features("rag", "native", "/", asked, Body()).query_text == "why"
    assert rules.features("other", "native", "/", asked, Body()) == Features(
        missing=["unknown_route"]
    )
