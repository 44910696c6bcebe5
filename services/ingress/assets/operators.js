// The operators' page. It only reads; what acts is seckillctl.
const PERIOD_MS = 2000;
const SALES_SHOWN = 20;
const byId = (id) => document.getElementById(id);
let token = sessionStorage.getItem("seckill.admin-token");
let last = null;

async function get(path) {
  const response = await fetch(path, { headers: { authorization: `Bearer ${token}` }, cache: "no-store" });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail ?? `The server answered ${response.status}.`), { status: response.status });
  }
  return response.json();
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement("td");
    const isNumber = typeof cell === "number";
    td.textContent = cell === null || cell === undefined ? "–" : isNumber ? cell.toLocaleString("en") : cell;
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
  byId("orders-rate").textContent = sum(names.filter(isAccepted)).toLocaleString("en");
  byId("refusals-rate").textContent = sum(names.filter((name) => !isAccepted(name))).toLocaleString("en");
  byId("answers").replaceChildren(...names.map((name) => row([name, Math.round(rate(name)), now.found.get(name)])));
  last = now;
}

function showOverview(overview) {
  const lag = ({ events, seconds }) => `${events.toLocaleString("en")} events, ${seconds.toFixed(1)} s`;
  byId("fold-lag").textContent = lag(overview.fold);
  byId("effects-lag").textContent = lag(overview.effects);
  byId("dead-letters").textContent = overview.dead_letters.toLocaleString("en");
  byId("dead-letters").className = overview.dead_letters > 0 ? "bad" : "";
}

async function saleRow(voucher) {
  const ledger = await get(`/admin/v1/vouchers/${voucher.voucher_id}/ledger`);
  const holds = ledger.initial + ledger.adjusted === ledger.available + ledger.unpaid + ledger.paid;
  // Read at two points of the log while orders flow, the stores may seem to differ.
  const drift = ledger.drift === null || !ledger.consistent ? null : ledger.drift;
  const law = holds && !drift ? { text: "holds", className: "" } : { text: "BROKEN", className: "bad" };
  return row([`${voucher.voucher_id} ${voucher.title}`, voucher.status, ledger.initial, ledger.adjusted, ledger.available, ledger.unpaid, ledger.paid, ledger.redis_available, ledger.in_flight, drift, law]);
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
  look();
});

byId("timeline-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { records } = await get(`/admin/v1/orders/${encodeURIComponent(byId("order-id").value.trim())}/timeline`);
    byId("timeline").replaceChildren(...records.map((r) => row([r.offset, r.written_at, r.event, r.decided, r.trace])));
    byId("message").textContent = "";
  } catch (error) {
    byId("timeline").replaceChildren();
    byId("message").textContent = error.message;
  }
});

if (token) look();
