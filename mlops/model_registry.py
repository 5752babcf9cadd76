"""Model versions in MLflow's registry: semantic versions as tags, aliases for what is live.

`champion` is what users get, `challenger` what is being released, `previous` what a rollback
returns to. Aliases follow what the gateways do; nothing reads them to route a request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Final

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput, Run

from mlops.config import MlopsConfig, read_config
from mlops.contracts.release import PROMOTED_PHASES, ReleaseStatus
from mlops.registry.marks import aliases_of, make_champion, set_alias, set_tag
from mlops.registry.numbering import is_above, next_version
from mlops.registry.values import (
    REJECTED_TAG,
    VERSION_TAG,
    Alias,
    ModelKind,
    NotReleased,
    ProtectedVersion,
    RegisteredVersion,
    UnknownVersion,
    metric_tags,
    read_version,
    space_of,
    space_tags,
)
from mlops.registry.versioning import EmbeddingSpace, Facts
from mlops.tracking.connection import MlflowConnection
from mlops.tracking.errors import TrackingError, TrackingRefused, TrackingUnavailable

__all__ = [
    "Alias",
    "EmbeddingSpace",
    "ModelKind",
    "NotReleased",
    "ProtectedVersion",
    "RAGModelRegistry",
    "RegisteredVersion",
    "TrackingError",
    "TrackingRefused",
    "TrackingUnavailable",
    "UnknownVersion",
]

MODEL_FOLDER: Final = "model"
"""Where a run keeps its model, unless it logged it as one of MLflow's models."""

NUMBERING_WAIT_S: Final = 30.0
"""Longest wait for a version made just before; numbering one takes a tenth of a second."""
_NUMBERING_POLL_S: Final = 0.1


