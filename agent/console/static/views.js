// The pages. Each takes what was read and gives elements; reading stands beside it.

import { h, table, tag, facts, number, percent, ms, span, moment, clipped, unfolding, checkValue } from "./dom.js";
import { lines, distributions } from "./charts.js";
import { checks, evidenceCharts, marksOf } from "./evidence.js";
import { get, part } from "./api.js";
import { releaseActions, routeActions, acknowledge } from "./actions.js";

const VERDICTS = { healthy: "good", regressed: "bad", undecided: "warn", invalid: "warn" };
const PHASES = { progressing: "in progress", paused: "paused", baking: "promoted, still watched", settled: "promoted", rolled_back: "rolled back", aborted: "aborted" };
const ENDED = ["settled", "rolled_back", "aborted"];

const TONES = { settled: "good", rolled_back: "bad", aborted: "warn", paused: "warn" };
const EVENTS = { started: "started", step: "next step", held: "holds", paused: "paused", resumed: "resumed", promoted: "promoted", settled: "promoted for good", rolled_back: "rolled back", aborted: "aborted", lapsed: "lease ended", returned: "back at its weight", invalid: "evidence not trusted", valid: "evidence trusted again", found: "found running", redated: "dates corrected" };

const phaseTag = (one) => tag(PHASES[one.phase] || one.phase, TONES[one.phase]);
const eventWords = (kind) => (kind.startsWith("asked.") ? `asked to ${kind.slice(6)}` : EVENTS[kind.replace("release.", "")] || kind);

function gateways(route) {
  const live = [...new Set(route.gateways.filter((one) => one.generation !== null).map((one) => one.split))];
  const leases = route.gateways.map((one) => one.lease_remaining_s).filter((one) => one !== null);
  const silent = route.gateways.filter((one) => one.generation === null);
  const apart = route.gateways.filter((one) => one.generation !== null && one.generation !== route.generation);
  return facts([
    ["Stable", h("span", { class: "stable" }, route.stable)],
    ["Canary", route.canary && h("span", { class: "canary" }, route.canary)],
    ["Previous", route.previous && h("span", { class: "holdback" }, `${route.previous}${route.holdback ? `, keeps ${percent(route.holdback / 100)}` : ""}`)],
    ["Asked for", route.canary && `${percent(route.weight / 100)} to the canary`],
    ["Live", (route.canary || route.previous) && `${live.map((one) => percent(one / 100)).join(" or ")} to ${route.canary || route.previous}`],
    ["Lease", leases.length && (Math.min(...leases) > 0 ? `ends in ${span(Math.min(...leases))} unless renewed` : h("strong", { class: "warn" }, "has ended: everything goes to stable"))],
    ["Gateways", `${route.gateways.length - silent.length - apart.length} of ${route.gateways.length} have generation ${route.generation}`],
    ["Not answering", silent.length && h("strong", { class: "bad" }, silent.map((one) => `${one.gateway} (${one.problem})`).join(", "))],
    ["Held", route.hold && h("strong", { class: "warn" }, `by ${route.set_by}: ${route.reason || "no reason given"}`)],
  ]);
}

function counts(traffic, title = "Last 15 minutes") {
  const arms = Object.entries(traffic.arms);
  if (!arms.length) return h("p", { class: "soft" }, "No requests in this time.");
  return table(title, [["Arm"], ["Requests", "number"], ["Errors", "number"], ["In the log", "number"]],
    arms.map(([arm, one]) => [h("span", { class: arm }, arm), number(one.requests), one.errors ? `${number(one.errors)} (${percent(one.errors / one.requests, 2)})` : "0",
      one.answered ? h("span", { class: one.rows < 0.999 * one.answered ? "bad" : null }, percent(Math.min(1, one.rows / one.answered), 2)) : "–"]));
}

