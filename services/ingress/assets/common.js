// What all pages share: elements by their id, texts with holes, requests and refusals. Plain JavaScript, nothing from
// outside; pages/assets.rs puts this before the other files of a script.
const byId = (id) => document.getElementById(id);
const fill = (text, ...values) => values.reduce((filled, value) => filled.replace("{}", value), text);

class Refused extends Error {
  constructor(response, problem) {
    const name = (problem.type ?? "").split("/").pop();
    super(TEXTS.problems[name] ?? TEXTS.try_again);
    this.name = name;
    this.status = response.status;
    this.problem = problem;
    this.retryAfterMs = 1000 * Number(response.headers.get("retry-after") ?? 0);
  }
}

const refusalOf = async (response) => new Refused(response, await response.json().catch(() => ({})));

function send(method, path, bearer, { body, headers, signal }) {
  const all = { ...headers };
  if (bearer) all.authorization = `Bearer ${bearer}`;
  if (body !== undefined) all["content-type"] = "application/json";
  return fetch(path, { method, headers: all, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store" });
}
