-- Records of the event topic that the fold has passed over, or will. One that no version can read is
-- noted in the transaction that moves the position past it. One of a schema that the running version
-- does not know is passed over only where an operator has decided so: that row is here first, without
-- `in_log`, until the decision itself stands in the log as a RecordSkipped event.
CREATE TABLE skipped_records (
    topic      text NOT NULL,
    partition  integer NOT NULL,
    "offset"   bigint NOT NULL,
    cause      text NOT NULL,
    -- The id of the RecordSkipped event; none where the record is malformed.
    decided_by uuid,
    in_log     boolean NOT NULL DEFAULT true,
    -- What operators did about the record since.
    fate       text CHECK (fate IN ('redriven', 'discarded')),
    PRIMARY KEY (topic, partition, "offset"),
    CONSTRAINT skipped_records_waits_only_for_a_decision CHECK (in_log OR decided_by IS NOT NULL)
);

-- Which letters were dealt with was noted before the records themselves were.
INSERT INTO skipped_records (topic, partition, "offset", cause, fate)
SELECT topic, partition, "offset", 'skipped by an earlier version: see its dead letter', fate
  FROM dead_letters_handled;
DROP TABLE dead_letters_handled;

-- The last record that the view has taken: by it the fold recognises the log it belongs to. And how
-- often a decision about a record ahead of the fold was noted: the fold moves only if it knows of all.
-- Tables that a rebuild has exchanged may be put back: they need the columns, too.
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
            ADD COLUMN IF NOT EXISTS last_offset bigint,
            ADD COLUMN IF NOT EXISTS last_identity bytea CHECK (octet_length(last_identity) = 16),
            ADD COLUMN IF NOT EXISTS skip_decisions integer NOT NULL DEFAULT 0', positions);
    END LOOP;
END $$;
