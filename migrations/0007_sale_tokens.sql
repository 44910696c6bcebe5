-- Sales that take orders only with a token from their page, and two rules about shoppers who do not
-- behave like people.

ALTER TABLE vouchers ADD COLUMN requires_sale_token boolean NOT NULL DEFAULT false;

-- Tables that a rebuild has exchanged may be put back: they need the column, too.
DO $$
DECLARE
    retired regclass;
BEGIN
    FOR retired IN
        SELECT c.oid FROM pg_class AS c
         WHERE c.relname = 'vouchers' AND c.relkind = 'r'
           AND c.relnamespace::regnamespace::text ~ '^retired_[0-9]+$'
    LOOP
        EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS
            requires_sale_token boolean NOT NULL DEFAULT false', retired);
    END LOOP;
END $$;

-- page-not-seen: *, value 0; impossible-timing: *, the least milliseconds from page to order.
ALTER TABLE risk_rules DROP CONSTRAINT risk_rules_check;
ALTER TABLE risk_rules ADD CONSTRAINT risk_rules_check CHECK (CASE rule
    WHEN 'user-blocked' THEN subject ~ '^[1-9][0-9]{0,18}$' AND value = 0
    WHEN 'address-blocked' THEN subject::inet IS NOT NULL AND value = 0
    WHEN 'crowded-address' THEN subject = '*' AND value BETWEEN 1 AND 1000000
    WHEN 'page-not-seen' THEN subject = '*' AND value = 0
    WHEN 'impossible-timing' THEN subject = '*' AND value BETWEEN 1 AND 60000
    ELSE false
END);
