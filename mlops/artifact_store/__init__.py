"""Models and their files in an S3 bucket."""

from mlops.artifact_store.errors import (
    ArtifactError,
    BadCredentials,
    CorruptArtifact,
    DestinationExists,
    MissingBucket,
    NoSpace,
    StoreUnavailable,
    UnknownArtifact,
    VersionExists,
)
from mlops.artifact_store.store import MinIOArtifactStore, StoredModel

__all__ = [
    "ArtifactError",
    "BadCredentials",
    "CorruptArtifact",
    "DestinationExists",
    "MinIOArtifactStore",
    "MissingBucket",
    "NoSpace",
    "StoreUnavailable",
    "StoredModel",
    "UnknownArtifact",
    "VersionExists",
]
