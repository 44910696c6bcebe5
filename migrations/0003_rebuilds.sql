-- Sets of the view's tables that are, or were, folded anew from the log beside the live ones. The
-- tables of the one at work are in the schema `rebuild_<id>`; once they are live, those they took the
-- place of are in `retired_<id>`.
CREATE TABLE rebuilds (
    id           integer PRIMARY KEY,
    topic        text NOT NULL,
    phase        text NOT NULL
        CHECK (phase IN ('loading', 'following', 'promoted', 'aborted', 'pruned')),
    -- Where the live fold stood when the rebuild began, a partition: up to there is the load.
    frozen_ends  bigint[] NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    changed_at   timestamptz NOT NULL DEFAULT now(),
    -- The last comparison with the live tables, and how many sales differed.
    proven_at    timestamptz,
    differing    bigint,
    -- For how long nobody could write the live tables when they were exchanged.
    pause_ms     bigint
);
CREATE UNIQUE INDEX rebuilds_one_at_a_time ON rebuilds ((true))
    WHERE phase IN ('loading', 'following', 'promoted');
