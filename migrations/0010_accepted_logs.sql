-- Other logs that an operator had a partition's view accept, because the one that it was folded from is gone.
-- Rows that the lost records left stay, at offsets below 0: no record of the log that follows has those.
CREATE TABLE accepted_logs (
    topic        text NOT NULL,
    partition    integer NOT NULL,
    -- 1 for the first. Ids of outcomes have 12 bits for it.
    number       integer NOT NULL CHECK (number BETWEEN 1 AND 4095),
    -- Below it the log has the records that were folded; from it on it is another one, and read again.
    from_offset  bigint NOT NULL CHECK (from_offset >= 0),
    -- Where the fold stood.
    stood_at     bigint NOT NULL,
    -- How many offsets the view has lost, with this log and with all before it. The versions of sales'
    -- outcomes are ahead of their offsets by so many, so that they go on rising.
    lost_offsets bigint NOT NULL CHECK (lost_offsets >= 0),
    accepted_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, number)
);

-- How many other logs the view has accepted: who has read a batch of the log before, or carries its
-- decisions out, cannot move the position any more.
-- Tables that a rebuild has exchanged may be put back: they need the column, too.
DO $$
DECLARE
    positions regclass;
BEGIN
    FOR positions IN
        SELECT 'view_positions'::regclass
         UNION
        SELECT c.oid FROM pg_class AS c
         WHERE c.relname = 'view_positions' AND c.relkind = 'r'
           AND c.relnamespace::regnamespace::text ~ '^retired_[0-9]+$'
    LOOP
        EXECUTE format('ALTER TABLE %s
            ADD COLUMN IF NOT EXISTS log_number integer NOT NULL DEFAULT 0', positions);
    END LOOP;
END $$;
