"""The loop: observe, judge, reconcile, remember, publish. It neither dies nor drifts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as amended
from time import monotonic, process_time

from msgspec.structs import replace

from agent.decision import inputs_of
from agent.freeze import frozen
from agent.gatekeeper import Gatekeeper, generation_of
from agent.journal import EventStore, Journal
from agent.memory import Kept, Memory, MemoryUnavailable, NotLeader, Outdated, RouteTaken
from agent.metrics import Metrics
from agent.observer import Observer
from agent.policy import Policy
from agent.policy_file import parse_policy, to_document
from agent.publisher import Gateways, View
from agent.release import Consult, Cycle, Picture, Publish, Release, Remember, Renew, Write
from agent.sentence import sentence
from agent.stepper import reconcile
from agent.unreleased import converges, first_plan
from agent.verbs import found_running

log = logging.getLogger(__name__)

LEADER_TTL_S = 15.0
"""How long a dead leader keeps others waiting. Cycles renew it, at the latest every interval."""

CLOCK_SKEW_S = 5.0
"""What the clocks of two agents may differ: the leader stops this much earlier than its lease."""

STORE_TIMEOUT_S = 2.0
"""Longest that events for ClickHouse may keep the next cycle waiting."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Which agent this is, of which code, and its clocks: durations from one, moments that outlive
    the process from the other."""

    holder: str
    code: str
    monotonic_s: Callable[[], float]
    unix_s: Callable[[], float]


class Loop:
    """Everything that is shared with the API is read-only there, but for `wake`."""

    def __init__(
        self,
        memory: Memory,
        gateways: Gateways,
        observer: Observer,
        journal: Journal,
        gatekeeper: Gatekeeper,
        *,
        metrics: Metrics,
        runtime: Runtime,
    ) -> None:
        self._memory = memory
        self._gateways = gateways
        self._observer = observer
        self._journal = journal
        self._gatekeeper = gatekeeper
        self._metrics = metrics
        self._holder = runtime.holder
        self._clocks = runtime
        self._leads_until_s = float("-inf")
        self._policies: dict[str, Policy] = {}
        self._said: dict[str, str] = {}
        self._woken = asyncio.Event()
        self.view: View | None = None
        """The last look at the gateways."""
        self.cycles: dict[str, Cycle] = {}
        """By release, for those the last cycle looked after."""
        self._last_cycle_s: float | None = None
        gatekeeper.wake = self.wake

    @property
    def leads(self) -> bool:
        """Whether this agent may write: its lease in the database still runs, less the skew."""
        return self._clocks.monotonic_s() < self._leads_until_s

    def idle_s(self) -> float | None:
        """Since the last cycle that reached the database; None before the first."""
        if self._last_cycle_s is None:
            return None
        return self._clocks.monotonic_s() - self._last_cycle_s

    def wake(self) -> None:
        """Begin the next cycle now."""
        self._woken.set()

    async def run(self, interval_s: float, store: EventStore) -> None:
        """One cycle each interval, until cancelled. The next tick is the last one plus interval."""
        next_s = self._clocks.monotonic_s()
        while True:
            began_s = monotonic()
            await self.cycle()
            await self._tell(store)
            self._metrics.cycle_s.observe(monotonic() - began_s)
            next_s += interval_s
            late_s = self._clocks.monotonic_s() - next_s
            if late_s > 0:
                log.warning("the cycle took %.1f s, the interval is %g s", monotonic() - began_s,
                            interval_s)  # fmt: skip
                next_s += late_s
            await self._rest(next_s)

    async def _rest(self, until_s: float) -> None:
        left_s = max(0.0, until_s - self._clocks.monotonic_s())
        try:
            async with asyncio.timeout(left_s):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()

    async def _tell(self, store: EventStore) -> None:
        try:
            await self._journal.follow()
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await self._journal.store(store)
        except TimeoutError:
            log.info("ClickHouse took more than %g s for an event", STORE_TIMEOUT_S)
        except Exception:
            log.exception("BUG: events were not told; please report this")
        self._metrics.unstored_events.set(self._journal.unstored)

    # ---- one cycle -----------------------------------------------------------------------------

    async def cycle(self) -> None:
        """Look after every route once. Never raises but when cancelled."""
        cpu_s = process_time()
        try:
            leads = await self._lead()
            self._last_cycle_s = self._clocks.monotonic_s()
            if not leads:
                return
            self.view = view = await self._gateways.look()
            kept = {one.release.route: one for one in await self._memory.newest()}
            for route in view.routes.keys() - kept.keys():
                await self._adopt(route, view)
            await self._bring_first_plans(view, kept)
            await asyncio.gather(*(self._tend(one, view) for one in kept.values()))
            self._forget({one.release.id for one in kept.values()})
            releases = [one.release for one in kept.values()]
            self._gatekeeper.forget({one.id: generation_of(one) for one in releases})
        except MemoryUnavailable as error:
            self._metrics.show_leads(leads=self.leads)
            self._fail("memory", str(error))
        except Exception:
            self._metrics.failures.labels("bug").inc()
            log.exception("BUG: the cycle failed; please report this")
        log.debug("the cycle took %.1f ms of CPU", (process_time() - cpu_s) * 1000)

    async def _lead(self) -> bool:
        asked_s, was = self._clocks.monotonic_s(), self.leads
        leads = await self._memory.lead(self._holder, LEADER_TTL_S)
        self._metrics.show_leads(leads=leads)
        if leads:
            self._leads_until_s = asked_s + LEADER_TTL_S - CLOCK_SKEW_S
        if leads != was:
            log.info("this agent %s", "leads" if leads else "stands by: another one leads")
        return leads

    async def _tend(self, kept: Kept, view: View) -> None:
        release = kept.release
        try:
            await self._tend_or_raise(kept, view)
        except (Outdated, NotLeader):
            log.info("%s: changed by somebody else meanwhile; looking again", release.id)
            self.wake()
        except MemoryUnavailable as error:
            self._fail("memory", f"{release.id}: {error}")
        except Exception:
            self._metrics.failures.labels("bug").inc()
            log.exception("BUG: the cycle of release %s failed; please report this", release.id)

    async def _tend_or_raise(self, kept: Kept, view: View) -> None:
        release, policy = kept.release, self._policy(kept.release)
        sights = view.of(release.route)
        watch = await self._observer.observe(release, policy, sights, self._clocks.unix_s())
        now_s, rules = self._clocks.unix_s(), self._gatekeeper.rules
        picture = Picture(
            now_s=now_s,
            sights=sights,
            judgement=watch.judgement if watch else None,
            closed_through_s=watch.closed_through_s if watch else 0.0,
            frozen=frozen((*policy.freeze, *rules.freeze), now_s),
            max_share_bp=rules.cap_bp(release.route),
            gates=self._gatekeeper.answers(release, policy.gates),
        )
        self._metrics.show_gates(release.route, picture.gates)
        writes = reconcile(release, policy, picture)
        said = sentence(release, policy, picture, writes)
        self._say(release.id, said)
        canary_requests = watch.canary_requests if watch else release.canary_requests
        before = self.cycles.get(release.id)
        judgement = picture.judgement or (before.judgement if before else None)
        self.cycles[release.id] = Cycle(picture, judgement, said, canary_requests)
        inputs = inputs_of(release, picture, self._clocks.code)
        after = await self._write(kept, writes, canary_requests, inputs)
        self._metrics.show(after, judgement, now_s)
        if release.plan is not None and not after.phase.is_ended:
            age_s = now_s - (picture.closed_through_s or release.started_at_s)
            self._metrics.evidence_age_s.labels(release.route).set(age_s)

    async def _write(
        self,
        kept: Kept,
        writes: tuple[Write, ...],
        canary_requests: int,
        inputs: Mapping[str, object],
    ) -> Release:
        """Make the writes in order; stop at once where another agent leads.

        A slow log may have outlasted our lease: if nobody else took it, it is ours again.
        """
        release, revision = kept.release, kept.revision
        for write in writes:
            if not self.leads and not await self._lead():
                raise NotLeader(self._holder)
            match write:
                case Remember(after, change):
                    now_s = self._clocks.unix_s()
                    after = replace(after, canary_requests=canary_requests)
                    if change is not None:
                        change = amended(change, detail=change.detail | {"inputs": inputs})
                    revision = await self._memory.change(
                        after, change, revision=revision, at_s=now_s, leader=self._holder
                    )
                    if change is not None:
                        self._metrics.events.labels(after.route, change.kind).inc()
                    if after.phase is not release.phase:
                        self._metrics.count_ended(after)
                    release = after
                case Publish():
                    self._report(release, await self._gateways.publish(write))
                case Renew():
                    self._report(release, await self._gateways.renew(write))
                case Consult():
                    self._gatekeeper.consult(write)
        return release

    async def _adopt(self, route: str, view: View) -> None:
        """A leased plan that nobody remembers: the next cycle publishes what this remembers."""
        picture = Picture(now_s=self._clocks.unix_s(), sights=view.of(route))
        found = found_running(picture, to_document(Policy()), 0)
        if found is None or found.change is None:
            return
        log.warning("%s: %s", route, found.change.reason)
        try:
            await self._memory.create(found.release, found.change, picture.now_s)
        except (RouteTaken, Outdated):
            log.info("%s: a release was started meanwhile", route)
        self.wake()

    async def _bring_first_plans(self, view: View, kept: Mapping[str, Kept]) -> None:
        """To managed routes that no release brings one to.

        One that gives way to somebody else's plan brings nothing, also once it has ended.
        """
        for route, sights in view.routes.items():
            if route in kept and converges(kept[route].release, sights):
                continue
            publish = first_plan(sights)
            if publish is not None and self.leads:
                log.info("%s: first plan to %s", route, ", ".join(publish.gateways))
                for problem in await self._gateways.publish(publish):
                    self._fail("gateway", f"{route}: {problem}")

    # ---- small parts ---------------------------------------------------------------------------

    def _policy(self, release: Release) -> Policy:
        policy = self._policies.get(release.id)
        if policy is None:
            policy = parse_policy(release.policy, source=f"policy of release {release.id}")
            self._policies[release.id] = policy
        return policy

    def _say(self, release_id: str, said: str) -> None:
        """At most one line a cycle; the same again only for those who ask for it."""
        level = logging.INFO if self._said.get(release_id) != said else logging.DEBUG
        self._said[release_id] = said
        log.log(level, "%s", said)

    def _report(self, release: Release, problems: list[str]) -> None:
        for problem in problems:
            self._fail("gateway", f"{release.id}: {problem}")

    def _fail(self, cause: str, what: str) -> None:
        self._metrics.failures.labels(cause).inc()
        log.warning("%s", what)

    def _forget(self, known: set[str]) -> None:
        """Keep only what belongs to the newest release of each route."""
        self._observer.forget(known)
        for kept in (self._policies, self._said, self.cycles):
            for release_id in kept.keys() - known:
                kept.pop(release_id, None)
