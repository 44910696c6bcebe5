-- Kafka cannot delete a single record: which dead letters an operator has dealt with is noted here. A
-- letter is named by where its record stood in the event topic, which is the same for every copy of it.
CREATE TABLE dead_letters_handled (
    topic      text NOT NULL,
    partition  integer NOT NULL,
    "offset"   bigint NOT NULL,
    fate       text NOT NULL CHECK (fate IN ('redriven', 'discarded')),
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset")
);
