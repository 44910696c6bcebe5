// The shop's pages. Plain JavaScript, nothing from outside. What is decided is decided by the API; this only shows it.
// This is the end of one module that begins with the files of the pages: pages/assets.rs puts them together.
const TOKEN = "seckill.token";
const FINAL = new Set(["paid", "expired", "cancelled", "rejected"]);
const page = document.body.dataset.page;

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

async function call(method, path, { body, headers = {}, signal, stream = false } = {}) {
  const accept = stream ? "text/event-stream" : "application/json";
  const response = await send(method, path, token(), { body, headers: { accept, ...headers }, signal });
  const renewed = response.headers.get("x-renewed-token");
  if (renewed) setToken(renewed);
  if (!response.ok) {
    const refusal = await refusalOf(response);
    if (response.status === 401 && path !== "/api/v1/sign-in") setToken(null);
    throw refusal;
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

// With the 0.2 s for which the server remembers stock, what an open page shows is at most a second old.
const STOCK_EVERY_MS = 750;
const OTHERWISE_EVERY_MS = 2000;

// Asks again and again while somebody looks, from one question to the next and not from the answer. `ask` says whether stock is shown.
async function keepAsking(ask) {
  for (;;) {
    const askedAt = performance.now();
    let everyMs = STOCK_EVERY_MS;
    try {
      if (!document.hidden) everyMs = (await ask()) ? STOCK_EVERY_MS : OTHERWISE_EVERY_MS;
    } catch (error) {
      // What is shown stays until an answer comes.
      everyMs = Math.max(OTHERWISE_EVERY_MS, error.retryAfterMs ?? 0);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, everyMs * (0.9 + 0.1 * Math.random()) - (performance.now() - askedAt))));
  }
}

const pad = (n) => String(n).padStart(2, "0");
function span(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const clock = `${pad(hours)}:${pad(minutes)}:${pad(seconds % 60)}`;
  return days > 0 ? fill(TEXTS.days, days) + clock : clock;
}

// In the page's language, and where the buyer is.
const MOMENTS = new Intl.DateTimeFormat(TEXTS.tag, { dateStyle: "medium", timeStyle: "short" });
const moment = (ms) => MOMENTS.format(ms);

// 4900 is €49.00, ¥4,900 or KWD 4.900; plain minor units of a currency that nobody knows.
function money(cents, currency) {
  const known = Object.entries(DECIMALS).find(([, codes]) => codes.split(" ").includes(currency));
  const decimals = known ? Number(known[0]) : 0;
  const digits = String(cents).padStart(decimals + 1, "0");
  const point = digits.length - decimals;
  const format = { style: "currency", currency, minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return new Intl.NumberFormat(TEXTS.tag, format).format(`${digits.slice(0, point)}.${digits.slice(point)}`);
}

const WORDS = {
  pending: TEXTS.order_pending, unpaid: TEXTS.order_unpaid, paid: TEXTS.order_paid, expired: TEXTS.order_expired,
  cancelled: TEXTS.order_cancelled, rejected: TEXTS.order_rejected,
};

function statusText(order) {
  const text = WORDS[order.status] ?? order.status;
  return order.refund_due ? fill(TEXTS.refund_due, text) : text;
}

// A payment that was on its way when the order ended makes a refund due soon afterwards.
function mayBeRefunded(order) {
  if (order === null || order.refund_due || !["expired", "cancelled", "rejected"].includes(order.status)) return false;
  return now() - Date.parse(order.closed_at ?? order.pay_by) < 5 * 60000;
}

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

function forget() {
  setToken(null);
  for (const name of Object.keys(localStorage)) if (name.startsWith("seckill.")) localStorage.removeItem(name);
  location.assign("/");
}

byId("sign-out").addEventListener("click", () => call("POST", "/api/v1/sign-out").then(forget, forget));

showSignedIn();
for (const price of document.querySelectorAll("[data-cents]")) price.textContent = money(price.dataset.cents, price.dataset.currency);
({ shelf: shelfPage, sale: salePage, orders: ordersPage, "sign-in": signInPage })[page]?.();
