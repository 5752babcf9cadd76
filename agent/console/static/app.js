// Which page is shown, how fresh it is, and who looks at it.

import { h } from "./dom.js";
import { get, post, listen, lastHeard, NeedsLogin } from "./api.js";
import { overview, releasePage, history, queries, settings } from "./views.js";
import { replay } from "./replay.js";

const PAGES = { "": ["overview", overview, 2000], release: ["history", releasePage, 3000], history: ["history", history, 10000], replay: ["history", replay, 0], queries: ["queries", queries, 0], settings: ["settings", settings, 0] };
const STALE_MS = 10000;
const FOCUSABLE = "a,button,select,input,summary,.scroll";

const main = document.getElementById("main");
let me = null, source = null, timer = 0, shown = "", reading = 0;

function where() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name: name in PAGES ? name : "", rest: rest.map(decodeURIComponent), query: new URLSearchParams(query) };
}

async function show(moved) {
  clearTimeout(timer);
  const { name, rest, query } = where();
  const [page, view, everyMs] = PAGES[name];
  const mine = ++reading;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  try {
    if (me === null) await who();
    const content = await view(me, rest, () => show(false), query);
    if (mine !== reading) return;
    put(content, moved);
  } catch (error) {
    if (mine !== reading) return;
    if (error instanceof NeedsLogin) return login();
    const text = `Cannot be shown: ${error.message || "the agent does not answer"}`;
    if (moved || shown !== location.hash) put([h("h1", {}, "No answer"), h("p", { class: "bad", role: "alert" }, text)], moved);
  }
  freshness();
  if (everyMs) timer = setTimeout(() => show(false), document.hidden ? 5 * everyMs : everyMs);
}

// A page that is read again keeps what somebody is using: focus, open details, where a table was scrolled to.
function put(content, moved) {
  const at = { x: scrollX, y: scrollY };
  const active = document.activeElement, focus = main.contains(active) ? [...main.querySelectorAll(FOCUSABLE)].indexOf(active) : -1;
  const open = [...main.querySelectorAll("details")].map((one) => one.open), scrolled = [...main.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  main.replaceChildren(...content.flat(9).filter(Boolean));
  shown = location.hash;
  if (moved) { document.title = `${main.querySelector("h1")?.textContent || "Releases"} – rag-mlops`; main.focus({ preventScroll: true }); scrollTo(0, 0); return; }
  [...main.querySelectorAll("details")].forEach((one, i) => { one.open = open[i] || false; });
  [...main.querySelectorAll(".scroll")].forEach((one, i) => { one.scrollLeft = scrolled[i] || 0; });
  if (focus >= 0) [...main.querySelectorAll(FOCUSABLE)][focus]?.focus({ preventScroll: true });
  scrollTo(at.x, at.y);
}

// Pages that are not read again by themselves hold what somebody chose or is typing.
function again() { if (me !== null && PAGES[where().name][2] > 0) show(false); }

async function who() {
  const found = await get("/console/me");
  if (found.role === "nobody") throw new NeedsLogin();
  const acts = found.role !== "viewer" && !found.open;
  const why = found.open ? "Without tokens nothing can be changed from a browser; the command line can." : "Your token may only look.";
  me = { ...found, acts, why };
  document.getElementById("who").textContent = found.open ? "no tokens are configured" : `${found.name || found.role}${found.routes ? `, of ${found.routes.join(", ")}` : ""} (${found.role})`;
  document.getElementById("logout").hidden = found.open;
  source?.close();
  source = found.routes ? null : listen(again);
}

function login(problem = "") {
  me = null;
  reading++; // what is on its way must not come over the form
  clearTimeout(timer);
  source?.close();
  document.getElementById("who").textContent = "";
  document.getElementById("logout").hidden = true;
  const token = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password" });
  const said = h("p", { class: "bad", role: "alert" }, problem);
  const form = h("form", { class: "panel" }, h("h1", {}, "Log in"), h("p", {}, "With a token of the agent: a viewer's to look, an operator's to act."), h("p", {}, h("label", {}, "Token", token)), said, h("button", { type: "submit" }, "Log in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try { await post("/console/login", { token: token.value }); } catch (error) { said.textContent = error.message || "The agent does not answer."; token.focus(); return; }
    show(true);
  });
  main.replaceChildren(form);
  shown = "";
  token.focus();
}

function freshness() {
  const heard = lastHeard(), old = heard === null ? 0 : Date.now() - heard;
  const { name } = where(), stale = me !== null && PAGES[name][2] > 0 && old > STALE_MS;
  const banner = document.getElementById("stale");
  document.body.classList.toggle("stale", stale);
  banner.hidden = !stale;
  if (stale) banner.textContent = `No answer from the agent for ${Math.round(old / 1000)} s. What you see is that old.`;
}

document.getElementById("logout").addEventListener("click", async () => { await post("/console/logout").catch(() => null); login("You are logged out."); });
addEventListener("hashchange", () => show(true));
addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
setInterval(freshness, 1000);
show(true);
