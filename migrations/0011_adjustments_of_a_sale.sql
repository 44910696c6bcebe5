-- The rule decides within one sale whether it has seen an adjustment's event: so do the tables. An event id
-- that another sale has used stopped the whole partition. Tables that a rebuild has exchanged may be put
-- back: they need it, too.
DO $$
DECLARE
    adjustments regclass;
BEGIN
    FOR adjustments IN
        SELECT 'stock_adjustments'::regclass
         UNION
        SELECT c.oid FROM pg_class AS c
         WHERE c.relname = 'stock_adjustments' AND c.relkind = 'r'
           AND c.relnamespace::regnamespace::text ~ '^retired_[0-9]+$'
    LOOP
        EXECUTE format('ALTER TABLE %s
            DROP CONSTRAINT IF EXISTS stock_adjustments_pkey,
            ADD CONSTRAINT stock_adjustments_pkey PRIMARY KEY (event_id, voucher_id)', adjustments);
    END LOOP;
END $$;
