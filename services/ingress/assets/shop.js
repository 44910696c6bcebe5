// The shop's pages. Plain JavaScript, nothing from outside. What is decided is decided by the API; this only shows it.
const TOKEN = "seckill.token";
const FINAL = new Set(["paid", "expired", "cancelled", "rejected"]);
const page = document.body.dataset.page;
const byId = (id) => document.getElementById(id);

// The server's clock: that of the moment the page was made, and the time since.
const startedAt = performance.timeOrigin + (performance.getEntriesByType("navigation")[0]?.responseStart ?? 0);
const serverAhead = Number(document.body.dataset.nowMs) - startedAt;
const now = () => performance.timeOrigin + performance.now() + serverAhead;

const token = () => localStorage.getItem(TOKEN);
function setToken(value) {
  if (value) localStorage.setItem(TOKEN, value);
  else localStorage.removeItem(TOKEN);
  showSignedIn();
}

class Refused extends Error {
  constructor(response, problem) {
    super(problem.detail ?? `The server answered ${response.status}: try again in a moment.`);
    this.name = (problem.type ?? "").split("/").pop();
    this.status = response.status;
    this.problem = problem;
    this.retryAfterMs = 1000 * Number(response.headers.get("retry-after") ?? 0);
  }
}

async function call(method, path, { body, headers = {}, signal, stream = false } = {}) {
  const all = { accept: stream ? "text/event-stream" : "application/json", ...headers };
  if (token()) all.authorization = `Bearer ${token()}`;
  if (body !== undefined) all["content-type"] = "application/json";
  const response = await fetch(path, { method, headers: all, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: "no-store" });
  const renewed = response.headers.get("x-renewed-token");
  if (renewed) setToken(renewed);
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    if (response.status === 401 && path !== "/api/v1/sign-in") setToken(null);
    throw new Refused(response, problem);
  }
  if (stream || response.status === 204) return response;
  return response.json();
}

function showSignedIn() {
  const signedIn = Boolean(token());
  byId("sign-in-link").hidden = signedIn;
  byId("sign-out").hidden = !signedIn;
}

function say(text) {
  byId("message").textContent = text;
}

function goToSignIn() {
  location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
}

const pad = (n) => String(n).padStart(2, "0");
function span(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const clock = `${pad(hours)}:${pad(minutes)}:${pad(seconds % 60)}`;
  return days > 0 ? `${days} d ${clock}` : clock;
}

function money(cents, currency) {
  const format = new Intl.NumberFormat("en", { style: "currency", currency });
  return format.format(cents / 100);
}

const WORDS = {
  pending: "being confirmed", unpaid: "reserved, not paid yet", paid: "paid", expired: "expired, the units went back",
  cancelled: "cancelled", rejected: "not accepted",
};

function payLink(paymentPage, order) {
  const link = new URL(paymentPage);
  link.searchParams.set("order_id", order.order_id);
  link.searchParams.set("amount_cents", order.amount_cents);
  link.searchParams.set("currency", order.currency);
  link.searchParams.set("return_to", location.href);
  return link.href;
}

function mayPay(order) {
  return order.status === "unpaid" && now() < Date.parse(order.pay_by);
}

// Server-sent events over fetch: EventSource cannot send an Authorization header.
async function follow(orderId, onOrder, signal) {
  let lastId = null;
  let waitMs = 500;
  while (!signal.aborted) {
    try {
      const headers = lastId === null ? {} : { "last-event-id": lastId };
      const response = await call("GET", `/api/v1/orders/${orderId}/events`, { headers, signal, stream: true });
      if (response.status === 204) return;
      for await (const event of eventsOf(response.body)) {
        if (event.id !== undefined) lastId = event.id;
        if (event.event !== "status") continue;
        waitMs = 500;
        const order = JSON.parse(event.data);
        onOrder(order);
        if (FINAL.has(order.status)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && [401, 404].includes(error.status)) return onOrder(null);
      waitMs = Math.max(waitMs, error.retryAfterMs ?? 0);
    }
    await new Promise((resolve) => setTimeout(resolve, waitMs * (0.5 + Math.random())));
    waitMs = Math.min(waitMs * 2, 10000);
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        const [, name, text] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name) event[name] = name in event ? `${event[name]}\n${text}` : text;
      }
      if (event.data !== undefined) yield event;
    }
  }
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

