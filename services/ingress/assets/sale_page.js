function saleText(status, over) {
  const words = { scheduled: TEXTS.scheduled, open: TEXTS.open, sold_out: TEXTS.sold_out, closed: TEXTS.loading };
  return over ? TEXTS.over : words[status];
}

// Until a sale opens, then until it ends.
function countdown({ opensMs, closesMs }) {
  const at = now();
  if (at >= Number(closesMs)) return "";
  return at < Number(opensMs) ? fill(TEXTS.opens_in, span(opensMs - at)) : fill(TEXTS.ends_in, span(closesMs - at));
}

// What is on the shelf when the page is made stays on it; what each sale has left follows.
function shelfPage() {
  const cards = new Map([...document.querySelectorAll("[data-voucher-id]")].map((card) => [Number(card.dataset.voucherId), card]));

  async function askForStock() {
    const { vouchers } = await call("GET", `/api/v1/vouchers?limit=${byId("shelf").dataset.limit}`);
    for (const [id, card] of cards) {
      const voucher = vouchers.find((voucher) => voucher.voucher_id === id);
      const over = voucher === undefined || voucher.ended;
      card.querySelector("[data-slot=status]").textContent = voucher === undefined ? TEXTS.off_the_shelf : saleText(voucher.status, over);
      card.querySelector("[data-slot=stock]").hidden = over || voucher.status !== "open";
      card.dataset.over = String(over);
      if (!over) card.dataset.closesMs = String(Date.parse(voucher.closes_at));
      if (!over) card.querySelector("[data-slot=left]").textContent = voucher.stock_left;
    }
    return true;
  }

  function tick() {
    for (const card of cards.values()) {
      card.querySelector("[data-slot=countdown]").textContent = card.dataset.over === "true" ? "" : countdown(card.dataset);
    }
  }

  setInterval(tick, 250);
  tick();
  if (cards.size > 0) keepAsking(askForStock);
}

