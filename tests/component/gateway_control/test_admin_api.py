"""The admin API over HTTP: what it does, and what it refuses while the old state stays."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.plans import Origin
from mlops.contracts.api import Problem, RouteStatus
from mlops.contracts.plan import RoutePlan, Slot, promoted

OpenDesk = Callable[..., Awaitable[Any]]
MakePlan = Callable[..., RoutePlan]


async def status(desk: Any) -> RouteStatus:
    async with desk.client.get("/v1/routes/rag") as answer:
        assert answer.status == 200
        return msgspec.json.decode(await answer.read(), type=RouteStatus)


async def send(desk: Any, method: str, path: str, body: object = None, **more: Any) -> Any:
    """The answer's status with its RouteStatus or Problem."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    data = b"" if body is None else data
    async with desk.client.request(method, path, data=data, **more) as answer:
        kind = RouteStatus if answer.status == 200 else Problem
        return answer.status, msgspec.json.decode(await answer.read(), type=kind)


def after_promotion(plan: MakePlan, generation: int) -> RoutePlan:
    return promoted(
        plan(generation - 1),
        generation=generation,
        holdback_share_bp=500,
        lease_s=30,
        set_by="agent",
        reason="",
    )


async def test_weights_by_hand_are_the_next_generation_held_and_on_disk(
    open_desk: OpenDesk, plan: MakePlan
) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", plan(7))
    body = {"stable": 75, "canary": 25, "reason": "looks good"}
    code, after = await send(
        desk, "PUT", "/v1/routes/rag/weights", body, headers={"x-actor": "alice"}
    )
    assert code == 200
    assert (after.plan.generation, after.share_bp, after.plan.hold) == (8, 2500, True)
    assert (after.lease, after.plan.set_by) == (None, "alice (operator)")
    assert desk.store.load("rag").plan == after.plan
    assert desk.plan_in_force() == after.plan
    async with desk.client.get("/v1/routes/rag/weights") as answer:
        assert await answer.json() == {"stable": 75, "canary": 25, "reason": "looks good"}


REFUSED = [
    ("weights", {"stable": 80, "canary": 30}, 400, "sum to 110, expected 100"),
    ("weights", {"stable": 104, "canary": -4}, 400, "below 0"),
    ("weights", {"stable": 4, "canary": 96}, 400, "outside 0..9500"),
    ("weights", {"stable": 99.999, "canary": 0.001}, 400, "two decimals"),
    ("weights", {"stable": 90, "canary": 10, "reson": "x"}, 400, "unknown field `reson`"),
    ("weights", b"{", 400, "the body is not as expected"),
    ("weights", b"\xff", 400, "the body is not as expected"),
    ("lease", {"generation": 6, "lease_s": 30}, 409, "generation 7 is live"),
    ("lease", {"generation": 7, "lease_s": 0}, 400, "must be above 0"),
    ("plan", b"", 400, "the body is not as expected"),
    ("plan", b"[" * 100_000, 400, "the body is not as expected"),
]


@pytest.mark.parametrize(("what", "body", "expected", "said"), REFUSED)
async def test_a_refused_change_says_why_and_the_old_state_stays(
    open_desk: OpenDesk, plan: MakePlan, what: str, body: object, expected: int, said: str
) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", plan(7))
    before = await status(desk)
    code, problem = await send(desk, "PUT", f"/v1/routes/rag/{what}", body)
    assert code == expected
    assert said in problem.error
    assert await status(desk) == before
    assert desk.store.load("rag").plan == before.plan


async def test_an_old_generation_is_refused_with_the_live_one(
    open_desk: OpenDesk, plan: MakePlan
) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", plan(7))
    code, problem = await send(desk, "PUT", "/v1/routes/rag/plan", plan(7, lease_s=None))
    assert (code, problem.code, problem.live_generation) == (409, "stale_generation", 7)
    assert (await status(desk)).plan.lease_s == 30