function salePage() {
  const sale = byId("sale").dataset;
  const attempt = new Attempt(sale.voucherId);
  const buy = byId("buy");
  let order = null;
  let following = null;
  let ordering = false;

  function showSale(voucher) {
    sale.status = voucher.status;
    sale.closesMs = String(Date.parse(voucher.closes_at));
    byId("stock-left").textContent = voucher.stock_left;
    tick();
  }

  function live() { return order !== null && !FINAL.has(order.status); }

  function tick() {
    const [opens, closes, at] = [Number(sale.opensMs), Number(sale.closesMs), now()];
    const status = sale.status === "scheduled" && at >= opens ? "open" : sale.status;
    const over = status === "closed" || at >= closes;
    const words = { scheduled: "Opens soon", open: "On sale", sold_out: "Sold out: may return when unpaid orders lapse", closed: "The sale is over" };
    const text = over ? words.closed : words[status];
    if (byId("status-text").textContent !== text) byId("status-text").textContent = text;
    byId("stock").hidden = status !== "open" || over;
    byId("countdown").textContent = over ? "" : at < opens ? `Opens in ${span(opens - at)}` : `Ends in ${span(closes - at)}`;
    buy.disabled = over || at < opens || ordering || live() || status === "sold_out";
    if (order?.status === "unpaid") {
      const left = Date.parse(order.pay_by) - at;
      byId("time-to-pay").textContent = left > 0 ? `Time left to pay: ${span(left)}` : "The time to pay is over.";
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
    if (status.dataset.status !== order.status) {
      status.dataset.status = order.status;
      status.textContent = WORDS[order.status] ?? order.status;
      say(`Your order is ${status.textContent}.`);
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

  byId("order-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!token()) return goToSignIn();
    if (ordering) return;
    ordering = true;
    tick();
    say("Placing your order …");
    const quantity = Number(byId("quantity")?.value ?? 1);
    try {
      const placed = await call("POST", `/api/v1/vouchers/${sale.voucherId}/orders`, { body: { quantity }, headers: { "idempotency-key": attempt.key() } });
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
    if (!(error instanceof Refused)) return say("The answer got lost. Press Buy again: it is the same order.");
    if (error.name === "already-ordered") { attempt.end(); return watch(error.problem.order_id); }
    if (error.status === 401) return goToSignIn();
    // Nothing was taken for this key: the next attempt is another one.
    if (["sold-out", "ended", "not-started", "quantity-limit", "idempotency-key-reused"].includes(error.name)) attempt.end();
    if (error.name === "sold-out") sale.status = "sold_out";
    say(error.message);
  }

  byId("cancel").addEventListener("click", async () => {
    try {
      await call("POST", `/api/v1/orders/${order.order_id}/cancel`);
      say("The order is being cancelled …");
    } catch (error) {
      say(error.message);
    }
  });

  // Another tab ordered.
  addEventListener("storage", (event) => {
    if (event.key === attempt.orderName && event.newValue) watch(event.newValue);
    if (event.key === TOKEN) showSignedIn();
  });

  async function poll() {
    try {
      if (!document.hidden) showSale(await call("GET", `/api/v1/vouchers/${sale.voucherId}`));
    } catch { /* What is shown stays until an answer comes. */ }
    setTimeout(poll, 1500 + 1000 * Math.random());
  }

  if (attempt.orderId && token()) watch(attempt.orderId);
  setInterval(tick, 250);
  tick();
  poll();
}

function ordersPage() {
  if (!token()) return goToSignIn();
  const list = byId("orders");
  const titles = new Map();
  const rows = new Map();
  let next = null;

  async function titleOf(voucherId) {
    if (!titles.has(voucherId)) {
      titles.set(voucherId, call("GET", `/api/v1/vouchers/${voucherId}`).then((v) => v.title, () => `Sale ${voucherId}`));
    }
    return titles.get(voucherId);
  }

  function row(first) {
    const item = byId("order-template").content.firstElementChild.cloneNode(true);
    const slot = (name) => item.querySelector(`[data-slot=${name}]`);
    let order = first;
    function show(latest) {
      order = latest;
      slot("quantity").textContent = order.quantity === 1 ? "1 unit" : `${order.quantity} units`;
      slot("amount").textContent = money(order.amount_cents, order.currency);
      slot("status").textContent = WORDS[order.status] ?? order.status;
      slot("cancel").hidden = order.status !== "unpaid";
      slot("pay").hidden = !(list.dataset.paymentPage && mayPay(order));
      if (!slot("pay").hidden) slot("pay").href = payLink(list.dataset.paymentPage, order);
      tick();
    }
    function tick() {
      const left = Date.parse(order.pay_by) - now();
      slot("note").textContent = order.refund_due ? "A refund is due." : order.status === "unpaid" ? (left > 0 ? `Time left to pay: ${span(left)}` : "The time to pay is over.") : "";
      if (left <= 0) slot("pay").hidden = true;
    }
    slot("sale").href = `/sales/${order.voucher_id}`;
    slot("sale").textContent = `Sale ${order.voucher_id}`;
    titleOf(order.voucher_id).then((title) => { slot("sale").textContent = title; });
    slot("cancel").addEventListener("click", () => call("POST", `/api/v1/orders/${order.order_id}/cancel`).then(() => say("The order is being cancelled …"), (error) => say(error.message)));
    show(order);
    rows.set(order.order_id, { show, tick, isLive: () => !FINAL.has(order.status) });
    return item;
  }

  async function more() {
    try {
      const query = next === null ? "" : `?before=${encodeURIComponent(next)}`;
      const answer = await call("GET", `/api/v1/orders${query}`);
      list.append(...answer.orders.map(row));
      next = answer.next;
      byId("more").hidden = next === null;
      say(list.children.length === 0 ? "You have no orders yet." : "");
    } catch (error) {
      if (error.status === 401) return goToSignIn();
      say(error.message);
    }
  }

  // A stream an order would use up the browser's connections: live orders are asked about one after the other.
  async function refresh() {
    const live = [...rows].filter(([, row]) => row.isLive());
    for (const [orderId, row] of document.hidden ? [] : live) {
      await call("GET", `/api/v1/orders/${orderId}`).then(row.show, () => {});
    }
    setTimeout(refresh, 1500 + 1000 * Math.random());
  }

  byId("more").addEventListener("click", more);
  setInterval(() => rows.forEach((row) => row.isLive() && row.tick()), 500);
  more().then(refresh);
}

function signInPage() {
  const asked = new URLSearchParams(location.search).get("next") ?? "/";
  // Only a path of this shop: an address of elsewhere would be an open redirect.
  const target = new URL(asked, location.origin);
  const next = target.origin === location.origin ? target.pathname : "/";
  let email = null;

  byId("email-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    email = byId("email").value;
    try {
      await call("POST", "/api/v1/sign-in/codes", { body: { email } });
      byId("email-form").hidden = true;
      byId("code-form").hidden = false;
      byId("code").focus();
      say("A code is on its way to you. It is good for five minutes.");
    } catch (error) {
      say(error.message);
    }
  });

  byId("code-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await call("POST", "/api/v1/sign-in", { body: { email, code: byId("code").value } });
      setToken(answer.token);
      location.assign(next);
    } catch (error) {
      byId("code").select();
      say(error.message);
    }
  });

  byId("other-address").addEventListener("click", () => {
    byId("code-form").hidden = true;
    byId("email-form").hidden = false;
    byId("email").focus();
    say("");
  });
}

byId("sign-out").addEventListener("click", async () => {
  await call("POST", "/api/v1/sign-out").catch(() => {});
  setToken(null);
  for (const name of Object.keys(localStorage)) if (name.startsWith("seckill.")) localStorage.removeItem(name);
  location.assign("/");
});

showSignedIn();
({ sale: salePage, orders: ordersPage, "sign-in": signInPage })[page]?.();
