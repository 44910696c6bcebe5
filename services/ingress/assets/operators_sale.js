// A sale as operators see it: its ledger, what became of its orders, and what was done to it.
const SALE = document.body.dataset.voucherId;
const LEDGER_EVERY_MS = 2000;
// It costs as much as the sale has orders.
const REPORT_EVERY_MS = 5000;
const AUDIT_EVERY_MS = 5000;
const REFUND_REASONS = {
  "unknown-order": WORDS.refund_unknown_order, "wrong-amount": WORDS.refund_wrong_amount, "already-paid": WORDS.refund_already_paid,
  "order-expired": WORDS.refund_order_expired, "order-cancelled": WORDS.refund_order_cancelled, "order-rejected": WORDS.refund_order_rejected,
};

function put(id, value) {
  byId(id).textContent = value === null || value === undefined ? "–" : typeof value === "number" ? count(value) : value;
}

async function lookAtLedger() {
  const ledger = await get(`/admin/v1/vouchers/${SALE}/ledger`);
  for (const name of ["initial", "adjusted", "available", "unpaid", "paid", "held", "redis_available", "in_flight"]) put(`ledger-${name}`, ledger[name]);
  const law = lawOf(ledger);
  put("ledger-drift", law.drift);
  put("ledger-law", law.cell.text);
  byId("ledger-law").className = law.cell.className;
}

const percent = (part, whole) => (whole > 0 ? (part / whole).toLocaleString(TEXTS.tag, { style: "percent", maximumFractionDigits: 1 }) : null);
const seconds = (ms) => (ms === null ? null : fill(WORDS.seconds, (ms / 1000).toLocaleString(TEXTS.tag)));

async function lookAtReport() {
  const sale = await get(`/admin/v1/vouchers/${SALE}/report`);
  const { orders } = sale;
  put("sale-title", sale.title);
  put("opens-at", written(sale.opens_at));
  put("closes-at", written(sale.closed_at ?? sale.closes_at));
  put("sell-through", percent(sale.paid_units, sale.units));
  put("sold-out-after", seconds(sale.sold_out_after_ms));
  put("expiry-late", seconds(orders.expiry_late_ms_max));
  const stages = [["admitted", WORDS.admitted], ["paid", WORDS.paid], ["unpaid", WORDS.unpaid], ["overdue", WORDS.overdue], ["expired", WORDS.expired], ["cancelled", WORDS.cancelled], ["rejected", WORDS.rejected]];
  show("funnel", stages.map(([name, text]) => [text, orders[name], { text: percent(orders[name], orders.admitted), className: "number" }]));
  show("refunds", sale.refunds.map((refund) => [REFUND_REASONS[refund.reason] ?? refund.reason, refund.payments, refund.amount_cents, refund.currency]));
  show("changes", sale.changes.map((change) => [change.offset, change.delta, change.accepted ? WORDS.yes : { text: WORDS.no, className: "bad" }, change.reason]));
  byId("may-change").hidden = sale.over;
}

async function lookAtAudit() {
  const { deeds, more } = await get(`/admin/v1/vouchers/${SALE}/audit`);
  show("audit", deeds.map((deed) => [written(deed.at), deed.actor, deed.command, deed.reason || null]));
  byId("audit-more").hidden = !more;
}

new Deed("restock", {
  subjectNow: () => SALE,
  says: "action-message",
  done: WORDS.restock_done,
  request: (sale, key) => {
    const body = { delta: Number(byId("restock-units").value), reason: byId("restock-reason").value };
    return call("POST", `/admin/v1/vouchers/${sale}/stock`, { body, headers: { "idempotency-key": key } });
  },
});

new Deed("close", {
  subjectNow: () => SALE,
  says: "action-message",
  done: WORDS.close_done,
  request: (sale, key) => {
    const headers = { "idempotency-key": key, "x-reason": asHeader(byId("close-reason").value.trim()) };
    return call("POST", `/admin/v1/vouchers/${sale}/close`, { headers });
  },
});

LOOKS.push([lookAtLedger, LEDGER_EVERY_MS], [lookAtReport, REPORT_EVERY_MS], [lookAtAudit, AUDIT_EVERY_MS]);
if (token) begin();
