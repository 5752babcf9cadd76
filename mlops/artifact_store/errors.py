"""How the artifact store can fail its caller; each kind is mended elsewhere."""

from __future__ import annotations


class ArtifactError(Exception):
    """Something could not be stored or brought back."""


class StoreUnavailable(ArtifactError):
    """The S3 server does not answer, or says that it cannot now. Trying again may help."""


class BadCredentials(ArtifactError):
    """The server knows no such key, or the key may not do this."""


class MissingBucket(ArtifactError):
    """The bucket is not there; `rag-mlops artifacts init` makes it."""


class NoSpace(ArtifactError):
    """The server's disk, or this machine's, is full."""


class CorruptArtifact(ArtifactError):
    """What lies in the store is not what was stored."""


class VersionExists(ArtifactError):
    """This version was stored before with other content; versions are never overwritten."""


class UnknownArtifact(ArtifactError):
    """No such model, version or file was stored."""


class DestinationExists(ArtifactError):
    """Something else lies where the download should go; nothing of it was touched."""