function driftNote(drift, me, done) {
  if (!drift) return null;
  if (drift.state === "drifted") {
    const found = Object.entries(drift.detected).map(([feature, at]) => `${feature.replace("_", " ")} (${moment(at)})`).join(", ");
    return h("p", {}, tag("queries have changed", "warn"), ` ${found}. A reason to retrain, not to roll back. `,
      me.acts ? h("button", { type: "button", onclick: () => acknowledge(drift.route, done) }, "Acknowledge") : null);
  }
  return h("p", { class: "soft" }, drift.state === "learning" ? "Drift: still learning what queries are like." : "Drift: queries are as before.");
}

const NO_ROUTE = "No gateway that answers has a route.";
const STANDS_BY = "This agent stands by: another one leads. What is live is only known there.";
const silentOnes = (live) => `Gateways that do not answer: ${live.silent.join(", ")}`;

// ---- overview ------------------------------------------------------------------------------------

export async function overview(me, _, refresh) {
  const [live, releases, drift, alerts] = await Promise.all([get("/v1/routes"), get("/v1/releases"), get("/v1/drift"), get("/v1/alerts").catch((error) => error)]);
  const traffic = Object.fromEntries(await Promise.all(live.routes.map(async (one) => [one.route, await get(`/v1/routes/${part(one.route)}/traffic`).catch((error) => error)])));
  const page = [h("h1", {}, "Routes"), firing(alerts)];
  if (!live.leads) page.push(h("p", { class: "warn" }, STANDS_BY));
  if (live.silent.length) page.push(h("p", { class: "bad" }, silentOnes(live)));
  if (!live.routes.length && live.leads) page.push(h("p", {}, NO_ROUTE));
  const newest = (route) => releases.find((one) => one.route === route.route);
  const runs = (route) => Boolean(newest(route)) && !ENDED.includes(newest(route).phase);
  const order = live.routes.slice().sort((one, other) => runs(other) - runs(one)); // what is being released comes first
  page.push(h("div", { class: "panels routes" }, order.map((route) => {
    const release = newest(route), running = runs(route), seen = traffic[route.route];
    return h("section", { class: `panel ${release ? `is-${running ? VERDICTS[release.verdict] : TONES[release.phase]}` : ""}`, "aria-label": `route ${route.route}`, "data-key": route.route },
      h("h2", {}, route.route, " ", release ? phaseTag(release) : null, " ", running ? tag(release.verdict, VERDICTS[release.verdict]) : null),
      h("p", { class: "lead" }, release ? release.summary : "No release yet."),
      running ? evidenceBar(release) : null,
      gateways(route),
      seen instanceof Error ? h("p", { class: "bad" }, `Traffic is not known: ${seen.message}`) : counts(seen),
      driftNote(drift.find((one) => one.route === route.route), me, refresh),
      release ? h("p", {}, h("a", { href: `#/release/${part(release.id)}` }, `Release of ${release.version}: details`)) : null,
      running ? releaseActions(release, me, refresh) : null,
      routeActions(route, me, refresh));
  })));
  return page;
}

// Which alerts fire, and who says so: a Prometheus that does not answer is no good news.
function firing(told) {
  if (told instanceof Error) return h("p", { class: "bad" }, `Alerts are not known: ${told.message}`);
  const by = told.source === "prometheus" ? `by Prometheus, ${span(told.age_s)} ago` : "by what this agent sees itself";
  const fires = told.alerts.filter((one) => one.state === "firing").length;
  const calm = !told.alerts.length && !told.problem;
  return h("section", { class: calm ? null : "panel", "aria-label": "alerts" },
    h(calm ? "p" : "h2", {}, "Alerts ", fires ? tag(`${fires} firing`, "bad") : tag("none fires", "good"), " ", h("small", { class: "soft" }, by)),
    told.problem ? h("p", { class: "warn" }, told.problem) : null,
    told.alerts.length ? h("ul", { class: "alerts" }, told.alerts.map((one) => h("li", { "data-key": `${one.name} ${one.route} ${one.since}` },
      tag(one.state === "firing" ? one.severity || "firing" : one.state, one.state === "firing" && one.severity === "critical" ? "bad" : "warn"), " ", h("strong", {}, one.name), ` ${one.summary}`, one.since ? h("span", { class: "soft" }, ` since ${moment(one.since)}`) : null,
      one.description ? h("details", {}, h("summary", {}, "What it means"), h("p", {}, one.description), runbook(one.runbook)) : null))) : null,
    told.left_out ? h("p", { class: "soft" }, `and ${number(told.left_out)} more`) : null);
}