// One key an attempt, kept until the attempt has come to an end: a second click, a second tab and a retry after
// a lost answer are all the same order.
class Attempt {
  constructor(voucherId) {
    this.keyName = `seckill.key.${voucherId}`;
    this.orderName = `seckill.order.${voucherId}`;
  }
  key() {
    let key = localStorage.getItem(this.keyName);
    if (!key) {
      key = crypto.randomUUID ? crypto.randomUUID() : [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
      localStorage.setItem(this.keyName, key);
    }
    return key;
  }
  get orderId() { return localStorage.getItem(this.orderName); }
  set orderId(id) { localStorage.setItem(this.orderName, id); }
  end() { localStorage.removeItem(this.keyName); }
  forget() { this.end(); localStorage.removeItem(this.orderName); }
}

// What shows that an order comes from the sale's page. Each token is good for one order.
class PageToken {
  constructor(voucherId) {
    this.path = `/api/v1/vouchers/${voucherId}/sale-token`;
    this.forget();
  }
  forget() { this.value = null; this.renewAt = 0; }
  // Asked for as soon as the page is there: one that is a moment old when the order comes looks like a program's.
  async refresh() {
    if (!token() || now() < this.renewAt) return;
    try {
      const answer = await call("GET", this.path);
      this.value = answer.sale_token;
      this.renewAt = Date.parse(answer.expires_at) - 5 * 60000;
    } catch { /* The order says what is missing. */ }
  }
  headers() { return this.value ? { "x-sale-token": this.value } : {}; }
}

function salePage() {
  const sale = byId("sale").dataset;
  const attempt = new Attempt(sale.voucherId);
  const pageToken = new PageToken(sale.voucherId);
  const buy = byId("buy");
  let order = null;
  let following = null;
  let ordering = false;

  function showSale(voucher) {
    sale.status = voucher.status;
    sale.ended = String(voucher.ended);
    sale.closesMs = String(Date.parse(voucher.closes_at));
    byId("stock-left").textContent = voucher.stock_left;
    tick();
  }

  function shownStatus() { return sale.status === "scheduled" && now() >= Number(sale.opensMs) ? "open" : sale.status; }

  function live() { return order !== null && !FINAL.has(order.status); }

  function tick() {
    const [opens, closes, at] = [Number(sale.opensMs), Number(sale.closesMs), now()];
    const status = shownStatus();
    const over = sale.ended === "true" || at >= closes;
    const text = saleText(status, over);
    if (byId("status-text").textContent !== text) byId("status-text").textContent = text;
    byId("stock").hidden = status !== "open" || over;
    byId("countdown").textContent = over ? "" : countdown(sale);
    const windowText = at < opens ? fill(TEXTS.opens_at, moment(opens)) : fill(TEXTS.ends_at, moment(closes));
    if (byId("window").textContent !== windowText) byId("window").textContent = windowText;
    buy.disabled = over || at < opens || ordering || live() || ["closed", "sold_out"].includes(status);
    if (order?.status === "unpaid") {
      const left = Date.parse(order.pay_by) - at;
      byId("time-to-pay").textContent = left > 0 ? fill(TEXTS.time_to_pay, span(left)) : TEXTS.time_to_pay_over;
      if (left <= 0) byId("pay").hidden = true;
    } else {
      byId("time-to-pay").textContent = "";
    }
  }

  function showOrder(next) {
    order = next;
    byId("order").hidden = order === null;
    if (order === null) { attempt.forget(); tick(); return; }
    const status = byId("order-status");
    const text = statusText(order);
    if (status.textContent !== text) {
      status.textContent = text;
      say(fill(TEXTS.order_is, text));
    }
    if (FINAL.has(order.status)) attempt.end();
    byId("pay").hidden = !(sale.paymentPage && mayPay(order));
    if (!byId("pay").hidden) byId("pay").href = payLink(sale.paymentPage, order);
    byId("cancel").hidden = order.status !== "unpaid";
    tick();
  }

  function watch(orderId) {
    attempt.orderId = orderId;
    following?.abort();
    following = new AbortController();
    follow(orderId, showOrder, following.signal);
  }

  // An order is shown as over a moment before its unit can be bought again, and bars another one until then.
  async function place(request) {
    for (let wait = 100; ; wait *= 2) {
      try {
        return await call("POST", `/api/v1/vouchers/${sale.voucherId}/orders`, request);
      } catch (error) {
        const over = order !== null && ["cancelled", "expired"].includes(order.status);
        const barredByIt = over && error.name === "already-ordered" && error.problem.order_id === order.order_id;
        if (!barredByIt || wait > 6400) throw error;
      }
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  byId("order-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!token()) return goToSignIn();
    if (ordering) return;
    ordering = true;
    tick();
    say(TEXTS.placing);
    const quantity = Number(byId("quantity")?.value ?? 1);
    try {
      await pageToken.refresh();
      const headers = { "idempotency-key": attempt.key(), ...pageToken.headers() };
      const placed = await place({ body: { quantity }, headers });
      pageToken.forget();
      watch(placed.order_id);
      byId("order").hidden = false;
      byId("order-title").focus();
    } catch (error) {
      refused(error);
    } finally {
      ordering = false;
      tick();
    }
  });

  function refused(error) {
    if (!(error instanceof Refused)) return say(TEXTS.answer_lost);
    if (error.name === "already-ordered") { attempt.end(); return watch(error.problem.order_id); }
    if (error.status === 401) return goToSignIn();
    if (["sale-token-required", "sale-token-used"].includes(error.name) || error.problem.rule === "page-not-seen") {
      pageToken.forget();
      pageToken.refresh();
      return say(TEXTS.page_outdated);
    }
    // Nothing was taken for this key: the next attempt is another one.
    if (REFUSALS.includes(error.name)) attempt.end();
    if (error.name === "sold-out") sale.status = "sold_out";
    say(error.message);
  }

  byId("cancel").addEventListener("click", async () => {
    try {
      await call("POST", `/api/v1/orders/${order.order_id}/cancel`);
      say(TEXTS.cancelling);
    } catch (error) {
      say(error.message);
    }
  });

  // Another tab ordered.
  addEventListener("storage", (event) => {
    if (event.key === attempt.orderName && event.newValue) watch(event.newValue);
    if (event.key === TOKEN) showSignedIn();
  });

  // Stock comes and goes while a sale is open or sold out.
  async function askForStock() {
    showSale(await call("GET", `/api/v1/vouchers/${sale.voucherId}`));
    return sale.ended !== "true" && ["open", "sold_out"].includes(shownStatus());
  }

  async function poll() {
    try {
      if (!document.hidden) await pageToken.refresh();
      if (!document.hidden && mayBeRefunded(order)) showOrder(await call("GET", `/api/v1/orders/${order.order_id}`));
    } catch { /* What is shown stays until an answer comes. */ }
    setTimeout(poll, 1500 + 1000 * Math.random());
  }

  if (attempt.orderId && token()) watch(attempt.orderId);
  setInterval(tick, 250);
  tick();
  keepAsking(askForStock);
  poll();
}
