-- How many of an order's expiries were appended to the log. While no projector runs every order stays
-- unpaid, however often that is: each claim is for longer than the one before.
ALTER TABLE expiry_claims ADD COLUMN attempts integer NOT NULL DEFAULT 1 CHECK (attempts >= 0);