const runbook = (at) => (/^https?:/.test(at) ? h("p", {}, h("a", { href: at, rel: "noreferrer" }, "Runbook")) : at ? h("p", {}, "Runbook: ", h("code", {}, at)) : null);

function evidenceBar(release) {
  if (!release.still_needed || release.phase === "baking") return null; // what was counted is the canary's
  const share = release.canary_requests / (release.canary_requests + release.still_needed);
  return h("p", {}, h("label", {}, `${number(release.canary_requests)} canary requests seen, about ${number(release.still_needed)} more needed`, h("progress", { max: 1, value: share })));
}

// ---- one release ---------------------------------------------------------------------------------

export async function releasePage(me, [id], refresh) {
  const [release, events, evidence, drift, policy] = await Promise.all([get(`/v1/releases/${part(id)}`), get(`/v1/releases/${part(id)}/events`), get(`/v1/releases/${part(id)}/evidence`), get("/v1/drift"), get(`/v1/releases/${part(id)}/policy`)]);
  const traffic = await get(`/v1/releases/${part(id)}/traffic`).catch((error) => error);
  return [
    h("h1", {}, `${release.version} on ${release.route} `, phaseTag(release), " ", ENDED.includes(release.phase) ? null : tag(release.verdict, VERDICTS[release.verdict])),
    h("p", { class: "lead" }, release.summary),
    releaseActions(release, me, refresh),
    h("h2", {}, "Where it stands"),
    facts([["Step", `${release.step} of ${release.steps}, weight ${release.weight} %`], ["Against", release.stable], ["Why", release.reasons.join("; ")], ["Canary requests", number(release.canary_requests)],
      ["Converged", release.converged ? "every gateway that answers has the plan" : "not yet"], ["Not answering", release.unreachable.join(", ")], ["Started", `${moment(release.started_at)} by ${release.started_by}: ${release.reason}`],
      ["Ended", moment(release.ended_at)], ["Took", span(release.duration_s)], ["Noted", release.asked && `${release.asked}: the next cycle carries it out`]]),
    h("h2", {}, "Checks"),
    checks(release, policy),
    h("h2", {}, "Evidence over time"),
    evidence.length > 1 ? h("div", { class: "panels" }, evidenceCharts(release, evidence, policy, eventMarks(events))) : h("p", { class: "soft" }, "This agent has not looked after this release since it started. A replay draws it again from the log."),
    h("p", {}, h("a", { href: `#/replay/${part(id)}` }, "Replay: judge it again, also by another policy")),
    h("h2", {}, `Traffic of the route, ${release.ended_at ? "while it was released" : "since the release began"}`),
    traffic instanceof Error ? h("p", { class: "bad" }, traffic.message) : trafficCharts(traffic),
    h("h2", {}, "Drift"),
    driftDetails(drift.find((one) => one.route === release.route), me, refresh),
    h("h2", {}, "What happened"),
    table("Newest first", [["When", "when"], ["What"], ["Who"], ["Weight", "number"], ["Why", "text"]],
      events.slice().reverse().map((one) => [moment(one.at), eventWords(one.kind), one.actor, one.from_share_bp === one.to_share_bp ? "" : `${one.from_share_bp / 100} → ${one.to_share_bp / 100} %`, one.reason])),
  ];
}

const eventMarks = (events) => marksOf(events.filter((one) => one.from_share_bp !== one.to_share_bp || one.kind === "release.promoted").map((one) => ({ at: Date.parse(one.at) / 1000, action: one.kind.replace("release.", "") })));