class RAGModelRegistry:
    """Every call may raise `TrackingUnavailable` or `TrackingRefused`. Safe in many threads."""

    def __init__(self, config: MlopsConfig | None = None) -> None:
        """`config` defaults to what the environment says. Nothing is connected yet."""
        config = config or read_config()
        self._connection = MlflowConnection(config.mlflow)
        self._stage = config.model.stage

    # ---- registering ----------------------------------------------------------------------------

    def register_embedding_model(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        *,
        model_name: str = ModelKind.EMBEDDING.default_name,
        space: EmbeddingSpace | None = None,
        version: str | None = None,
        once: bool = False,
    ) -> str:
        """Register what a run made; the semantic version that it got.

        Args:
            run_id: of the training run. What it logged with MLflow's `log_model` is the version's
                source, else its artifact folder `model`, else all of its artifacts.
            metrics: on held-out queries; see `Facts.metrics` for what makes a gain count.
            model_name: under which it is registered.
            space: by default what the run's parameters `embedding_model`, `dimension`, `index` say.
            version: a semantic version above all others, where it is not to follow from the change.
            once: a version that this run has already is the answer; makes the call repeatable.

        Raises:
            ValueError: a metric is no finite number, or `version` is not above the others.
        """
        if once and (made := self._made_by(model_name, run_id)) is not None:
            return made
        return self.register(
            ModelKind.EMBEDDING, run_id, metrics, model_name, space, version=version
        )

    def register_reranker(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        *,
        model_name: str = ModelKind.RERANKER.default_name,
    ) -> str:
        """As `register_embedding_model`; a reranker has no embedding space."""
        return self.register(ModelKind.RERANKER, run_id, metrics, model_name, EmbeddingSpace())

    def register_generator(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        *,
        model_name: str = ModelKind.GENERATOR.default_name,
    ) -> str:
        """As `register_embedding_model`; a generator has no embedding space."""
        return self.register(ModelKind.GENERATOR, run_id, metrics, model_name, EmbeddingSpace())

    def register(
        self,
        kind: ModelKind,
        run_id: str,
        metrics: Mapping[str, float],
        model_name: str,
        space: EmbeddingSpace | None,
        *,
        version: str | None = None,
    ) -> str:
        """What the calls above have in common."""
        for name, value in metrics.items():
            if not isfinite(value):
                raise ValueError(f"metric {name!r} is {value!r}, expected a finite number")
        with self._connection.calling(f"register {model_name}", registry=True) as client:
            run = client.get_run(run_id)
            space = space or space_of(run.data.params)
            if version is not None:
                _require_above(version, self._versions(client, model_name))
            _require_model(client, model_name, kind)
            source, model_id = _source_of(client, run)
            made = client.create_model_version(
                model_name,
                source=source,
                run_id=run_id,
                model_id=model_id,
                await_creation_for=0,  # else it looks again after a quarter of a minute
                tags={
                    "kind": kind,
                    **metric_tags(metrics),
                    **space_tags(space),
                },
            )
            return self._number(
                client,
                model_name,
                int(made.version),
                Facts(space=space, metrics=dict(metrics)),
                version,
            )

    def _made_by(self, model_name: str, run_id: str) -> str | None:
        """The version that a run has. One whose maker died before it was numbered is forgotten."""
        what = f"find {model_name} of run {run_id}"
        with self._connection.calling(what, registry=True) as client:
            found = [one for one in self._versions(client, model_name) if one.run_id == run_id]
            for one in found:
                if one.version:
                    return one.version
                client.delete_model_version(model_name, one.mlflow_version)
        return None

    def _number(
        self,
        client: MlflowClient,
        model: str,
        mlflow_version: int,
        facts: Facts,
        asked: str | None,
    ) -> str:
        """Tag a version with its semantic one, once every version before it has its own.

        MLflow counts versions one by one, also those made at the same time, so going in that order
        never gives a number twice. One whose maker died before it was numbered holds the others up
        for `NUMBERING_WAIT_S` after it was made (or after we began to wait, where MLflow's clock is
        ahead), and then stays without.
        """
        deadline_s = time.monotonic() + NUMBERING_WAIT_S
        before = self._versions(client, model, before=mlflow_version)
        while any(_is_being_numbered(one, datetime.now(UTC)) for one in before):
            if time.monotonic() > deadline_s:  # MLflow's clock is ahead of ours
                break
            time.sleep(_NUMBERING_POLL_S)
            before = self._versions(client, model, before=mlflow_version)
        chosen, decision = next_version([one for one in before if one.version], facts)
        if asked is not None:
            chosen = asked
        for key, value in (
            ("change", str(decision.change)),
            ("change_reason", decision.reason),
            (VERSION_TAG, chosen),
        ):
            set_tag(client, model, str(mlflow_version), key, value)
        return chosen

    # ---- finding --------------------------------------------------------------------------------

    def resolve(self, model_name: str, version: str | None = None) -> RegisteredVersion:
        """A version by its semantic version or alias; by default what the configured stage means.

        Raises:
            UnknownVersion: there is none.
        """
        wanted = self._stage.alias if version is None else version
        found = self.history(model_name)
        for one in found:
            if wanted == one.version or wanted in one.aliases:
                return one
        known = ", ".join(one.version for one in found) or "none"
        raise UnknownVersion(f"{model_name} has no version {wanted!r}; there are: {known}")

    def by_mlflow_version(self, model_name: str, mlflow_version: str | int) -> RegisteredVersion:
        """A version by MLflow's counter.

        Raises:
            UnknownVersion: there is none.
        """
        for one in self.history(model_name):
            if one.mlflow_version == str(mlflow_version):
                return one
        raise UnknownVersion(f"{model_name} has no version {mlflow_version} in MLflow's counting")

    def history(self, model_name: str) -> list[RegisteredVersion]:
        """Every version, newest first."""
        with self._connection.calling(f"list {model_name}", registry=True) as client:
            return [one for one in self._versions(client, model_name) if one.version]

    def download(self, model_name: str, version: str, folder: Path) -> Path:
        """Copy a version's files below `folder`; where they lie.

        Raises:
            UnknownVersion: there is no such version.
        """
        one = self.resolve(model_name, version)
        with self._connection.calling(f"download {model_name} {version}") as client:
            found = download_artifacts(
                artifact_uri=one.source,
                dst_path=str(folder),
                tracking_uri=client.tracking_uri,
            )
        return Path(found)

    # ---- aliases --------------------------------------------------------------------------------

    def set_challenger(self, model_name: str, version: str) -> None:
        """Say which version is being released."""
        one = self.resolve(model_name, version)
        with self._connection.calling(f"alias {model_name}", registry=True) as client:
            set_alias(client, model_name, Alias.CHALLENGER, one.mlflow_version)

    def adopt_champion(self, model_name: str, version: str) -> None:
        """Say what users had before any release of ours; nothing where there is a champion."""
        one = self.resolve(model_name, version)
        with self._connection.calling(f"alias {model_name}", registry=True) as client:
            if Alias.CHAMPION not in aliases_of(client, model_name):
                set_alias(client, model_name, Alias.CHAMPION, one.mlflow_version)

    def promote(self, model_name: str, version: str, release: ReleaseStatus) -> None:
        """After a release has brought a version to everybody: it is champion, the old one previous.

        Repeating it changes nothing.

        Raises:
            NotReleased: the release is not of this version, or has not promoted it.
        """
        if release.version != version or release.phase not in PROMOTED_PHASES:
            raise NotReleased(
                f"release {release.id} of {release.version} is {release.phase}; only one that "
                f"promoted {version} (baking or settled) makes it champion"
            )
        one = self.resolve(model_name, version)
        with self._connection.calling(f"promote {model_name} {version}", registry=True) as client:
            aliases = aliases_of(client, model_name)
            old = aliases.get(Alias.CHAMPION)
            if old != one.mlflow_version:
                # Before the alias, by which the next attempt knows that this has been done.
                set_tag(client, model_name, one.mlflow_version, "promoted_at", _now())
                if one.rejected:  # by an earlier release
                    client.delete_model_version_tag(model_name, one.mlflow_version, REJECTED_TAG)
                make_champion(client, model_name, one.mlflow_version, old)
            if aliases.get(Alias.CHALLENGER) == one.mlflow_version:
                client.delete_registered_model_alias(model_name, Alias.CHALLENGER)

    def withdraw(self, model_name: str, version: str) -> None:
        """After a release was given up without blame: nobody releases the version any more.

        Nothing is marked; it may be released again. Repeating it changes nothing.
        """
        one = self.resolve(model_name, version)
        with self._connection.calling(f"withdraw {model_name} {version}", registry=True) as client:
            if aliases_of(client, model_name).get(Alias.CHALLENGER) == one.mlflow_version:
                client.delete_registered_model_alias(model_name, Alias.CHALLENGER)

    def roll_back(self, model_name: str, version: str, reason: str) -> None:
        """After a version was taken back: it is marked, and no alias leads to it any more.

        If it was champion, `previous` is champion again. Repeating it changes nothing.
        """
        one = self.resolve(model_name, version)
        with self._connection.calling(f"roll back {model_name} {version}", registry=True) as client:
            why = reason or "rolled back"
            set_tag(client, model_name, one.mlflow_version, REJECTED_TAG, why)
            aliases = aliases_of(client, model_name)
            if aliases.get(Alias.CHALLENGER) == one.mlflow_version:
                client.delete_registered_model_alias(model_name, Alias.CHALLENGER)
            champion, previous = aliases.get(Alias.CHAMPION), aliases.get(Alias.PREVIOUS)
            # Both lead to one where an attempt broke off between the two calls.
            if previous is not None and champion in {one.mlflow_version, previous}:
                set_alias(client, model_name, Alias.CHAMPION, previous)
                client.delete_registered_model_alias(model_name, Alias.PREVIOUS)

    def delete_version(self, model_name: str, version: str) -> None:
        """Forget a version.

        Raises:
            ProtectedVersion: an alias points at it.
        """
        one = self.resolve(model_name, version)
        if one.aliases:
            raise ProtectedVersion(
                f"{model_name} {one.version} is {', '.join(one.aliases)}; a version that is live, "
                "on its way, or kept for a rollback is not deleted"
            )
        with self._connection.calling(f"delete {model_name} {version}", registry=True) as client:
            client.delete_model_version(model_name, one.mlflow_version)

    @staticmethod
    def _versions(
        client: MlflowClient, model: str, before: int | None = None
    ) -> list[RegisteredVersion]:
        by_version: dict[str, list[str]] = {}
        for alias, version in aliases_of(client, model).items():
            by_version.setdefault(version, []).append(alias)
        found = client.search_model_versions(f"name = '{model}'")
        versions = [
            read_version(one, tuple(sorted(by_version.get(str(one.version), ()))))
            for one in found
            if before is None or int(one.version) < before
        ]
        return sorted(versions, key=lambda one: int(one.mlflow_version), reverse=True)


