// Which page is shown, how fresh it is, and who looks at it.

import { h, become } from "./dom.js";
import { get, post, listen, NeedsLogin, NoAnswer } from "./api.js";
import { overview, releasePage, history, queries, settings } from "./views.js";
import { replay } from "./replay.js";

const PAGES = { "": ["overview", overview, 2000], release: ["history", releasePage, 3000], history: ["history", history, 10000], replay: ["history", replay, 0], queries: ["queries", queries, 0], settings: ["settings", settings, 0] };
const STALE_MS = 10000; // beyond the time after which a page is read again

const main = document.getElementById("main");
let me = null, source = null, timer = 0, shown = "", reading = 0;
let drawn = null; // when the page was last drawn from answers, by both clocks: one may be set, the other may sleep
let problem = ""; // why it has not been since
const now = () => ({ wall: Date.now(), ran: performance.now() });

function where() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name: Object.hasOwn(PAGES, name) ? name : "", rest: rest.map(decoded), query: new URLSearchParams(query) };
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; } // somebody cut the address
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
    drawn = now();
    problem = "";
  } catch (error) {
    if (mine !== reading) return;
    if (error instanceof NeedsLogin) return login();
    problem = error instanceof NoAnswer ? "" : error.message;
    if (moved || shown !== location.hash) {
      put([h("h1", {}, "No answer"), h("p", { class: "bad", role: "alert" }, `Cannot be shown: ${error.message}`)], moved);
      drawn = null;
    }
  }
  freshness();
  if (everyMs) timer = setTimeout(() => show(false), document.hidden ? 5 * everyMs : everyMs);
}

// A page that is read again keeps what somebody is using.
function put(content, moved) {
  const fresh = content.flat(9).filter(Boolean);
  if (!moved && shown === location.hash) {
    const used = main.contains(document.activeElement);
    become(main, fresh);
    if (used && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
    return;
  }
  main.replaceChildren(...fresh);
  shown = location.hash;
  if (moved) { document.title = `${main.querySelector("h1")?.textContent || "Releases"} – rag-mlops`; main.focus({ preventScroll: true }); scrollTo(0, 0); }
}

// Pages that are not read again by themselves hold what somebody chose or is typing. However many events come, one reading
// at a time, and one more after the last.
let isReading = false, isAsked = false;
async function again() {
  isAsked = true;
  if (isReading) return;
  isReading = true;
  while (isAsked) {
    isAsked = false;
    if (me !== null && PAGES[where().name][2] > 0) await show(false);
  }
  isReading = false;
}

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

function login(told = "") {
  me = null;
  reading++; // what is on its way must not come over the form
  clearTimeout(timer);
  source?.close();
  document.getElementById("who").textContent = "";
  document.getElementById("logout").hidden = true;
  const token = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password" });
  const said = h("p", { class: "bad", role: "alert" }, told);
  const form = h("form", { class: "panel" }, h("h1", {}, "Log in"), h("p", {}, "With a token of the agent: a viewer's to look, an operator's to act."), h("p", {}, h("label", {}, "Token", token)), said, h("button", { type: "submit" }, "Log in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try { await post("/console/login", { token: token.value }); } catch (error) { said.textContent = error instanceof NoAnswer ? "The agent does not answer." : error.message; token.focus(); return; }
    show(true);
  });
  main.replaceChildren(form);
  document.title = "Log in – rag-mlops";
  drawn = null;
  freshness();
  token.focus();
}

function freshness() {
  const everyMs = PAGES[where().name][2], at = now();
  const old = drawn === null ? 0 : Math.max(at.wall - drawn.wall, at.ran - drawn.ran);
  const stale = me !== null && everyMs > 0 && old > STALE_MS + everyMs;
  const banner = document.getElementById("stale"), age = `${Math.round(old / 1000)} s`;
  document.body.classList.toggle("stale", stale);
  banner.hidden = !stale;
  if (stale) banner.textContent = `${problem ? `Not read for ${age} (${problem})` : `No answer from the agent for ${age}`}. What you see is that old.`;
}

async function logout() {
  try { await post("/console/logout"); } catch { return login("The agent did not answer: this browser may still be logged in."); }
  login("You are logged out.");
}

document.getElementById("logout").addEventListener("click", logout);
document.getElementById("dialog").addEventListener("close", () => { if (document.activeElement === document.body) main.focus({ preventScroll: true }); });
addEventListener("hashchange", () => show(true));
addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
setInterval(freshness, 1000);
show(true);
