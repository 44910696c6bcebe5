-- What was done to a sale is looked up by the sale, and what came of it by the trace of its event. Both
-- are empty where an action changes no single sale, or writes no event.
ALTER TABLE ops_audit
    ADD COLUMN voucher_id bigint,
    ADD COLUMN trace_id   text;