def _require_above(version: str, others: list[RegisteredVersion]) -> None:
    if not is_above(version, others):
        numbers = ", ".join(one.version for one in others if one.version)
        raise ValueError(f"version {version} is not above all there are: {numbers}")


def _is_being_numbered(one: RegisteredVersion, now: datetime) -> bool:
    """Whether it is ours, has no semantic version yet, and was made a moment ago."""
    age_s = (now - one.created_at).total_seconds()
    return bool(one.kind) and not one.version and age_s < NUMBERING_WAIT_S


def _require_model(client: MlflowClient, name: str, kind: ModelKind) -> None:
    if client.search_registered_models(f"name = '{name}'"):
        return
    try:
        client.create_registered_model(name, tags={"kind": kind})
    except Exception:
        if not client.search_registered_models(f"name = '{name}'"):
            raise  # else somebody else made it just now


def _source_of(client: MlflowClient, run: Run) -> tuple[str, str | None]:
    """Where a run's model lies, and MLflow's id of it where it was logged as a model.

    Of several logged models it is the one named `model`, else the last.
    """
    logged = [client.get_logged_model(one.model_id) for one in _model_outputs(run)]
    if logged:
        chosen = next((one for one in reversed(logged) if one.name == MODEL_FOLDER), logged[-1])
        return chosen.artifact_location, chosen.model_id
    if any(one.path == MODEL_FOLDER for one in client.list_artifacts(run.info.run_id)):
        return f"{run.info.artifact_uri}/{MODEL_FOLDER}", None
    return run.info.artifact_uri, None


def _model_outputs(run: Run) -> list[LoggedModelOutput]:
    return run.outputs.model_outputs if run.outputs is not None else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
