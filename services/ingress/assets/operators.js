// The operators' overview.
const LOOK_EVERY_MS = 2000;
const LETTERS_EVERY_MS = 5000;
const SALES_SHOWN = 20;
const STATUSES = { scheduled: WORDS.status_scheduled, open: WORDS.status_open, sold_out: WORDS.status_sold_out, closed: WORDS.status_closed };
const ONE_DECIMAL = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
let last = null;

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
  byId("orders-rate").textContent = count(sum(names.filter(isAccepted)));
  byId("refusals-rate").textContent = count(sum(names.filter((name) => !isAccepted(name))));
  show("answers", names.map((name) => [name, Math.round(rate(name)), now.found.get(name)]));
  last = now;
}

function showOverview(overview) {
  const lag = ({ events, seconds }) => fill(WORDS.lag, count(events), seconds.toLocaleString(TEXTS.tag, ONE_DECIMAL));
  byId("fold-lag").textContent = lag(overview.fold);
  byId("effects-lag").textContent = lag(overview.effects);
  byId("dead-letters").textContent = count(overview.dead_letters);
  byId("dead-letters").className = overview.dead_letters > 0 ? "bad" : "";
}

async function saleCells(voucher) {
  const id = voucher.voucher_id;
  const ledger = await get(`/admin/v1/vouchers/${id}/ledger`);
  const law = lawOf(ledger);
  return [{ text: `${id} ${voucher.title}`, href: `/ops/sales/${id}` }, STATUSES[voucher.status], ledger.initial, ledger.adjusted, ledger.available, ledger.unpaid, ledger.paid, ledger.redis_available, ledger.in_flight, law.drift, law.cell];
}

async function look() {
  const [overview, shelf, counted] = await Promise.all([get("/admin/v1/overview"), get(`/admin/v1/vouchers?limit=${SALES_SHOWN}`), answers()]);
  showOverview(overview);
  showAnswers(counted);
  show("sales", await Promise.all(shelf.vouchers.map(saleCells)));
}

const ORDER_STATUSES = { unpaid: WORDS.unpaid, paid: WORDS.paid, expired: WORDS.expired, cancelled: WORDS.cancelled, rejected: WORDS.rejected };

async function showTimeline(orderId) {
  const { records } = await get(`/admin/v1/orders/${encodeURIComponent(orderId)}/timeline`);
  show("timeline", records.map((r) => [r.offset, written(r.written_at), r.event, r.decided, r.trace]));
}

function foundCells(order) {
  const sale = { text: String(order.voucher_id), href: `/ops/sales/${order.voucher_id}` };
  const timeline = { text: order.order_id, press: () => answered("search-message", () => showTimeline(order.order_id)) };
  const user = order.user_id === null ? null : String(order.user_id);
  return [timeline, sale, { text: user, className: "number" }, order.quantity, ORDER_STATUSES[order.status], written(order.reserved_at), order.payment_id, order.refund_due ? { text: WORDS.yes, className: "bad" } : WORDS.no];
}

// Does what was asked for, and says why there is no answer.
async function answered(id, ask) {
  try {
    say(id, "");
    await ask();
  } catch (error) {
    say(id, told(error));
  }
}

async function search() {
  const [by, text] = [byId("search-by").value, byId("search-text").value.trim()];
  show("found", []);
  show("timeline", []);
  if (by === "order") return showTimeline(text);
  const { orders, more } = await get(`/admin/v1/orders?${by}=${encodeURIComponent(text)}`);
  show("found", orders.map(foundCells));
  say("search-message", orders.length === 0 ? WORDS.nothing_found : more ? WORDS.found_more : "");
  // Where there is one, it is the one that was meant.
  if (orders.length === 1) await showTimeline(orders[0].order_id);
}

byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  answered("search-message", search);
});

async function openLetter(name) {
  const opened = await get(`/admin/v1/skipped-records/${name}`);
  const { letter, record, not_redrivable: why } = opened;
  const next = why === null ? fill(WORDS.letter_readable, name) : fill(WORDS.letter_unreadable, why, name);
  say("letter-message", letter.fate !== null ? WORDS.letter_dealt_with : letter.in_log ? next : fill(WORDS.letter_waits, name));
  byId("may-redrive").hidden = why !== null;
  byId("letter").dataset.name = name;
  byId("letter").hidden = false;
  byId("letter").textContent = record === null ? WORDS.letter_gone : JSON.stringify(record, null, 2);
  byId("letter").focus();
}

// The record is its own key: one that was redriven is not written again.
new Deed("redrive", {
  subjectNow: () => byId("letter").dataset.name,
  says: "letter-message",
  done: WORDS.redrive_done,
  request: async (name) => {
    const headers = { "x-reason": asHeader(byId("redrive-reason").value.trim()) };
    await call("POST", `/admin/v1/skipped-records/${name}/redrive`, { headers });
    if (byId("letter").dataset.name === name) byId("may-redrive").hidden = true;
  },
});

async function lookAtLetters() {
  const { records } = await get("/admin/v1/skipped-records");
  const fates = { redriven: WORDS.fate_redriven, discarded: WORDS.fate_discarded };
  // One that is being pressed stays.
  const names = JSON.stringify(records);
  if (byId("letters").dataset.names === names) return;
  byId("letters").dataset.names = names;
  show("letters", records.map((letter) => {
    const name = `${letter.partition}/${letter.offset}`;
    const open = { text: name, press: () => answered("letter-message", () => openLetter(name)) };
    return [open, letter.cause, letter.fate === null ? { text: WORDS.fate_open, className: "bad" } : fates[letter.fate]];
  }));
}

async function lookAtFindings() {
  const { findings } = await get("/admin/v1/findings");
  show("findings", findings.map((found) => {
    const sale = { text: String(found.voucher_id), href: `/ops/sales/${found.voucher_id}` };
    return [sale, { text: found.invariant, className: "bad" }, found.subject || null, found.detail, written(found.since)];
  }));
}

LOOKS.push([look, LOOK_EVERY_MS], [lookAtFindings, LOOK_EVERY_MS], [lookAtLetters, LETTERS_EVERY_MS], [lookAtPulse, PULSE_PERIOD_MS]);
if (token) begin();
