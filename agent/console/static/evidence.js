// What was measured and how sure that is: the checks as a table, and how their evidence came to be.

import { h, table, number, evidence as asEvidence, checkValue, checkEffect } from "./dom.js";
import { lines } from "./charts.js";

// Steps and endings, as lines in the charts.
export const marksOf = (events) => events.map((one) => [one.at, one.action.replace("_", " ")]);

const open = (name, bound, word) => (bound === null ? `anything ${word}` : checkEffect(name, bound));

const gathered = (value, needed, kind) => h("span", { class: value >= needed ? kind : null }, needed ? `${asEvidence(value)} of ${asEvidence(needed)}` : asEvidence(value));

// What each check shows; `limits`: how much evidence decides.
export function checks(release, limits) {
  const names = Object.keys(release.checks);
  if (!names.length) return h("p", { class: "soft" }, "No evidence yet.");
  const margins = release.policy.checks || {};
  return table("Each check by itself; the verdict weighs them together. Evidence is an e-value: 20 comes up once in twenty harmless releases.", [["Check"], ["Canary", "number"], ["Control", "number"], ["Difference", "number"], ["Surely between", "number"], ["Matters from", "number"], ["Evidence: worse", "number"], ["Evidence: not worse", "number"], ["Requests needed", "number"]],
    names.map((name) => {
      const one = release.checks[name], margin = effectMargin(name, margins[name]);
      return [`${name.replaceAll("_", " ")}${one.quantile ? ` p${(100 * one.quantile).toFixed(0)}` : ""}`, h("span", { class: "canary" }, checkValue(name, one.candidate_value)), h("span", { class: "stable" }, checkValue(name, one.control_value)), checkEffect(name, one.effect),
        one.interval ? `${open(name, one.interval[0], "below")} … ${open(name, one.interval[1], "above")}` : "–", margin === undefined ? "–" : checkEffect(name, margin),
        gathered(one.e_value, limits.rolled_back_at, "bad"), gathered(one.noninferiority_e_value, limits.proved_at, "good"), one.still_needed === null ? "–" : number(one.still_needed)];
    }));
}

export function evidenceCharts(release, evidence, policy, marks = []) {
  const margins = release.policy.checks || {};
  const found = [
    lines("Evidence against it, all checks together (e-value)", [{ name: "e-value", class: "canary", points: evidence.map((p) => [p.at, p.e_value]) }], { log: true, limit: policy.rolled_back_at, limitName: "rolled back at", format: asEvidence, marks }),
    lines("Weight", [{ name: "percent asked for", class: "canary", points: evidence.map((p) => [p.at, p.weight]) }], { zero: true, format: (v) => `${v.toFixed(0)} %`, marks }),
  ];
  for (const name of Object.keys(release.checks)) {
    const of = (pick) => evidence.filter((p) => p.checks[name] && pick(p.checks[name]) !== null).map((p) => [p.at, pick(p.checks[name])]);
    const show = (v) => checkValue(name, v), title = name.replaceAll("_", " ");
    found.push(lines(`${title}: both arms`, [{ name: "canary", class: "canary", points: of((c) => c.candidate_value) }, { name: "control", class: "stable", points: of((c) => c.control_value) }], { format: show, zero: true, marks }));
    const band = evidence.filter((p) => p.checks[name] && p.checks[name].interval).map((p) => [p.at, ...p.checks[name].interval]).filter((p) => p[1] !== null && p[2] !== null);
    found.push(lines(`${title}: difference, and where it surely lies`, [{ name: "difference", class: "canary", points: of((c) => c.effect) }], { band, limit: effectMargin(name, margins[name]), limitName: "matters from", format: (v) => checkEffect(name, v), marks }));
    found.push(lines(`${title}: evidence`, [{ name: "worse", class: "canary", points: of((c) => c.e_value) }, { name: "not worse", class: "stable", points: of((c) => c.noninferiority_e_value) }], { log: true, limit: policy.proved_at, limitName: "proved at", format: asEvidence, marks }));
  }
  return found;
}

// Where it begins to matter: a score gets worse downwards, and a margin may be written as a percentage.
function effectMargin(name, check) {
  if (!check || check.margin === undefined) return undefined;
  const margin = String(check.margin).endsWith("%") ? parseFloat(check.margin) / 100 : Number(check.margin);
  return name === "score" ? -margin : margin;
}