async def test_a_plan_for_another_route_or_with_a_bad_endpoint_is_refused(
    open_desk: OpenDesk, plan: MakePlan
) -> None:
    desk = await open_desk()
    other = msgspec.structs.replace(plan(7), route="other")
    code, problem = await send(desk, "PUT", "/v1/routes/rag/plan", other)
    assert code == 400
    assert "expected 'rag' as in the path, got 'other'" in problem.error
    code, problem = await send(desk, "PUT", "/v1/routes/other/plan", other)
    assert (code, problem.code) == (404, "not_found")
    bad_plan = msgspec.to_builtins(plan(7))
    bad_plan["canary"]["endpoints"] = ["http://127.0.0.1:99999"]
    code, problem = await send(desk, "PUT", "/v1/routes/rag/plan", bad_plan)
    assert code == 400
    assert "127.0.0.1:99999" in problem.error
    assert (await status(desk)).plan.generation == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-key", "a\r\nx-admin: 1"), ("bad name", "v"), ("Content-Length", "3"), ("x", "\u00e9")],
)
async def test_a_header_that_could_break_the_framing_is_refused(
    open_desk: OpenDesk, plan: MakePlan, name: str, value: str
) -> None:
    desk = await open_desk()
    bad_plan = msgspec.to_builtins(plan(7))
    bad_plan["canary"]["headers"] = {name: value}
    code, problem = await send(desk, "PUT", "/v1/routes/rag/plan", bad_plan)
    assert code == 400
    assert repr(name) in problem.error
    assert "x-admin" not in problem.error


async def test_fields_of_a_newer_version_are_ignored_and_counted(
    open_desk: OpenDesk, plan: MakePlan
) -> None:
    desk = await open_desk()
    body = msgspec.json.decode(msgspec.json.encode(plan(7)))
    body["shadow"] = 1
    body["canary"]["zone"] = "b"
    code, _ = await send(desk, "PUT", "/v1/routes/rag/plan", body)
    assert code == 200
    renewal = {"generation": 7, "lease_s": 30, "until": "x"}
    code, _ = await send(desk, "PUT", "/v1/routes/rag/lease", renewal)
    assert code == 200
    samples = await metrics(desk)
    assert samples["gateway_unknown_fields_total", "plan"] == 2
    assert samples["gateway_unknown_fields_total", "lease"] == 1


async def metrics(desk: Any) -> dict[tuple[str, ...], float]:
    async with desk.client.get("/metrics") as answer:
        text = await answer.text()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_an_ended_lease_sends_everything_to_stable_and_a_renewal_brings_it_back(
    open_desk: OpenDesk, plan: MakePlan
) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", plan(7))
    desk.clock.now_s += 42
    lapsed = await status(desk)
    assert lapsed.share_bp == 0
    assert lapsed.lease is not None
    assert lapsed.lease.lapsed
    assert "everything to stable A: the lease of generation 7 ended 12.0 s ago" in (
        lapsed.explanation
    )
    samples = await metrics(desk)
    assert samples["gateway_lease_lapsed", "rag"] == 1
    assert samples["gateway_share_ratio", "rag", "stable"] == 1
    code, renewed = await send(
        desk, "PUT", "/v1/routes/rag/lease", {"generation": 7, "lease_s": 10}
    )
    assert code == 200
    assert (renewed.share_bp, renewed.lease.remaining_s) == (1000, 10)
    samples = await metrics(desk)
    assert samples["gateway_share_ratio", "canary", "rag"] == 0.1
    assert samples["gateway_lease_remaining_seconds", "rag"] == 10


async def test_rollback_twice_is_one_rollback(open_desk: OpenDesk, plan: MakePlan) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", after_promotion(plan, 7))
    for _ in range(2):
        code, after = await send(desk, "POST", "/v1/routes/rag/rollback")
        assert code == 200
        assert (after.plan.generation, after.plan.stable.version) == (8, "A")
        assert after.plan.hold
    assert desk.store.load("rag").origin is Origin.RESTORED


