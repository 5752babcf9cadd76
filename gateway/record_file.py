"""The keys of the file about what is recorded: `spool`, and `record` of a route."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.features.extract import PROFILES
from gateway.features.model import FEATURES, TEXT_FEATURES
from gateway.features.pointers import Pointer, pointer_of
from gateway.features.redaction import PATTERNS
from gateway.file_values import Duration, EnvironmentValue, FileKeys, Percent, Size
from gateway.settings import RecordSettings, RedactSettings, SpoolSettings
from gateway.spool.format import MIN_LIMIT_BYTES

MAX_BODIES_BYTES = 1024 * 1024
"""Longest part of a body that may be kept; the spool's segments are sized for it."""
MIN_FSYNC_S = 0.05
"""Below, the disk would do nothing else; a disk takes some milliseconds for one."""


class SpoolFile(FileKeys):
    """`spool`: absent where nothing is recorded."""

    dir: str
    limit: Size = msgspec.field(default_factory=lambda: Size("2GiB"))
    fsync: str = "off"


class RedactFile(FileKeys):
    """One feature's rule in `record.redact`, where it is not the word `drop`."""

    hash: EnvironmentValue | None = None
    mask: list[str] = msgspec.field(default_factory=list)


class RecordFile(FileKeys):
    """`record` of a route."""

    profile: str = "auto"
    bodies: Size = msgspec.field(default_factory=lambda: Size("64KiB"))
    sample: Percent = msgspec.field(default_factory=lambda: Percent(100))
    fields: dict[str, str] = msgspec.field(default_factory=dict)
    redact: dict[str, str | RedactFile] = msgspec.field(default_factory=dict)


def spool_settings(file: SpoolFile) -> SpoolSettings:
    """Raises ValueError starting with the key's path."""
    fsync_s: float | None = None
    if file.fsync != "off":
        try:
            fsync_s = Duration(file.fsync).seconds
        except ValueError as exc:
            raise ValueError(f"spool.fsync: expected off, or how often: {exc}") from exc
        if fsync_s < MIN_FSYNC_S:
            raise ValueError(
                f"spool.fsync: expected at least {MIN_FSYNC_S * 1000:g}ms, got {file.fsync!r}"
            )
    if not file.dir:
        raise ValueError("spool.dir: expected a directory, got an empty text")
    if file.limit.bytes < MIN_LIMIT_BYTES:
        raise ValueError(
            f"spool.limit: expected at least {MIN_LIMIT_BYTES // 1024**2}MiB, "
            f"got {file.limit.bytes:,} bytes"
        )
    return SpoolSettings(dir=Path(file.dir), limit_bytes=file.limit.bytes, fsync_s=fsync_s)


def record_settings(file: RecordFile, path: str) -> RecordSettings:
    """Raises ValueError starting with the key's path."""
    if file.bodies.bytes > MAX_BODIES_BYTES:
        raise ValueError(
            f"{path}.bodies: expected at most {MAX_BODIES_BYTES // 1024}KiB, "
            f"got {file.bodies.bytes:,} bytes"
        )
    if file.profile not in PROFILES:
        expected = ", ".join(sorted(PROFILES))
        raise ValueError(f"{path}.profile: expected one of {expected}, got {file.profile!r}")
    return RecordSettings(
        profile=file.profile,
        bodies_bytes=file.bodies.bytes,
        sample_percent=file.sample.percent,
        pointers=_pointers(file, f"{path}.fields"),
        redact=tuple(
            _redact(feature, value, f"{path}.redact.{feature}")
            for feature, value in file.redact.items()
        ),
    )


def _pointers(file: RecordFile, path: str) -> tuple[Pointer, ...]:
    try:
        return tuple(pointer_of(feature, text) for feature, text in file.fields.items())
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from exc


def _redact(feature: str, value: str | RedactFile, path: str) -> RedactSettings:
    if feature not in FEATURES:
        expected = ", ".join(sorted(FEATURES))
        raise ValueError(f"{path}: no such feature; expected one of {expected}")
    if isinstance(value, str):
        if value != "drop":
            raise ValueError(f"{path}: expected drop, a hash or a mask, got {value!r}")
        return RedactSettings(feature=feature)
    if (value.hash is None) == (not value.mask):
        raise ValueError(
            f"{path}: expected one of {{hash: {{env: NAME}}}} and {{mask: [email, ...]}}"
        )
    if feature not in TEXT_FEATURES:
        raise ValueError(f"{path}: no text, it can only be dropped")
    for name in value.mask:
        if name not in PATTERNS:
            raise ValueError(f"{path}.mask: expected some of {', '.join(PATTERNS)}, got {name!r}")
    secret = value.hash.env if value.hash is not None else None
    return RedactSettings(feature=feature, secret_variable=secret, mask=frozenset(value.mask))
