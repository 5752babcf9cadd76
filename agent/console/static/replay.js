// A release judged again from the log, by its own policy or another: what would have happened, and when.

import { h, table, facts, number, moment, tag } from "./dom.js";
import { checks, evidenceCharts, marksOf } from "./evidence.js";
import { get, part, NeedsLogin } from "./api.js";
import { policyLines } from "./views.js";

const LONGEST_MS = 40000; // the agent ends a replay before this
const ENDS = { promoted: ["promoted", "good"], rolled_back: ["rolled back", "bad"], undecided: ["not decided", "warn"], invalid: ["no trustworthy evidence", "warn"] };

let leaving = new AbortController();

export async function replay(me, [id], refresh, query) {
  const [release, known] = await Promise.all([get(`/v1/releases/${part(id)}`), get("/v1/settings")]);
  const strategy = query.get("strategy") || "", text = query.get("policy") || "";
  const found = h("div", { "aria-live": "polite", "aria-busy": true }, h("p", {}, "The log is read and judged again…"));
  judge(release, strategy ? `?strategy=${part(strategy)}` : text ? `?policy=${part(text)}` : "", found, refresh);
  return [
    h("h1", {}, `Replay of ${release.version} on ${release.route}`),
    h("p", {}, "The same judge and the same steps, on the rows there are. Weights are taken as they were: a log cannot say how users would have fared at others. ", h("a", { href: `#/release/${part(id)}` }, "What really happened")),
    form(id, Object.keys(known.strategies), strategy, text),
    found,
  ];
}

function form(id, strategies, strategy, text) {
  const chosen = text ? "given" : strategy;
  const given = h("textarea", { name: "policy", rows: 8, maxlength: 4000, spellcheck: "false", placeholder: "steps:\n  - setWeight: 10\n  - pause: {duration: 10m}\nalpha: 0.01" }, text);
  const place = h("label", { class: "wide", hidden: !text }, "Policy, in YAML", given);
  const pick = h("select", { name: "by", onchange: () => { place.hidden = pick.value !== "given"; } },
    [["", "its own policy"], ...strategies.map((name) => [name, `strategy ${name}`]), ["given", "another policy"]].map(([value, title]) => h("option", { value, selected: value === chosen }, title)));
  return h("form", { class: "filters", onsubmit: (event) => {
    event.preventDefault();
    const by = pick.value === "given" ? `?policy=${part(given.value)}` : pick.value ? `?strategy=${part(pick.value)}` : "";
    const next = `#/replay/${part(id)}${by}`;
    if (location.hash === next) dispatchEvent(new HashChangeEvent("hashchange")); else location.hash = next;
  } }, h("label", {}, "Judge by", pick), place, h("button", { type: "submit" }, "Replay"));
}

// Beside the page, which stands at once; whoever leaves it is not waited for, here and by the agent.
async function judge(release, by, place, refresh) {
  leaving.abort();
  leaving = new AbortController();
  addEventListener("hashchange", () => leaving.abort(), { once: true });
  try {
    const told = await get(`/v1/releases/${part(release.id)}/replay${by}`, AbortSignal.any([leaving.signal, AbortSignal.timeout(LONGEST_MS)]));
    place.replaceChildren(...result(release, told).flat(9).filter(Boolean));
  } catch (error) {
    if (error instanceof NeedsLogin) return refresh();
    if (!leaving.signal.aborted) place.replaceChildren(h("p", { class: "bad", role: "alert" }, `It was not replayed: ${error.message}`));
  }
  place.removeAttribute("aria-busy");
}

function result(release, told) {
  const [word, kind] = ENDS[told.result] || [told.result, ""];
  const judged = { checks: told.checks, policy: told.policy };
  return [
    h("h2", {}, "What would have happened ", tag(word, kind)),
    told.is_whole ? null : h("p", { class: "warn" }, `The time for it was over: this is what comes out by ${moment(iso(told.read_through))}. The command line reads on: `, h("code", {}, `rag-mlops release replay ${release.id}`)),
    facts([["When", moment(iso(told.at))], ["Why", told.reason], ["Canary requests until then", number(told.canary_requests)], ["Read through", moment(iso(told.read_through))]]),
    table(told.left_out ? `The first of them; ${number(told.left_out)} more are left out` : "In order of time", [["When", "when"], ["What"], ["Verdict"], ["Weight", "number"], ["Weight it had", "number"], ["Why", "text"]],
      told.moments.map((one) => [moment(iso(one.at)), one.action.replace("_", " ") || "–", one.verdict, `${one.weight} %`, `${one.logged} %`, one.reasons.join("; ")])),
    h("h2", {}, "Checks at the end"),
    checks(judged, told),
    h("h2", {}, "Evidence over time"),
    told.points.length > 1 ? h("div", { class: "panels" }, evidenceCharts(judged, told.points, told, marksOf(told.moments.filter((one) => one.action)))) : h("p", { class: "soft" }, "Too little for a line."),
    h("details", {}, h("summary", {}, "The policy, in words"), policyLines("Judged by this", told.lines)),
  ];
}

const iso = (unixS) => new Date(unixS * 1000).toISOString();
