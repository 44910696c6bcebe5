-- What the consistency check of the projectors finds wrong at the moment, for the operators' page. Each projector replaces the rows
-- of its own partitions when something has changed. No key: a subject is what stands in a store, and may be long.
CREATE TABLE consistency_findings (
    voucher_id bigint NOT NULL,
    partition  integer NOT NULL,
    -- As the label of `seckill_audit_violations` has it.
    invariant  text NOT NULL,
    -- What it is about, such as a hold; empty where it is the sale.
    subject    text NOT NULL,
    detail     text NOT NULL,
    -- By this database's clock.
    since      timestamptz NOT NULL DEFAULT now()
);

-- The page of a sale asks for what operators did to it.
CREATE INDEX ops_audit_of_a_sale ON ops_audit (voucher_id, id);
