-- Orders whose time to pay began later than Redis' clock said: the log took their reservations noticeably
-- later. They do not expire before. Kept beside the view: written by the fold, read by the timeout service.
CREATE TABLE expiries_not_before (
    order_id   uuid PRIMARY KEY,
    not_before timestamptz NOT NULL
);
