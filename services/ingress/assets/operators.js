// The operators' page. It only reads; what acts is seckillctl.
const PERIOD_MS = 2000;
const SALES_SHOWN = 20;
const WORDS = TEXTS.operators;
const STATUSES = { scheduled: WORDS.status_scheduled, open: WORDS.status_open, sold_out: WORDS.status_sold_out, closed: WORDS.status_closed };
const ONE_DECIMAL = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
const WRITTEN = new Intl.DateTimeFormat(TEXTS.tag, { dateStyle: "short", timeStyle: "medium" });
const byId = (id) => document.getElementById(id);
let token = sessionStorage.getItem("seckill.admin-token");
let last = null;

async function get(path) {
  const response = await fetch(path, { headers: { authorization: `Bearer ${token}` }, cache: "no-store" });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const name = (problem.type ?? "").split("/").pop();
    const text = response.status === 401 ? WORDS.wrong_token : TEXTS.problems[name] ?? TEXTS.try_again;
    throw Object.assign(new Error(text), { status: response.status });
  }
  return response.json();
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement("td");
    const isNumber = typeof cell === "number";
    td.textContent = cell === null || cell === undefined ? "–" : isNumber ? cell.toLocaleString(TEXTS.tag) : cell;
    if (isNumber) td.className = "number";
    if (cell instanceof Object) { td.textContent = cell.text; td.className = cell.className; }
    tr.append(td);
  }
  return tr;
}

// Prometheus text: the answers to orders by their name.
async function answers() {
  const response = await fetch("/metrics", { cache: "no-store" });
  const found = new Map();
  for (const line of (await response.text()).split("\n")) {
    const [, name, count] = /^seckill_orders_total\{answer="([^"]+)"\} (\d+)/.exec(line) ?? [];
    if (name) found.set(name, Number(count));
  }
  return { at: performance.now(), found };
}

function showAnswers(now) {
  const seconds = last === null ? 0 : (now.at - last.at) / 1000;
  const rate = (name) => (seconds > 0 ? (now.found.get(name) - (last.found.get(name) ?? 0)) / seconds : 0);
  const names = [...now.found.keys()].sort();
  const sum = (some) => Math.round(some.reduce((total, name) => total + rate(name), 0));
  const isAccepted = (name) => name === "reserved" || name === "pending";
  byId("orders-rate").textContent = sum(names.filter(isAccepted)).toLocaleString(TEXTS.tag);
  byId("refusals-rate").textContent = sum(names.filter((name) => !isAccepted(name))).toLocaleString(TEXTS.tag);
  byId("answers").replaceChildren(...names.map((name) => row([name, Math.round(rate(name)), now.found.get(name)])));
  last = now;
}

function showOverview(overview) {
  const lag = ({ events, seconds }) => WORDS.lag.replace("{}", events.toLocaleString(TEXTS.tag)).replace("{}", seconds.toLocaleString(TEXTS.tag, ONE_DECIMAL));
  byId("fold-lag").textContent = lag(overview.fold);
  byId("effects-lag").textContent = lag(overview.effects);
  byId("dead-letters").textContent = overview.dead_letters.toLocaleString(TEXTS.tag);
  byId("dead-letters").className = overview.dead_letters > 0 ? "bad" : "";
}

async function saleRow(voucher) {
  const ledger = await get(`/admin/v1/vouchers/${voucher.voucher_id}/ledger`);
  const holds = ledger.initial + ledger.adjusted === ledger.available + ledger.unpaid + ledger.paid;
  // Read at two points of the log while orders flow, the stores may seem to differ.
  const drift = ledger.drift === null || !ledger.consistent ? null : ledger.drift;
  const law = holds && !drift ? { text: WORDS.holds, className: "" } : { text: WORDS.broken, className: "bad" };
  return row([`${voucher.voucher_id} ${voucher.title}`, STATUSES[voucher.status], ledger.initial, ledger.adjusted, ledger.available, ledger.unpaid, ledger.paid, ledger.redis_available, ledger.in_flight, drift, law]);
}

async function look() {
  try {
    const [overview, shelf, counted] = await Promise.all([get("/admin/v1/overview"), get(`/admin/v1/vouchers?limit=${SALES_SHOWN}`), answers()]);
    byId("token-form").hidden = true;
    byId("figures").hidden = false;
    showOverview(overview);
    showAnswers(counted);
    byId("sales").replaceChildren(...(await Promise.all(shelf.vouchers.map(saleRow))));
    byId("message").textContent = "";
  } catch (error) {
    byId("message").textContent = error.message;
    if (error.status === 401) {
      sessionStorage.removeItem("seckill.admin-token");
      byId("token-form").hidden = false;
      return;
    }
  }
  setTimeout(look, PERIOD_MS);
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  sessionStorage.setItem("seckill.admin-token", token);
  begin();
});

byId("timeline-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { records } = await get(`/admin/v1/orders/${encodeURIComponent(byId("order-id").value.trim())}/timeline`);
    byId("timeline").replaceChildren(...records.map((r) => row([r.offset, WRITTEN.format(Date.parse(r.written_at)), r.event, r.decided, r.trace])));
    byId("message").textContent = "";
  } catch (error) {
    byId("timeline").replaceChildren();
    byId("message").textContent = error.message;
  }
});

function begin() {
  look();
  lookAtPulse();
}

if (token) begin();
