"""What a person is told when a service is away or refuses, whichever command they gave."""

from __future__ import annotations

import errno
import sys
from typing import Any, Final

import click

from cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_ANSWER

AWAY: Final = frozenset(
    {
        "mlops.artifact_store.errors:StoreUnavailable",
        "mlops.deployment.errors:Unavailable",
        "mlops.feature_store.errors:Unavailable",
        "mlops.tracking.errors:TrackingUnavailable",
    }
)
"""Exceptions by name: importing their modules would slow every command."""
REFUSED: Final = frozenset(
    {
        "mlops.artifact_store.errors:ArtifactError",
        "mlops.config.reading:ConfigError",
        "mlops.deployment.errors:Refused",
        "mlops.feature_store.errors:Refused",
        "mlops.tracking.errors:TrackingError",
    }
)

LOOK: Final = "`rag-mlops doctor` looks at every service, `rag-mlops config` shows where they are"
NOBODY: Final = "a question was asked, and standard input has no answer; --help names its option"

FILES_FAULT: Final = frozenset(
    {
        errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENOSPC,
        errno.ENOTDIR, errno.EPERM, errno.EROFS,
    }
)  # fmt: skip
"""What a person can mend of a file that they named."""

AGENT_TOKEN: Final = "AGENT_OPERATOR_TOKEN"  # noqa: S105  a variable's name
GATEWAY_TOKEN: Final = "GATEWAY_OPERATOR_TOKEN"  # noqa: S105  the same


def token_hint(status: int | None, variable: str) -> str:
    """What to do about a 401."""
    if status != 401:
        return ""
    return f"; the token comes from {variable}, or from the context that --context names"


class Problem(click.ClickException):
    """A sentence, and the exit code that stands for it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code  # click reads it of the object


class PlainErrors(click.Group):
    """A group whose commands end with a sentence, not a traceback, when a service fails them."""

    def invoke(self, ctx: click.Context) -> Any:
        """Do the command; what it failed of is told, and the exit code is as `cli.exits` says."""
        try:
            return super().invoke(ctx)
        except click.Abort:  # at a question
            if sys.stdin.isatty():
                ctx.exit(EXIT_INTERRUPTED)
            raise Problem(NOBODY, EXIT_FAILED) from None
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)  # not 1: nothing was refused, and nothing rolled back
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise  # click's own, or our bug: the traceback says where
            raise problem from error


def problem_of(error: Exception) -> Problem | None:
    """None: neither a service of ours nor a file failed so."""
    if isinstance(error, OSError) and error.filename and error.errno in FILES_FAULT:
        return Problem(f"{error.filename}: {error.strerror}", EXIT_FAILED)
    kinds = {f"{kind.__module__}:{kind.__name__}" for kind in type(error).__mro__}
    if kinds & AWAY:
        return Problem(f"{error}\n{LOOK}", EXIT_NO_ANSWER)
    return Problem(str(error), EXIT_FAILED) if kinds & REFUSED else None
