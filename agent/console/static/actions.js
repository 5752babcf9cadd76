// What a person may do. Each says what will happen, asks why, and tells how it ended.

import { h, percent } from "./dom.js";
import { post, put, part, NeedsLogin, NoAnswer } from "./api.js";

const dialog = () => document.getElementById("dialog");

export function ask({ title, says, button, danger, fields = [], reason = true, run, done }) {
  const box = dialog();
  const why = h("input", { id: "why", name: "why", required: reason, pattern: ".*\\S.*", maxlength: 500, autocomplete: "off" });
  const said = h("p", { role: "status", "aria-live": "polite" });
  const go = h("button", { type: "submit", class: danger ? "danger" : null }, button);
  const form = h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title), h("p", {}, says), fields.map((one) => h("label", {}, one.label, one.input)),
    reason ? h("label", {}, "Reason, kept in the journal", why) : null, said,
    h("div", { class: "actions" }, go, h("button", { type: "button", onclick: () => box.close() }, "Cancel")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    said.textContent = "Asking…";
    try {
      const told = await run(why.value.trim());
      if (told) { said.textContent = told; said.className = "bad"; go.disabled = false; } else box.close();
      done();
    } catch (error) {
      if (error instanceof NeedsLogin) { box.close(); return done(); }
      said.className = "bad";
      said.textContent = error instanceof NoAnswer ? `No answer: ${error.message}. It may have been done all the same; look before trying again.` : error.message;
      go.disabled = false;
    }
  });
  box.replaceChildren(form);
  box.showModal();
  (fields.length ? fields[0].input : why).focus();
}

const notConfirmed = (answer) => {
  const left = Object.entries(answer.not_confirmed);
  return left.length ? `Not confirmed by ${left.map(([url, why]) => `${url}: ${why}`).join("; ")}` : "";
};

const VERBS = {
  pause: ["Pause", "The weight stays where it is and is still watched: a regression is rolled back all the same."],
  resume: ["Resume", "The release goes on from the weight that is live; what was set by hand is let go."],
  promote: ["Promote", "The release goes on to its next weight now, or ends its bake, without waiting for the evidence. Gates and freeze windows still hold."],
  abort: ["Abort", "The release ends and everything goes to stable, without blame on the version."],
  retry: ["Retry", "The same version starts again from its first step, with new users and new evidence."],
};

export function releaseActions(release, me, done) {
  const buttons = release.verbs.filter((verb) => Object.hasOwn(VERBS, verb)).map((verb) => h("button", {
    type: "button", class: verb === "abort" ? "danger" : null, disabled: !me.acts, title: me.acts ? null : me.why,
    onclick: () => ask({
      title: `${VERBS[verb][0]} ${release.version} on ${release.route}?`, says: VERBS[verb][1], button: VERBS[verb][0], danger: verb === "abort",
      run: async (reason) => {
        const told = await post(`/v1/releases/${part(release.id)}/${verb}`, { reason });
        if (told.id !== release.id) location.hash = `#/release/${part(told.id)}`; // a retry is a release of its own
        return "";
      }, done,
    }) }, VERBS[verb][0]));
  return h("div", { class: "actions" }, buttons, me.acts ? null : h("span", { class: "soft" }, me.why));
}

export function routeActions(route, me, done) {
  const weight = h("input", { type: "number", min: 0, max: 95, step: "0.01", value: route.weight, required: true });
  const set = h("button", { type: "button", disabled: !me.acts || !route.canary, title: route.canary ? null : "There is no canary to give a weight.", onclick: () => ask({
    title: `Set the weight of ${route.canary} on ${route.route}`, button: "Set weight", fields: [{ label: "Percent to the canary", input: weight }],
    says: `Now ${percent(route.weight / 100)} is asked for. The release pauses, and the agent publishes nothing over it until somebody says resume.`,
    run: async (reason) => {
      const canary = Number(weight.value);
      return notConfirmed(await put(`/v1/routes/${part(route.route)}/weights`, { stable: Math.round((100 - canary) * 100) / 100, canary, reason }));
    }, done }) }, "Set weight");
  const target = route.canary ? route.stable : route.previous;
  const back = h("button", { type: "button", class: "danger", disabled: !me.acts || !target, title: target ? null : "There is no other version to go back to.", onclick: () => ask({
    title: `Roll back ${route.route}?`, button: "Roll back", danger: true,
    says: `Every gateway sends everything to ${target}, at once. The agent keeps its hands off until somebody says resume.`,
    run: async (reason) => notConfirmed(await post(`/v1/routes/${part(route.route)}/rollback`, route.canary ? { reason } : { to: "previous", reason })), done }) }, "Roll back");
  return h("div", { class: "actions" }, set, back, me.acts ? null : h("span", { class: "soft" }, me.why));
}

export function acknowledge(route, done) {
  ask({
    title: `Take the queries of ${route} as they are now?`, button: "Acknowledge",
    says: "What queries are like from now on becomes the reference that later ones are compared with.",
    run: async (reason) => { await post(`/v1/routes/${part(route)}/drift/acknowledge`, { reason }); return ""; }, done,
  });
}
