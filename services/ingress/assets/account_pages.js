function ordersPage() {
  if (!token()) return goToSignIn();
  const list = byId("orders");
  const titles = new Map();
  const rows = new Map();
  let next = null;

  async function titleOf(voucherId) {
    if (!titles.has(voucherId)) {
      titles.set(voucherId, call("GET", `/api/v1/vouchers/${voucherId}`).then((v) => v.title, () => fill(TEXTS.sale_number, voucherId)));
    }
    return titles.get(voucherId);
  }

  function row(first) {
    const item = byId("order-template").content.firstElementChild.cloneNode(true);
    const slot = (name) => item.querySelector(`[data-slot=${name}]`);
    let order = first;
    function show(latest) {
      order = latest;
      slot("quantity").textContent = order.quantity === 1 ? TEXTS.one_unit : fill(TEXTS.units, order.quantity);
      slot("amount").textContent = money(order.amount_cents, order.currency);
      slot("status").textContent = statusText(order);
      slot("cancel").hidden = order.status !== "unpaid";
      slot("pay").hidden = !(list.dataset.paymentPage && mayPay(order));
      if (!slot("pay").hidden) slot("pay").href = payLink(list.dataset.paymentPage, order);
      tick();
    }
    function tick() {
      const left = Date.parse(order.pay_by) - now();
      slot("note").textContent = order.status === "unpaid" ? (left > 0 ? fill(TEXTS.time_to_pay, span(left)) : TEXTS.time_to_pay_over) : "";
      if (left <= 0) slot("pay").hidden = true;
    }
    slot("ordered-at").textContent = moment(Date.parse(order.reserved_at));
    slot("number").textContent = order.order_id;
    slot("sale").href = `/sales/${order.voucher_id}`;
    slot("sale").textContent = fill(TEXTS.sale_number, order.voucher_id);
    titleOf(order.voucher_id).then((title) => { slot("sale").textContent = title; });
    slot("cancel").addEventListener("click", () => call("POST", `/api/v1/orders/${order.order_id}/cancel`).then(() => say(TEXTS.cancelling), (error) => say(error.message)));
    show(order);
    rows.set(order.order_id, { show, tick, isLive: () => !FINAL.has(order.status) || mayBeRefunded(order) });
    return item;
  }

  async function more() {
    try {
      const query = next === null ? "" : `?before=${encodeURIComponent(next)}`;
      const answer = await call("GET", `/api/v1/orders${query}`);
      list.append(...answer.orders.map(row));
      next = answer.next;
      byId("more").hidden = next === null;
      say(list.children.length === 0 ? TEXTS.no_orders : "");
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
  byId("sign-out-everywhere").addEventListener("click", () => call("POST", "/api/v1/sign-out/everywhere").then(forget, (error) => say(error.message)));
  setInterval(() => rows.forEach((row) => row.isLive() && row.tick()), 500);
  more().then(refresh);
}

function signInPage() {
  // Only a page that links here itself. A text that is checked to be no address of elsewhere may still become one
  // on its way through the browser: //evil.example, /.//evil.example, a backslash, a tab.
  const asked = new URLSearchParams(location.search).get("next") ?? "/";
  const next = /^\/(orders|sales\/[1-9][0-9]*)?$/.test(asked) ? asked : "/";
  let email = null;

  byId("email-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    email = byId("email").value;
    try {
      await call("POST", "/api/v1/sign-in/codes", { body: { email } });
      byId("email-form").hidden = true;
      byId("code-form").hidden = false;
      byId("code").focus();
      say(TEXTS.code_sent);
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
      say(error.status === 401 ? TEXTS.wrong_code : error.message);
    }
  });

  byId("other-address").addEventListener("click", () => {
    byId("code-form").hidden = true;
    byId("email-form").hidden = false;
    byId("email").focus();
    say("");
  });
}
