"""The retraining pipeline against a real stack: each way it can end, and each step killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.demo.story import ROUTE
from cli.demo.traffic import Traffic
from mlops.contracts.release import ENDED_PHASES, ReleaseStatus
from mlops.deployment.agent_client import AgentClient
from mlops.local.airflow import ENDED, Airflow
from mlops.model_registry import RAGModelRegistry, RegisteredVersion
from scripts.pipelines import MODEL, POLICY_OF_RUN, retraining_conf
from tests.pipelines.conftest import (
    MONITORING_DAG,
    RUN_TIMEOUT_S,
    Pipelines,
    task_states,
)
from tests.pipelines.conftest import (
    RETRAINING_DAG as DAG,
)

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(3_600)]

FOR_A_PERSON = POLICY_OF_RUN | {"steps": [{"setWeight": 50}, {"pause": {}}]}
"""Its release is undecided for as long as nobody says a word."""
UNDECIDED = {"progressing", "paused"}
FAULTS = ("--error-percent", "40", "--seed", "1")


def known_versions(pipelines: Pipelines) -> list[RegisteredVersion]:
    return RAGModelRegistry(pipelines.config).history(MODEL)


def known_releases(pipelines: Pipelines) -> list[ReleaseStatus]:
    async def ask() -> list[ReleaseStatus]:
        places = pipelines.config.places
        async with AgentClient(places.agent_url, places.agent_token, actor="test") as agent:
            return await agent.releases()

    return asyncio.run(ask())


def account(pipelines: Pipelines, since: set[Path]) -> dict[str, Any]:
    """Of the one run that was made since."""
    (made,) = set(pipelines.partitions.glob("*/account.json")) - since
    found: dict[str, Any] = json.loads(made.read_bytes())
    return found


def accounts(pipelines: Pipelines) -> set[Path]:
    return set(pipelines.partitions.glob("*/account.json"))


def now_conf() -> dict[str, Any]:
    return dict(retraining_conf(datetime.now(UTC)))


def test_airflow_reads_both_files(pipelines: Pipelines) -> None:
    found = pipelines.airflow("describe_dags.py")
    assert not found["errors"]
    assert set(found["dags"]) == {DAG, "model_monitoring_pipeline"}
    retraining = found["dags"][DAG]
    assert retraining["schedule"] == "0 0 * * *"
    assert not retraining["catchup"]
    assert retraining["tasks"]["evaluate"] == ["register"]
    assert retraining["tasks"]["settle_or_roll_back"] == ["report"]
    assert retraining["rules"]["report"] == "all_done"
    assert retraining["waits_s"]["train"] == [60, 120, 240]
    assert sum(retraining["waits_s"]["deploy_canary"]) == 3_600  # for a busy route
    assert min(retraining["retries"].values()) >= 3
    assert found["trigger"][0] == "dags.release_wait.ReleaseTrigger"


def test_the_schedule_is_that_of_the_setting(pipelines: Pipelines) -> None:
    found = pipelines.airflow("describe_dags.py", MLOPS_RETRAINING_SCHEDULE="30 4 * * 1-5")
    assert found["dags"][DAG]["schedule"] == "30 4 * * 1-5"


@pytest.mark.parametrize(
    ("changed", "settings", "skipped_at", "reason"),
    [
        (
            {"since": "2025-01-01T00:00:00Z", "until": "2025-01-02T00:00:00Z"},
            {},
            0,
            "empty_store",
        ),
        ({}, {"MLOPS_RETRAINING_MIN_SAMPLES": "1000000"}, 1, "too_few_samples"),
    ],
)
def test_a_stop_is_told_and_registers_nothing(
    pipelines: Pipelines,
    traffic: Traffic,
    changed: dict[str, Any],
    settings: dict[str, str],
    skipped_at: int,
    reason: str,
) -> None:
    before, told = known_versions(pipelines), accounts(pipelines)
    conf = now_conf() | changed
    conf["as_of"] = conf["until"]
    found = pipelines.test(DAG, conf, **settings)
    order = ["extract", "validate_and_preprocess", "train", "evaluate", "register"]
    done, skipped = order[:skipped_at], [*order[skipped_at:], "deploy_canary"]
    assert [found["tasks"][one] for one in done] == ["success"] * len(done)
    assert [found["tasks"][one] for one in skipped] == ["skipped"] * len(skipped)
    assert (found["tasks"]["report"], found["state"]) == ("success", "success")
    said = account(pipelines, told)
    assert said["ending"] == "stopped"
    assert reason in said["sentence"]
    assert known_versions(pipelines) == before
    assert known_releases(pipelines) == []


def test_a_canary_that_fails_is_rolled_back_and_the_run_tells_it(
    pipelines: Pipelines, traffic: Traffic, versions: dict[str, Path]
) -> None:
    stack, told = pipelines.stack, accounts(pipelines)
    stack.kill("model-b")
    stack.start_model("model-b", versions["1.0.0"], 0, faults=FAULTS)
    try:
        found = pipelines.test(DAG, now_conf())
    finally:
        stack.kill("model-b")
        stack.start_model("model-b", versions["1.0.0"], 0)
    assert found["state"] == "success", found
    said = account(pipelines, told)
    assert said["ending"] == "rolled_back"
    assert "errors" in said["sentence"]
    newest, base = known_versions(pipelines)
    assert newest.rejected
    assert (newest.aliases, base.aliases) == ((), ("champion",))


def test_an_undecided_release_holds_no_worker_and_its_end_wakes_the_run(
    pipelines: Pipelines, traffic: Traffic, both_dags: Airflow
) -> None:
    """There is one worker: what another run gets done meanwhile is done by it."""
    told, before = accounts(pipelines), {one.id for one in known_releases(pipelines)}
    run_id, other = "waits-for-a-person", "meanwhile"
    both_dags.run(DAG, run_id, now_conf() | {"policy": FOR_A_PERSON})

    def waits() -> bool:
        return task_states(both_dags, DAG, run_id).get("monitor_canary") == "deferred"

    both_dags.wait_until(
        lambda: waits() or both_dags.state(DAG, run_id) in ENDED, RUN_TIMEOUT_S, "no wait begins"
    )
    (release,) = [one for one in known_releases(pipelines) if one.id not in before]
    assert release.phase in UNDECIDED

    both_dags.run(MONITORING_DAG, other, {"hour": "2026-03-01T00:00:00Z"})
    assert both_dags.wait(MONITORING_DAG, other, RUN_TIMEOUT_S) == "success"
    assert waits()
    assert release_of(pipelines, release.id).phase in UNDECIDED

    asyncio.run(abort(pipelines, release.id))
    assert both_dags.wait(DAG, run_id, RUN_TIMEOUT_S) == "success"
    said = account(pipelines, told)
    assert (said["ending"], release.id in said["sentence"]) == ("aborted", True)
    tries = {one["task_id"]: one["try_number"] for one in both_dags.tasks(DAG, run_id)}
    assert (tries["deploy_canary"], tries["monitor_canary"]) == (1, 1)
    by_version = {one.version: one.aliases for one in known_versions(pipelines)}
    assert (by_version[release.version], by_version["1.0.0"]) == ((), ("champion",))


async def abort(pipelines: Pipelines, release_id: str) -> None:
    places = pipelines.config.places
    async with AgentClient(places.agent_url, places.agent_token, actor="test") as agent:
        await agent.command(release_id, "abort", "of this test")


def wait_until(holds: Callable[[], bool], timeout_s: float = 1_200.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s, "did not come to hold"
        time.sleep(0.02)


def is_decided(pipelines: Pipelines, release_id: str) -> bool:
    return is_over(pipelines, release_id) or release_of(pipelines, release_id).phase == "baking"


def is_over(pipelines: Pipelines, release_id: str) -> bool:
    return release_of(pipelines, release_id).phase in ENDED_PHASES


def release_of(pipelines: Pipelines, release_id: str) -> ReleaseStatus:
    (found,) = [one for one in known_releases(pipelines) if one.id == release_id]
    return found


def has_begun(process: subprocess.Popen[str], pipelines: Pipelines, partition: str) -> bool:
    """It has the partition to itself, or has ended already."""
    lock = (pipelines.partitions / ".locks" / partition).stat()
    held = f":{lock.st_ino} "
    for line in Path("/proc/locks").read_text().splitlines():
        if held in line and f" {process.pid} " in line:
            return True
    return process.poll() is not None


def test_every_step_killed_and_tried_again_makes_one_version_and_one_release(
    pipelines: Pipelines, traffic: Traffic
) -> None:
    partition = f"killed-{datetime.now(UTC):%H%M%S}"
    now = datetime.now(UTC)
    request = {
        name: value for name, value in now_conf().items() if name not in {"since", "until", "as_of"}
    } | {
        "partition": partition,
        "since": (now - timedelta(hours=2)).isoformat(),
        "until": now.isoformat(),
        "as_of": now.isoformat(),
        "policy": POLICY_OF_RUN,
    }
    folder = pipelines.partitions / partition
    versions_before, releases_before = known_versions(pipelines), known_releases(pipelines)
    reached: dict[str, Callable[[], bool]] = {
        "extract": (folder / "plan.json").exists,
        "validate": (pipelines.partitions / ".locks" / partition).exists,
        "train": (folder / "embeddings").exists,
        "evaluate": (folder / "champion").exists,
        "register": lambda: len(known_versions(pipelines)) > len(versions_before),
        "deploy": lambda: len(known_releases(pipelines)) > len(releases_before),
    }
    for step, condition in reached.items():
        process = pipelines.begin_step("retrain", step, request)
        wait_until(lambda done=condition, one=process: done() or one.poll() is not None)
        process.kill()
        process.communicate()  # waits for it, and closes its pipe
        code, said = pipelines.step("retrain", step, request)
        assert code == 0, said
    (version,) = [one for one in known_versions(pipelines) if one not in versions_before][:1]
    assert len(known_versions(pipelines)) == len(versions_before) + 1
    (release,) = [one for one in known_releases(pipelines) if partition in one.reason]
    assert release.version == version.version
    assert release.route == ROUTE

    for condition, after in ((is_decided, "follow"), (is_over, "report")):
        wait_until(lambda holds=condition: holds(pipelines, release.id))
        process = pipelines.begin_step("retrain", after, request)
        wait_until(lambda one=process: has_begun(one, pipelines, partition))
        process.kill()
        process.communicate()
        code, said = pipelines.step("retrain", after, request)
        assert code == 0, said
    said = json.loads((folder / "account.json").read_bytes())
    assert said["ending"] == "promoted", said
    by_version = {one.version: one.aliases for one in known_versions(pipelines)}
    assert by_version[version.version] == ("champion",)
    assert by_version["1.0.0"] == ("previous",)