async def test_rollback_drops_the_canary_first(open_desk: OpenDesk, plan: MakePlan) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", plan(7))
    body = {"reason": "errors", "force": False}
    code, after = await send(desk, "POST", "/v1/routes/rag/rollback", body)
    assert code == 200
    assert after.plan.canary is None
    assert after.plan.reason == "errors"
    code, problem = await send(desk, "POST", "/v1/routes/rag/rollback", {"to": "previous"})
    assert (code, problem.code) == (409, "nothing_to_restore")
    assert "no previous version" in problem.error


async def test_rollback_after_the_agents_own_confirms_it_and_keeps_stable(
    open_desk: OpenDesk, plan: MakePlan, slot: Callable[[str], Slot]
) -> None:
    desk = await open_desk()
    release = msgspec.structs.replace(plan(7), previous=slot("Z"))
    await send(desk, "PUT", "/v1/routes/rag/plan", release)
    dropped = msgspec.structs.replace(release, generation=8, canary=None, canary_share_bp=0)
    await send(desk, "PUT", "/v1/routes/rag/plan", dropped)
    assert desk.store.load("rag").origin is Origin.ROLLED_BACK
    code, after = await send(desk, "POST", "/v1/routes/rag/rollback")
    assert (code, after.plan.generation, after.plan.stable.version) == (200, 8, "A")
    code, after = await send(desk, "POST", "/v1/routes/rag/rollback", {"to": "previous"})
    assert (code, after.plan.stable.version) == (200, "Z")


async def test_rollback_to_a_version_that_does_not_answer_needs_force(
    open_desk: OpenDesk, plan: MakePlan, closed_endpoint: str
) -> None:
    desk = await open_desk()
    gone = Slot(version="A", endpoints=(closed_endpoint,))
    promotion = msgspec.structs.replace(after_promotion(plan, 7), previous=gone)
    await send(desk, "PUT", "/v1/routes/rag/plan", promotion)
    code, problem = await send(desk, "POST", "/v1/routes/rag/rollback", {"to": "previous"})
    assert (code, problem.code) == (409, "unhealthy")
    assert closed_endpoint in problem.error
    assert (await status(desk)).plan.stable.version == "B"
    code, after = await send(desk, "POST", "/v1/routes/rag/rollback", {"force": True})
    assert (code, after.plan.stable.version) == (200, "A")


