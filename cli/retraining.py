"""`retrain`: the steps of a retraining, one command each, for pipelines that are not Python."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from cli.options import FILE, FOLDER
from cli.output import dry_run_option, is_data, print_data, prints
from cli.progress import shown
from cli.shapes import WouldBegin, WouldDo
from mlops.artifact_store import MinIOArtifactStore
from mlops.config import MlopsConfig, read_config
from mlops.feature_store import ClickHouseFeatureStore
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import ModelKind, RAGModelRegistry
from mlops.serving.corpus import load_corpus
from mlops.training import steps
from mlops.training.documents import Documents
from mlops.training.outcomes import STOPPED_EXIT_CODE, Outcome, Step, Stopped
from mlops.training.partition import Partition, PartitionConflict, StepMissing
from mlops.training.plan import Labelling, Plan, TrainerKind, Window
from mlops.training.trainers import MissingExtra

CURRENT = "current"
NONE = "none"
LATE_SCORES = timedelta(hours=1)
"""How long scores may come after their answer; see docs/feature_store.md."""

_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"])
Command = Callable[..., None]


@click.group()
def retrain() -> None:
    """Train a version from logged traffic, step by step, in a partition.

    A step that stops exits with 99 and says why; done again it says the same again.
    """


def _common(command: Command) -> Command:
    for option in (
        prints(Outcome, WouldBegin, WouldDo),
        dry_run_option,
        click.option(
            "--data-path",
            type=FOLDER,
            help="Folder of the partitions.  [default: MLOPS_RETRAINING_DATA_PATH]",
        ),
        click.option("--partition", "name", required=True, help="Name of the partition."),
    ):
        command = option(command)
    return command


@retrain.command()
@_common
@click.option("--since", type=_TIME, required=True, help="Rows that ended from here on, UTC.")
@click.option("--until", type=_TIME, required=True, help="Rows that ended before.")
@click.option("--as-of", type=_TIME, help="Scores that had arrived by then.  [default: +1 h]")
@click.option(
    "--model", default=ModelKind.EMBEDDING.default_name, show_default=True, help="Registered name."
)
@click.option(
    "--champion",
    default=CURRENT,
    show_default=True,
    help="Version to beat; `current`: what the registry says now, `none`: the frozen encoder.",
)
@click.option("--route", help="Only this route's traffic.")
@click.option("--evaluation", help="Late score that counts.  [default: the relevance score]")
@click.option(
    "--labelling",
    type=click.Choice([str(one) for one in Labelling]),
    default=str(Labelling.TOP_ANSWER),
    show_default=True,
    help="How a score says which document was right.",
)
@click.option(
    "--min-samples", type=int, help="Valid samples needed.  [default: MLOPS_RETRAINING_MIN_SAMPLES]"
)
@click.option("--seed", type=int, default=7, show_default=True, help="Of everything drawn.")
@click.option(
    "--trainer",
    type=click.Choice([str(one) for one in TrainerKind]),
    default=str(TrainerKind.LINEAR_ADAPTER),
    show_default=True,
    help="How to train.",
)
@click.option(
    "--documents",
    type=FILE,
    help="JSON of digest, ids, passages, domains.  [default: what the model server here serves]",
)
def extract(
    name: str,
    output: str,
    data_path: Path | None,
    documents: Path | None,
    *,
    dry_run: bool,
    **options: Any,
) -> None:
    """Begin a partition: the rows of a window as of a moment, and the documents."""
    config = read_config()
    partition = _partition(config, data_path, name)
    plan = _plan(config, partition, options)
    if dry_run:
        _would_begin(output, partition, plan)
        return
    with ClickHouseFeatureStore(config.clickhouse) as store:
        _say(
            output,
            lambda: steps.extract(
                plan, partition, store=store, documents=_documents(documents, partition)
            ),
        )


@retrain.command()
@_common
def validate(name: str, output: str, data_path: Path | None, *, dry_run: bool) -> None:
    """Check the rows, find right documents, split the queries."""
    partition = _partition(read_config(), data_path, name)
    if dry_run:
        _would_do(output, partition, Step.VALIDATE)
        return
    _say(output, lambda: steps.validate(partition))


@retrain.command()
@_common
def train(name: str, output: str, data_path: Path | None, *, dry_run: bool) -> None:
    """Embed, train, and build the index."""
    partition = _partition(read_config(), data_path, name)
    if dry_run:
        _would_do(output, partition, Step.TRAIN)
        return
    with shown(output) as tell:
        _say(output, lambda: steps.train(partition, progress=tell))


@retrain.command()
@_common
def evaluate(name: str, output: str, data_path: Path | None, *, dry_run: bool) -> None:
    """Compare with the champion on queries that no trainer saw."""
    config = read_config()
    partition = _partition(config, data_path, name)
    if dry_run:
        _would_do(output, partition, Step.EVALUATE)
        return

    def step() -> Outcome:
        artifacts = MinIOArtifactStore(config.minio)
        champion = steps.fetch_champion(partition.plan(), partition, artifacts)
        return steps.evaluate(partition, champion=champion, progress=tell)

    with shown(output) as tell:
        _say(output, step)


@retrain.command()
@_common
def register(name: str, output: str, data_path: Path | None, *, dry_run: bool) -> None:
    """Log, register and store what was found better."""
    config = read_config()
    partition = _partition(config, data_path, name)
    if dry_run:
        _would_do(output, partition, Step.REGISTER)
        return
    with RAGModelTracker(config.mlflow) as tracker:
        _say(
            output,
            lambda: steps.register(
                partition,
                tracker=tracker,
                registry=RAGModelRegistry(config),
                artifacts=MinIOArtifactStore(config.minio),
            ),
        )


def _plan(config: MlopsConfig, partition: Partition, options: dict[str, Any]) -> Plan:
    since, until = (options[name].replace(tzinfo=UTC) for name in ("since", "until"))
    as_of = options["as_of"].replace(tzinfo=UTC) if options["as_of"] else until + LATE_SCORES
    try:
        window = Window(since=since, until=until, as_of=as_of)  # before the registry is asked
        return Plan(
            model=options["model"],
            champion=_champion(config, partition, options["champion"], options["model"]),
            window=window,
            route=options["route"],
            evaluation=options["evaluation"],
            labelling=Labelling(options["labelling"]),
            min_samples=options["min_samples"] or config.retraining.min_samples,
            trainer=TrainerKind(options["trainer"]),
            seed=options["seed"],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _champion(config: MlopsConfig, partition: Partition, asked: str, model: str) -> str | None:
    """`current` is looked up once: a partition that was begun keeps what it was begun with."""
    if asked == NONE:
        return None
    if asked != CURRENT:
        return asked
    try:
        return partition.plan().champion
    except StepMissing:
        return steps.champion_of(RAGModelRegistry(config), model)


def _documents(path: Path | None, partition: Partition) -> Documents:
    if path is None:
        return Documents.of_corpus(load_corpus(partition.path.parent))
    try:
        return msgspec.json.decode(path.read_bytes(), type=Documents)
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"{path}: {error}") from error


def _partition(config: MlopsConfig, data_path: Path | None, name: str) -> Partition:
    try:
        return Partition(data_path or config.retraining.data_path, name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _would_begin(output: str, partition: Partition, plan: Plan) -> None:
    """The plan that `extract` would keep, unless another one is kept there."""
    try:
        if partition.plan() != plan:
            raise click.ClickException(f"{partition.path} was begun with another plan")
    except StepMissing:
        pass  # nothing was begun
    else:
        _would_do(output, partition, Step.EXTRACT)
        return
    shown = msgspec.to_builtins(plan)
    if is_data(output):
        print_data(output, WouldBegin(dry_run=True, partition=str(partition.path), plan=shown))
        return
    click.echo(f"dry run: would begin {partition.path}")
    for key, value in shown.items():
        click.echo(f"{key}\t{value}")


def _would_do(output: str, partition: Partition, step: Step) -> None:
    """Whether the step is still to be done; how it ended where it was done before."""
    order = list(Step)
    before = order[order.index(step) - 1] if step is not order[0] else None

    def outcome() -> Outcome | None:
        if (found := partition.stopped() or partition.outcome(step)) is None and before is not None:
            partition.required(before)
        return found

    try:
        found = outcome()
    except StepMissing as error:
        raise click.ClickException(str(error)) from error
    if found is not None:
        _say(output, lambda: found)
    elif is_data(output):
        print_data(output, WouldDo(dry_run=True, partition=str(partition.path), step=step))
    else:
        click.echo(f"dry run: would {step} in {partition.path}")


def _say(output: str, step: Callable[[], Outcome]) -> None:
    """Do the step and print how it ended; 99 where it stopped."""
    try:
        outcome = step()
    except (PartitionConflict, StepMissing, MissingExtra) as error:
        raise click.ClickException(str(error)) from error
    if is_data(output):
        print_data(output, outcome)
    elif isinstance(outcome, Stopped):
        click.echo(f"{outcome.step} stopped ({outcome.reason}): {outcome.sentence}")
    else:
        for key, value in msgspec.to_builtins(outcome).items():
            click.echo(f"{key}\t{value}")
    if isinstance(outcome, Stopped):
        raise SystemExit(STOPPED_EXIT_CODE)