function trafficCharts(traffic) {
  const arms = Object.entries(traffic.arms);
  const of = (pick) => arms.map(([arm, one]) => ({ name: arm, class: arm, points: one.points.map((p) => [p.at, pick(p)]) }));
  return h("div", { class: "panels" },
    lines("Requests a second", of((p) => p.requests / traffic.every_s), { zero: true }),
    lines("Errors", of((p) => (p.requests ? p.errors / p.requests : null)), { zero: true, format: (v) => percent(v, 2) }),
    lines("Latency, p50", of((p) => (p.latency_ms ? p.latency_ms[0] : null)), { zero: true, format: ms }),
    lines("Latency, p99", of((p) => (p.latency_ms ? p.latency_ms[2] : null)), { zero: true, format: ms }),
    distributions("Latency, share of requests answered within", Object.fromEntries(arms.map(([arm, one]) => [arm, one.latency])), ms),
    h("div", { class: "panel" }, h("h3", {}, "Completeness of the log"), counts(traffic, "All of this time")));
}

function driftDetails(drift, me, refresh) {
  if (!drift) return h("p", { class: "soft" }, "Nothing is known of this route's queries.");
  return h("div", {}, driftNote(drift, me, refresh),
    facts([["Reference", `${moment(drift.reference_since)} to ${moment(drift.reference_until) || "now"}, version ${drift.version}`], ["Compared since", number(drift.queries)]]),
    Object.keys(drift.features).length ? table("Evidence of a change, of what an alarm needs", [["Feature"], ["Evidence", "number"], ["Distances"]],
      Object.entries(drift.features).map(([name, one]) => [name.replace("_", " "), percent(one.evidence, 0), Object.entries(one.measures).map(([key, value]) => `${key} ${value.toPrecision(2)}`).join(", ")])) : null);
}

// ---- history -------------------------------------------------------------------------------------

export async function history(me, [compared], refresh, query) {
  const releases = await get("/v1/releases");
  const routes = [...new Set(releases.map((one) => one.route))].sort();
  const route = query.get("route") || "", phase = query.get("phase") || "";
  const shown = releases.filter((one) => (!route || one.route === route) && (!phase || one.phase === phase));
  const pick = (name, value, options) => h("label", {}, name, h("select", { onchange: (event) => { query.set(name.toLowerCase(), event.target.value); location.hash = `#/history?${query}`; } },
    h("option", { value: "" }, "all"), options.map((one) => h("option", { value: one, selected: one === value }, PHASES[one] || one))));
  const chosen = (query.get("compare") || "").split(",").filter(Boolean);
  const toggle = (id) => {
    const next = chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id].slice(-2);
    query.set("compare", next.join(","));
    location.hash = `#/history?${query}`;
  };
  const page = [h("h1", {}, "History"), h("div", { class: "filters" }, pick("Route", route, routes), pick("Phase", phase, Object.keys(PHASES))),
    table(`${shown.length} ${shown.length === 1 ? "release" : "releases"}, newest first; choose two to compare`, [["Compare"], ["Version"], ["Route"], ["How"], ["Requests", "number"], ["Took", "number"], ["Started", "when"], ["Why", "text"]],
      shown.map((one) => [h("input", { type: "checkbox", checked: chosen.includes(one.id), "aria-label": `compare ${one.version} of ${moment(one.started_at)}`, onchange: () => toggle(one.id) }), h("a", { href: `#/release/${part(one.id)}` }, one.version), one.route, phaseTag(one), number(one.canary_requests), span(one.duration_s), moment(one.started_at), one.reasons.join("; ")]))];
  if (chosen.length === 2) {
    const pair = await Promise.all(chosen.map((id) => get(`/v1/releases/${part(id)}`)));
    const known = (one, name) => one.checks[name] && one.checks[name].candidate_value !== null;
    const names = [...new Set(pair.flatMap((one) => Object.keys(one.checks).filter((name) => known(one, name))))];
    page.push(h("h2", {}, "Side by side"), table("Two releases", [["", ""], ...pair.map((one) => [`${one.version} (${moment(one.started_at)})`])], [
      ["How it ended", ...pair.map((one) => PHASES[one.phase] || one.phase)], ["Why", ...pair.map((one) => one.reasons.join("; "))], ["Against", ...pair.map((one) => one.stable)], ["Canary requests", ...pair.map((one) => number(one.canary_requests))], ["Took", ...pair.map((one) => span(one.duration_s))],
      ...names.map((name) => [`${name}: canary against control`, ...pair.map((one) => (known(one, name) ? `${checkValue(name, one.checks[name].candidate_value)} against ${checkValue(name, one.checks[name].control_value)}` : "–"))])]),
    names.length ? null : h("p", { class: "soft" }, "What the checks measured is not kept after an agent's restart; a replay measures it again."),
    h("p", {}, "Judge one again, also by another policy: ", pair.map((one, i) => [i ? " or " : "", h("a", { href: `#/replay/${part(one.id)}` }, `replay ${one.version} of ${moment(one.started_at)}`)])));
  }
  return page;
}

