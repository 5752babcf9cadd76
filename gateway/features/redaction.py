"""What is taken out of the features before anything of them leaves the process. Pure.

Rules come from the gateway's file, per route and feature: `drop` it, `hash` it with a secret, so
that equal values stay equal, or `mask` what looks like a person's data inside of a text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from gateway.features.model import Features
from mlops.contracts.record import MAX_TEXT_CHARS

HASH_BYTES = 16
"""Of a hash that is kept: 128 bits, with which no two of a billion users are taken for one."""
MIN_SECRET_BYTES = 16
"""Ids are guessed easily, so the secret alone keeps a hash from being turned back."""

_EDGE_CHARS = 64
"""Taken off the end of a text that was cut to what a row takes: half an address is no pattern."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Keep nothing."""

    def text(self, value: str) -> str | None:
        """None, whatever it is."""
        return None


@dataclass(frozen=True, slots=True)
class Hash:
    """HMAC-SHA-256 with a secret, in hexadecimal."""

    secret: bytes = field(repr=False)

    def text(self, value: str) -> str | None:
        """32 hexadecimal digits, the same for equal values under one secret."""
        begun_inner, begun_outer = _keyed(self.secret)
        inner, outer = begun_inner.copy(), begun_outer.copy()
        inner.update(value.encode())
        outer.update(inner.digest())
        return outer.digest()[:HASH_BYTES].hex()


@lru_cache(maxsize=64)
def _keyed(secret: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Where both hashes of an HMAC with this secret begin (RFC 2104): that much of the cost is the
    same for every value, and copies of `hmac`'s own state cost more than the rest.
    """
    block_bytes = hashlib.sha256().block_size
    key = secret if len(secret) <= block_bytes else hashlib.sha256(secret).digest()
    padded = key.ljust(block_bytes, b"\0")
    return (
        hashlib.sha256(bytes(byte ^ _INNER_PAD for byte in padded)),
        hashlib.sha256(bytes(byte ^ _OUTER_PAD for byte in padded)),
    )


_INNER_PAD, _OUTER_PAD = 0x36, 0x5C


@dataclass(frozen=True, slots=True)
class Mask:
    """Names of `PATTERNS`, applied in their order there."""

    patterns: frozenset[str]

    def text(self, value: str) -> str | None:
        """The text with a word in brackets in place of each match."""
        if len(value) >= MAX_TEXT_CHARS:
            value = value[:-_EDGE_CHARS]
        if not _may_match(value):
            return value
        for name, mask in PATTERNS.items():
            if name in self.patterns:
                value = mask(value)
        return value


Rule = Drop | Hash | Mask
Redaction = Mapping[str, Rule]
"""By feature."""


def redact(features: Features, redaction: Redaction) -> None:
    """Change `features` by the rules; afterwards nothing of what they take out is left in it."""
    for name, rule in redaction.items():
        value = getattr(features, name)
        if isinstance(value, str):
            setattr(features, name, rule.text(value))
        elif isinstance(rule, Drop):
            setattr(features, name, [] if isinstance(value, list) else None)
            if name == "retrieved_ids":
                features.retrieved_scores = []
        elif isinstance(value, list):
            setattr(features, name, [rule.text(item) for item in value])


# ---- patterns ---------------------------------------------------------------------------------
# Each needs a character without which there is nothing to find, and most texts have none of them.

_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_DIGIT_GROUPS = re.compile(r"\d(?:[ -]?\d){12,}")
_DIGITS = re.compile(r"\d+")
_IPV4 = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\.?\d)"
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}(?:(?<=:)(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])")
_PHONE = re.compile(r"(?<![\w.,/-])(?:\+|00)?\(?\d(?:[ ()./-]{0,3}\d){6,14}(?![\w-])")
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./]\d{4}")
_ANY_DIGIT = re.compile(r"\d")
_ASCII_DIGITS = b"0123456789"
_TELLTALES = b"@:" + _ASCII_DIGITS
"""One of these is in whatever a pattern finds in ASCII."""
_MIN_CARD_DIGITS, _MAX_CARD_DIGITS = 13, 19
_PHONE_DIGITS = range(7, 16)
"""Seven: shorter numbers are amounts and years as a rule. Fifteen: the longest there is (E.164)."""


def _may_match(text: str) -> bool:
    """Whether any pattern can find something. Of a text in ASCII, as most are, this one look takes
    a tenth of the time that the patterns' own take."""
    return not text.isascii() or _has_any(text, _TELLTALES)


def _has_digit(text: str) -> bool:
    if not text.isascii():
        return _ANY_DIGIT.search(text) is not None
    return _has_any(text, _ASCII_DIGITS)


def _has_any(text: str, characters: bytes) -> bool:
    encoded = text.encode()
    return len(encoded.translate(None, characters)) < len(encoded)


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others, as in the number of every payment card."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _emails(text: str) -> str:
    return _EMAIL.sub("[email]", text) if "@" in text else text


def _cards(text: str) -> str:
    return _DIGIT_GROUPS.sub(_masked_cards, text) if _has_digit(text) else text


def _masked_cards(found: re.Match[str]) -> str:
    """Groups of digits that together are a card's number; others beside them stay."""
    text = found[0]
    groups = list(_DIGITS.finditer(text))
    parts: list[str] = []
    done = first = 0
    while first < len(groups):
        last, digits = -1, ""
        for index in range(first, len(groups)):
            digits += groups[index][0]
            if len(digits) > _MAX_CARD_DIGITS:
                break
            if len(digits) >= _MIN_CARD_DIGITS and luhn(digits):
                last = index
        if last >= 0:
            parts += (text[done : groups[first].start()], "[card]")
            done = groups[last].end()
        first = max(first, last) + 1
    return "".join(parts) + text[done:]


def _addresses(text: str) -> str:
    if _has_digit(text):
        text = _IPV4.sub("[ip]", text)
    return _IPV6.sub(_masked_ipv6, text) if "::" in text or text.count(":") >= 7 else text


def _masked_ipv6(found: re.Match[str]) -> str:
    try:
        IPv6Address(found[0])
    except AddressValueError:
        return found[0]
    return "[ip]" if len(found[0]) > 2 else found[0]


def _phones(text: str) -> str:
    def masked(found: re.Match[str]) -> str:
        digits = re.sub(r"\D", "", found[0])
        is_phone = len(digits) in _PHONE_DIGITS and not _DATE.fullmatch(found[0])
        return "[phone]" if is_phone else found[0]

    return _PHONE.sub(masked, text) if _has_digit(text) else text


PATTERNS: Mapping[str, Callable[[str], str]] = {
    "email": _emails,
    "card": _cards,
    "ip": _addresses,
    "phone": _phones,
}
"""In the order in which they are applied: a card number would pass for a phone's."""


def hash_of(secret: str) -> Hash:
    """A rule out of a secret.

    Raises:
        ValueError: the secret is too short to be one.
    """
    encoded = secret.encode()
    if len(encoded) < MIN_SECRET_BYTES:
        raise ValueError(
            f"the secret has {len(encoded)} bytes, expected at least {MIN_SECRET_BYTES}"
        )
    return Hash(encoded)
