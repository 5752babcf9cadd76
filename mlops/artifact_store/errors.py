"""How the artifact store can fail its caller; each kind is mended elsewhere."""

from __future__ import annotations

from typing import ClassVar


class ArtifactError(Exception):
    """Something could not be stored or brought back."""

    code: ClassVar[str] = "not_stored"
    """The kind in one word, for those who read of it in another process."""


class StoreUnavailable(ArtifactError):
    """The S3 server does not answer, or says that it cannot now. Trying again may help."""

    code = "store_unavailable"


class BadCredentials(ArtifactError):
    """The server knows no such key, or the key may not do this."""

    code = "bad_credentials"


class MissingBucket(ArtifactError):
    """The bucket is not there; `rag-mlops artifacts init` makes it."""

    code = "missing_bucket"


class NoSpace(ArtifactError):
    """The server's disk, or this machine's, is full."""

    code = "no_space"


class CorruptArtifact(ArtifactError):
    """What lies in the store is not what was stored."""

    code = "corrupt_artifact"


class VersionExists(ArtifactError):
    """This version was stored before with other content; versions are never overwritten."""

    code = "version_exists"


class UnknownArtifact(ArtifactError):
    """No such model, version or file was stored."""

    code = "unknown_artifact"


class DestinationExists(ArtifactError):
    """Something else lies where the download should go; nothing of it was touched."""

    code = "destination_exists"
