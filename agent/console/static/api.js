// Talking to the agent: one place that tells an answer, a refusal and no answer apart.

export class NeedsLogin extends Error {}
export class NoAnswer extends Error {}

async function ask(method, path, body, signal = AbortSignal.timeout(10000)) {
  let answer, content;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
    if (answer.status === 401 && path !== "/console/login") throw new NeedsLogin("You are not logged in any more.");
    content = await answer.json();
  } catch (error) {
    if (error instanceof NeedsLogin) throw error;
    throw new NoAnswer(answer && answer.status >= 300 ? `something before the agent answered with ${answer.status}` : "the agent does not answer");
  }
  if (!answer.ok && !content.confirmed) throw new Error(content.error || `${answer.status}`);
  return content;
}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body = {}) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);

// Names come out of addresses and logs: one part of a path, whatever is in them.
export const part = encodeURIComponent;

// Server-sent events tell when to look again; without them the page looks on its own.
export function listen(onEvent) {
  const source = new EventSource("/v1/events");
  const kinds = ["started", "step", "held", "paused", "resumed", "promoted", "settled", "rolled_back", "aborted", "lapsed", "returned", "invalid", "valid", "found", "redated"];
  for (const kind of kinds) source.addEventListener(`release.${kind}`, onEvent);
  for (const kind of ["detected", "routing", "acknowledged"]) source.addEventListener(`drift.${kind}`, onEvent);
  return source;
}