async def test_rollback_with_a_misspelt_key_or_target_is_refused(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    for body, said in (({"forse": True}, "`forse`"), ({"to": "champion"}, "expected previous")):
        code, problem = await send(desk, "POST", "/v1/routes/rag/rollback", body)
        assert code == 400
        assert said in problem.error


async def test_a_rollback_that_the_disk_refuses_is_in_force_and_says_so(
    open_desk: OpenDesk, plan: MakePlan, tmp_path: Path
) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", plan(7))
    obstacle = tmp_path / "state" / "plan-rag.json.new"
    obstacle.mkdir()  # the temporary file cannot be made, whoever runs the test
    code, problem = await send(desk, "PUT", "/v1/routes/rag/plan", plan(8))
    assert (code, problem.code) == (507, "not_stored")
    assert (await status(desk)).plan.generation == 7
    code, problem = await send(desk, "POST", "/v1/routes/rag/rollback")
    assert (code, problem.code) == (507, "not_stored")
    assert "is rolled back to 'A', but a restart would not find that" in problem.error
    assert (await status(desk)).plan.canary is None
    obstacle.rmdir()
    code, _ = await send(desk, "POST", "/v1/routes/rag/rollback")
    assert code == 200
    assert desk.store.load("rag").plan.canary is None


async def test_a_weight_for_an_empty_canary_slot_is_refused(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    code, problem = await send(desk, "PUT", "/v1/routes/rag/weights", {"stable": 90, "canary": 10})
    assert (code, problem.code) == (409, "conflict")
    assert "'rag' has no canary" in problem.error


async def test_changes_at_the_same_time_get_generations_of_their_own(
    open_desk: OpenDesk, plan: MakePlan
) -> None:
    desk = await open_desk()
    await send(desk, "PUT", "/v1/routes/rag/plan", plan(7))
    bodies = [{"stable": 100 - share, "canary": share} for share in range(1, 11)]
    answers = await asyncio.gather(
        *(send(desk, "PUT", "/v1/routes/rag/weights", body) for body in bodies)
    )
    assert [code for code, _ in answers] == [200] * 10
    last = await status(desk)
    assert last.plan.generation == 17
    assert desk.store.load("rag").plan == last.plan


async def test_roles(open_desk: OpenDesk, plan: MakePlan) -> None:
    desk = await open_desk(operator="op-token", viewer="view-token")
    path = "/v1/routes/rag/plan"
    operator = {"Authorization": "Bearer op-token"}
    viewer = {"Authorization": "bearer view-token"}
    for bad in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic op-token"}):
        async with desk.client.get("/v1/routes/rag", headers=bad) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    code, problem = await send(desk, "PUT", path, plan(7), headers=viewer)
    assert (code, problem.code) == (403, "forbidden")
    code, after = await send(desk, "PUT", path, plan(7), headers=operator)
    assert (code, after.plan.stable.headers) == (200, {"x-key": "s3cret"})
    for listing in ("/v1/routes/rag", "/v1/routes"):
        async with desk.client.get(listing, headers=viewer) as answer:
            text = await answer.text()
            assert answer.status == 200
            assert "x-key" in text
            assert "s3cret" not in text
    for public in ("/livez", "/readyz", "/healthz", "/metrics", "/openapi.json"):
        async with desk.client.get(public) as answer:
            assert answer.status == 200
            text = await answer.text()
            assert "s3cret" not in text
            assert "op-token" not in text


async def test_a_web_page_changes_nothing_on_an_open_port(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    headers = {"Origin": "http://evil.example"}
    code, problem = await send(desk, "POST", "/v1/routes/rag/rollback", headers=headers)
    assert (code, problem.code) == (403, "forbidden")


async def test_a_managed_route_holds_back_readiness_for_ten_seconds(
    open_desk: OpenDesk,
) -> None:
    desk = await open_desk(managed=True)
    async with desk.client.get("/readyz") as answer:
        assert answer.status == 503
        assert "'rag' is managed and waits" in await answer.text()
    desk.clock.now_s += 10
    async with desk.client.get("/readyz") as answer:
        assert answer.status == 200
    assert (await metrics(desk))["gateway_managed_route_unpublished", "rag"] == 1


async def test_what_is_not_there_and_what_is_too_long(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    for method, path, expected in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/routes/other", 404),
        ("DELETE", "/v1/routes/rag", 405),
    ):
        code, problem = await send(desk, method, path)
        assert code == expected
        assert problem.error
    body = io.BytesIO(b" " * (1024 * 1024 + 1))
    async with desk.client.put("/v1/routes/rag/plan", data=body) as answer:
        assert answer.status == 413
        assert (await answer.json())["code"] == "too_large"


async def test_a_refused_reload_says_what_is_wrong_with_the_file(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    code, problem = await send(desk, "POST", "/v1/reload")
    assert (code, problem.code) == (422, "bad_config")
    assert "did you mean 'name'?" in problem.error


async def test_the_openapi_document_lists_every_path_that_is_served(open_desk: OpenDesk) -> None:
    desk = await open_desk()
    async with desk.client.get("/openapi.json") as answer:
        document = await answer.json()
    served: dict[str, set[str]] = {}
    for route in desk.client.server.app.router.routes():
        if route.method != "HEAD":
            served.setdefault(route.resource.canonical, set()).add(route.method.lower())
    listed = {path: set(item) - {"parameters"} for path, item in document["paths"].items()}
    assert listed == served
    names = set(document["components"]["schemas"])
    refs = {
        part.split('"')[0]
        for part in msgspec.json.encode(document).decode().split("#/components/schemas/")[1:]
    }
    assert refs <= names