// ---- queries -------------------------------------------------------------------------------------

export async function queries(me, _, refresh, query) {
  const live = await get("/v1/routes");
  const route = query.get("route") || live.routes[0]?.route;
  const routes = [...new Set([...live.routes.map((one) => one.route), route])];
  if (!route) return [h("h1", {}, "Queries"), h("p", {}, live.leads ? NO_ROUTE : STANDS_BY), live.silent.length ? h("p", { class: "bad" }, silentOnes(live)) : null];
  const order = query.get("order") || "newest", arm = query.get("arm") || "", minutes = query.get("minutes") || "15";
  const pick = (name, value, options) => h("label", {}, name, h("select", { onchange: (event) => { query.set(name.toLowerCase(), event.target.value); location.hash = `#/queries?${query}`; } }, options.map(([key, title]) => h("option", { value: key, selected: key === value }, title))));
  const pairs = order === "pairs";
  const found = pairs ? await get(`/v1/routes/${part(route)}/pairs?minutes=${Math.min(60, minutes)}`) : await get(`/v1/routes/${part(route)}/queries?order=${part(order)}&arm=${part(arm)}&minutes=${part(minutes)}`);
  return [h("h1", {}, "Queries"),
    h("div", { class: "filters" }, pick("Route", route, routes.map((one) => [one, one])), pick("Order", order, [["newest", "newest"], ["slowest", "slowest"], ["worst", "worst score"], ["failed", "failed"], ["pairs", "mirrored, side by side"]]),
      pick("Arm", arm, [["", "all"], ["stable", "stable"], ["canary", "canary"], ["holdback", "holdback"]]), pick("Minutes", minutes, [["15", "15 minutes"], ["60", "an hour"], ["360", "six hours"], ["1440", "a day"]])),
    pairs ? [found.length ? null : h("p", {}, "No query was mirrored in this time (at most the last hour)."), found.length ? h("p", { class: "caption soft" }, `The newest ${found.length}; each unfolds`) : null, found.map(pairOf)] : table(`${found.length} of route ${route}. What redaction drops was never stored.`, [["When", "when"], ["Arm"], ["Server"], ["Query", "text"], ["Status", "number"], ["Latency", "number"], ["Score", "number"], ["Retrieved"], ["Request"]],
      found.map((one) => [`${one.ended_at.slice(0, 19)} UTC`, h("span", { class: one.arm }, `${one.arm} ${one.version}${one.kind === "served" ? "" : ` (${one.kind})`}`), serverOf(one), one.query_text === null ? h("span", { class: "soft" }, one.features_missing || "not recorded") : unfolding(one.query_text),
        h("span", { class: one.outcome === "ok" ? null : "bad" }, `${one.status} ${one.outcome === "ok" ? "" : one.outcome.replace("_", " ")}`), ms(one.latency_ms), one.relevance_score === null ? "–" : one.relevance_score.toFixed(3), one.retrieved.slice(0, 5).join(", "), h("code", {}, one.request_id)]))];
}

