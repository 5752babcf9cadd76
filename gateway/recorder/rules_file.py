"""The rules of each route, out of the gateway's file, as it is now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway import config
from gateway.features.redaction import Drop, Mask, Rule, hash_of
from gateway.features.rules import RouteRules, Rules
from gateway.settings import GatewaySettings, RedactSettings

log = logging.getLogger(__name__)


def rules_of(settings: GatewaySettings, environ: Mapping[str, str]) -> Rules:
    """Secrets for hashing come from `environ`: only the recorder needs them.

    Raises:
        ValueError: a secret is missing or too short.
    """
    return Rules(
        {
            route.name: RouteRules(
                pointers=route.record.pointers,
                redaction={
                    redact.feature: _rule(route.name, redact, environ)
                    for redact in route.record.redact
                },
            )
            for route in settings.routes
        }
    )


def _rule(route: str, redact: RedactSettings, environ: Mapping[str, str]) -> Rule:
    if redact.mask:
        return Mask(redact.mask)
    if redact.secret_variable is None:
        return Drop()
    try:
        return hash_of(environ.get(redact.secret_variable, ""))
    except ValueError as exc:
        raise ValueError(
            f"route {route}: record.redact.{redact.feature}: the environment variable "
            f"{redact.secret_variable}: {exc}"
        ) from exc


class RulesFile:
    """Rules that follow their file.

    The gateway reads a changed file before it records by it, so whoever looks at the file after
    reading a record has the rules that the record was made under, or later ones.
    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        """Raises ValueError where the file cannot be used as it is."""
        self.on_bad_file: Callable[[], None] = lambda: None
        """Called where a changed file cannot be used."""
        self._path = path
        self._environ = environ
        self._seen = self._state()
        self._rules = self._read()

    def rules(self) -> Rules:
        """Those in force now. A file that cannot be used changes nothing, and is logged once."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._rules = self._read()
                log.info("%s was changed and is in force for what is read from now on", self._path)
            except (ValueError, OSError) as exc:
                self.on_bad_file()
                log.error("the rules stay as they were: %s", exc)  # noqa: TRY400 - says it all
        return self._rules

    def _read(self) -> Rules:
        settings = config.load(self._path, None)
        return rules_of(settings, self._environ)

    def _state(self) -> tuple[int, int, int]:
        """Changes with the file; all zeros while there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return status.st_ino, status.st_mtime_ns, status.st_size
