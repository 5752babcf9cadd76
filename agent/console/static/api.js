// Talking to the agent: one place that knows when its last word came, and when a token is asked for.

export class NeedsLogin extends Error {}

let heard = null; // when the last answer came; null before the first
export const lastHeard = () => heard;

async function ask(method, path, body, signal = AbortSignal.timeout(10000)) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  if (answer.status === 401 && path !== "/console/login") throw new NeedsLogin();
  const content = await answer.json();
  heard = Date.now();
  if (!answer.ok && !content.confirmed) throw new Error(content.error || `${answer.status}`);
  return content;
}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body = {}) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);

// Server-sent events tell when to look again; without them the page looks on its own.
export function listen(onEvent) {
  const source = new EventSource("/v1/events");
  const kinds = ["started", "step", "held", "paused", "resumed", "promoted", "settled", "rolled_back", "aborted", "lapsed", "returned", "invalid", "valid", "found"];
  for (const kind of kinds) source.addEventListener(`release.${kind}`, onEvent);
  for (const kind of ["detected", "routing", "acknowledged"]) source.addEventListener(`drift.${kind}`, onEvent);
  source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) source.close(); });
  return source;
}
