// What the operators' pages share: the token, the role, questions to the API, tables. pages/assets.rs puts this before
// a page's own script.
const TOKEN = "seckill.admin-token";
const ROLE_EVERY_MS = 60000;
const RETRY_MS = 2000;
// A change waits for its ack, a timeline for the log.
const ANSWER_MAX_MS = 60000;
const WORDS = TEXTS.operators;
const ROLES = { viewer: WORDS.role_viewer, operator: WORDS.role_operator, admin: WORDS.role_admin };
const WRITTEN = new Intl.DateTimeFormat(TEXTS.tag, { dateStyle: "short", timeStyle: "medium" });
const count = (n) => n.toLocaleString(TEXTS.tag);
const written = (at) => (at === null ? null : WRITTEN.format(Date.parse(at)));
let token = sessionStorage.getItem(TOKEN);

// Throws Refused for an answer that is a refusal, and something else where there is none.
async function call(method, path, { body, headers } = {}) {
  const signal = AbortSignal.timeout(ANSWER_MAX_MS);
  const response = await send(method, path, token, { body, headers, signal });
  if (!response.ok) throw await refusalOf(response);
  return response.json();
}

const get = (path) => call("GET", path);

function told(error) {
  if (!(error instanceof Refused)) return TEXTS.try_again;
  return error.status === 401 ? WORDS.wrong_token : error.message;
}

// A live region speaks whenever it is written to.
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

// A cell is a text, a number, nothing, or { text, className, href, press }.
function row(cells) {
  const tr = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement("td");
    const { text = cell, className = "", href, press } = cell instanceof Object ? cell : {};
    const isNumber = typeof text === "number";
    td.className = isNumber ? "number" : className;
    const tag = href ? "a" : "button";
    const inside = href || press ? td.appendChild(document.createElement(tag)) : td;
    if (href) inside.href = href;
    if (press) Object.assign(inside, { type: "button", className: "plain", onclick: press });
    inside.textContent = text === null || text === undefined ? "–" : isNumber ? count(text) : text;
    tr.append(td);
  }
  return tr;
}

const show = (id, rows) => byId(id).replaceChildren(...rows.map(row));

// What no store may ever break: units are conserved, and Redis has as many as PostgreSQL.
function lawOf(ledger) {
  const holds = ledger.initial + ledger.adjusted === ledger.available + ledger.unpaid + ledger.paid;
  // Read at two points of the log while orders flow, the stores may seem to differ.
  const drift = ledger.drift === null || !ledger.consistent ? null : ledger.drift;
  return { drift, cell: holds && !drift ? { text: WORDS.holds, className: "" } : { text: WORDS.broken, className: "bad" } };
}

// Looks are repeated while somebody looks, until the token is refused; with another one all begin again.
const LOOKS = [[askForRole, ROLE_EVERY_MS]];
const failures = new Map();
let generation = 0;

async function repeat(look, everyMs, mine) {
  while (mine === generation) {
    let pauseMs = everyMs;
    try {
      if (!document.hidden) await look();
      failures.delete(look);
    } catch (error) {
      // Of the token before this one.
      if (mine !== generation) return;
      failures.set(look, told(error));
      pauseMs = Math.min(everyMs, RETRY_MS);
      if (error.status === 401) askForToken();
    }
    say("message", [...new Set(failures.values())].join(" "));
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

function begin() {
  generation += 1;
  failures.clear();
  for (const [look, everyMs] of LOOKS) repeat(look, everyMs, generation);
}

function askForToken() {
  generation += 1;
  sessionStorage.removeItem(TOKEN);
  byId("token-form").hidden = false;
}

// What the role may not do is not shown; whether it may is judged by the server, each time.
async function askForRole() {
  const { name, role } = await get("/admin/v1/operator");
  byId("token-form").hidden = true;
  byId("figures").hidden = false;
  say("who", fill(WORDS.who, name ?? WORDS.shared_token, ROLES[role]));
  for (const part of document.querySelectorAll("[data-acts]")) part.hidden = role === "viewer";
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  sessionStorage.setItem(TOKEN, token);
  begin();
});
