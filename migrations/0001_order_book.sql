-- The order book: what the fold of the event log has decided, and how far it has come. One database
-- belongs to one event topic: `partition` and the offsets are positions in that topic.
--
-- Stock changes once a batch, orders twice in their life: room is left in the pages of both, so that
-- the new version of a row finds a place beside the old one.

CREATE TABLE vouchers (
    voucher_id       bigint PRIMARY KEY CHECK (voucher_id BETWEEN 1 AND 1099511627775),
    price_cents      bigint NOT NULL CHECK (price_cents >= 0),
    initial_stock    bigint NOT NULL CHECK (initial_stock >= 0),
    adjusted         bigint NOT NULL,
    stock_left       bigint NOT NULL CHECK (stock_left >= 0),
    unpaid_units     bigint NOT NULL CHECK (unpaid_units >= 0),
    paid_units       bigint NOT NULL CHECK (paid_units >= 0),
    max_quantity     bigint NOT NULL CHECK (max_quantity >= 1),
    hold_seconds     bigint NOT NULL CHECK (hold_seconds >= 0),
    epoch            bigint NOT NULL CHECK (epoch >= 1),
    opens_at         timestamptz NOT NULL,
    closes_at        timestamptz NOT NULL,
    scheduled_offset bigint NOT NULL,
    closed_at        timestamptz,
    closed_offset    bigint,
    partition        integer NOT NULL,
    -- Redis may hold data of this sale. Set before its first load begins, and never unset.
    loaded           boolean NOT NULL DEFAULT false,
    -- Closed and without unpaid orders: it has left Redis for good.
    retired          boolean NOT NULL DEFAULT false,
    currency         text NOT NULL,
    title            text NOT NULL,
    CONSTRAINT vouchers_units_are_conserved
        CHECK (initial_stock + adjusted = stock_left + unpaid_units + paid_units),
    CONSTRAINT vouchers_closed_when_and_where
        CHECK ((closed_at IS NULL) = (closed_offset IS NULL))
) WITH (fillfactor = 80);

CREATE INDEX vouchers_scheduled_offset ON vouchers (partition, scheduled_offset);
CREATE INDEX vouchers_closed_offset ON vouchers (partition, closed_offset)
    WHERE closed_offset IS NOT NULL;
CREATE INDEX vouchers_to_serve ON vouchers (partition) WHERE NOT retired;

-- No foreign key to vouchers: a rejected order may name a sale that the log does not know.
CREATE TABLE orders (
    -- Begins with the voucher id's 40 bits: one sale's orders are one range of the primary key.
    order_id        uuid PRIMARY KEY,
    voucher_id      bigint NOT NULL,
    user_id         bigint NOT NULL,
    quantity        bigint NOT NULL CHECK (quantity >= 1),
    amount_cents    bigint NOT NULL CHECK (amount_cents >= 0),
    reserved_at     timestamptz NOT NULL,
    pay_by          timestamptz NOT NULL,
    reserved_offset bigint NOT NULL,
    closed_at       timestamptz,
    closed_offset   bigint,
    partition       integer NOT NULL,
    version         smallint NOT NULL
        GENERATED ALWAYS AS (CASE WHEN closed_offset IS NULL THEN 1 ELSE 2 END) STORED,
    currency        text NOT NULL,
    status          text NOT NULL
        CHECK (status IN ('unpaid', 'paid', 'expired', 'cancelled', 'rejected')),
    reject_reason   text,
    payment_id      text,
    key_hash        bytea CHECK (octet_length(key_hash) = 16),
    CONSTRAINT orders_rejected_for_a_reason
        CHECK ((status = 'rejected') = (reject_reason IS NOT NULL)),
    CONSTRAINT orders_closed_when_and_where
        CHECK ((closed_at IS NULL) = (closed_offset IS NULL)),
    CONSTRAINT orders_closed_when_decided
        CHECK ((status IN ('paid', 'expired', 'cancelled')) = (closed_offset IS NOT NULL)),
    CONSTRAINT orders_paid_by_a_payment
        CHECK ((status = 'paid') = (payment_id IS NOT NULL))
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX orders_one_live_order ON orders (voucher_id, user_id)
    WHERE status IN ('unpaid', 'paid');
CREATE UNIQUE INDEX orders_one_order_a_payment ON orders (voucher_id, payment_id)
    WHERE payment_id IS NOT NULL;
-- One record reserves one order and closes one order.
CREATE UNIQUE INDEX orders_reserved_offset ON orders (partition, reserved_offset);
CREATE UNIQUE INDEX orders_closed_offset ON orders (partition, closed_offset)
    WHERE closed_offset IS NOT NULL;
CREATE INDEX orders_unpaid_pay_by ON orders (pay_by, order_id) WHERE status = 'unpaid';
CREATE INDEX orders_of_user ON orders (user_id, reserved_at DESC, order_id DESC);

CREATE TABLE refunds (
    payment_id   text NOT NULL,
    voucher_id   bigint NOT NULL,
    order_id     uuid NOT NULL,
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    currency     text NOT NULL,
    reason       text NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    PRIMARY KEY (voucher_id, payment_id)
);

CREATE UNIQUE INDEX refunds_offset ON refunds (partition, "offset");
CREATE INDEX refunds_of_order ON refunds (order_id);

CREATE TABLE stock_adjustments (
    event_id   uuid PRIMARY KEY,
    voucher_id bigint NOT NULL,
    delta      bigint NOT NULL CHECK (delta <> 0),
    accepted   boolean NOT NULL,
    reason     text NOT NULL,
    partition  integer NOT NULL,
    "offset"   bigint NOT NULL
);

CREATE UNIQUE INDEX stock_adjustments_offset ON stock_adjustments (partition, "offset");

CREATE TABLE sale_reloads (
    voucher_id bigint NOT NULL,
    nonce      uuid NOT NULL,
    epoch      bigint NOT NULL,
    accepted   boolean NOT NULL,
    "offset"   bigint NOT NULL,
    PRIMARY KEY (voucher_id, nonce)
);

-- `orders`: below next_offset everything is folded. `effects`: below it everything is carried out.
CREATE TABLE view_positions (
    view        text NOT NULL CHECK (view IN ('orders', 'effects')),
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (view, topic, partition)
) WITH (fillfactor = 50);

-- Who expires an order at the moment; says nothing about the order itself.
CREATE TABLE expiry_claims (
    order_id uuid PRIMARY KEY,
    until    timestamptz NOT NULL
);

CREATE TABLE ops_audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text NOT NULL,
    command  text NOT NULL,
    reason   text NOT NULL,
    affected bigint NOT NULL
);

-- Idempotency keys of the admin API: which voucher id a request to put up a sale was given.
CREATE TABLE sale_requests (
    key_hash   bytea PRIMARY KEY CHECK (octet_length(key_hash) = 16),
    body_hash  bytea NOT NULL CHECK (octet_length(body_hash) = 16),
    voucher_id bigint NOT NULL
);

-- The last voucher id that was given out or seen in the log. A row and not a sequence: setval beside
-- nextval could go back, and a sale must never get the id of another one.
CREATE TABLE voucher_ids (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_id  bigint NOT NULL CHECK (last_id BETWEEN 0 AND 1099511627775)
);
INSERT INTO voucher_ids (last_id) VALUES (0);