// The endpoint that answered; where the first attempt asked another, that one failed.
function serverOf({ endpoint, first_attempt_endpoint: first }) {
  const short = (url) => url.replace(/^https?:\/\//, "") || "–";
  return first === endpoint ? short(endpoint) : [short(endpoint), h("span", { class: "soft" }, ` after ${short(first)}`)];
}

// Both answers to one query, folded to what differs; what only one of them found stands out.
function pairOf({ pair, query_text: asked }, i) {
  const { served, mirror } = pair;
  const scored = (one) => (one.relevance_score === null ? "–" : one.relevance_score.toFixed(3));
  const said = (one) => `${one.outcome === "ok" ? one.status : `${one.status} ${one.outcome.replace("_", " ")}`}, ${ms(one.latency_us / 1000)}, score ${scored(one)}${one.answer_chars === null ? "" : `, ${number(one.answer_chars)} characters`}`;
  const common = served.retrieved_ids.filter((id) => mirror.retrieved_ids.includes(id)).length, most = Math.max(served.retrieved_ids.length, mirror.retrieved_ids.length);
  const side = (title, one, other) => h("section", {}, h("h3", {}, `${title}: ${one.version}`), h("p", {}, said(one)),
    one.retrieved_ids.length ? h("ol", {}, one.retrieved_ids.slice(0, 10).map((id) => h("li", {}, other.retrieved_ids.includes(id) ? id : h("strong", {}, `${id} (only here)`)))) : h("p", { class: "soft" }, "No documents were recorded."));
  return h("details", { class: "panel pair", open: i === 0 },
    h("summary", {}, asked === null ? h("span", { class: "soft" }, "query not recorded") : h("strong", {}, clipped(asked)), h("span", { class: "soft" }, ` ${most ? `${common} of ${most} documents in common, ` : ""}score ${scored(served)} and ${scored(mirror)} mirrored`)),
    h("p", { class: "soft" }, `${moment(new Date(pair.ended_at_us / 1000).toISOString())}, request ${pair.request_id}`), asked !== null && asked !== clipped(asked) ? h("details", {}, h("summary", {}, "The whole query"), asked) : null,
    h("div", { class: "panels" }, side("Served", served, mirror), side("Mirrored", mirror, served)));
}

// ---- settings ------------------------------------------------------------------------------------

export const policyLines = (caption, lines) => table(caption, [["Key"], ["Value"], ["Meaning", "text"]], lines.map((line) => [h("code", {}, line.name), line.value, line.meaning]), "stacked");

export async function settings() {
  const [found, releases] = await Promise.all([get("/v1/settings"), get("/v1/releases")]);
  const newest = releases.filter((one, i) => releases.findIndex((other) => other.route === one.route) === i);
  const own = await Promise.all(newest.map(async (one) => [one, await get(`/v1/releases/${part(one.id)}/policy`)]));
  const inForce = own.map(([one, effective]) => [h("h2", {}, `In force on ${one.route}: release of ${one.version}`), policyLines("Fixed when the release started; a new release takes a new one", effective.lines)]);
  return [h("h1", {}, "Settings"), inForce, h("h2", {}, "Default policy"), policyLines("What is in force where a release brings no policy of its own", found.lines), h("h2", {}, "Shipped strategies"),
    Object.entries(found.strategy_lines).map(([name, lines]) => h("details", {}, h("summary", {}, name.replace("_", " ")), policyLines(`In force with --strategy ${name}`, lines))),
    h("h2", {}, "The agent's own rules"), facts([["Gates", found.gates.join(", ") || "none"], ["Notices to", found.notices.join(", ") || "nobody"], ["Most weight", Object.entries(found.max_weight).map(([route, most]) => `${route}: ${most} %`).join(", ") || "as the policies say"]])];
}
