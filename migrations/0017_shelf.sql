-- The shelf is read by whoever asks, from any place on. A column of its own: the index is touched when a sale
-- leaves the shelf or comes back, and not with every order.
ALTER TABLE vouchers ADD COLUMN on_shelf boolean NOT NULL
    GENERATED ALWAYS AS (stock_left > 0 OR unpaid_units > 0 OR paid_units = 0) STORED;

CREATE INDEX vouchers_on_shelf ON vouchers (voucher_id) WHERE on_shelf;
