-- Users all of whose sessions up to a moment are over: signed out everywhere, or ended by an operator. Every
-- ingress reads what is new here each second; a row is of no use once no token of those sessions can be good.
CREATE TABLE ended_sessions (
    user_id    bigint PRIMARY KEY,
    up_to      timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX ended_sessions_ended_at ON ended_sessions (ended_at);
CREATE INDEX ended_sessions_expires_at ON ended_sessions (expires_at);

-- Beside whom an operator says to be, what nobody can just say: the address that a request to the admin API came
-- from, or the account and the machine that a command ran on; and the login that wrote the row. Earlier rows have
-- neither.
ALTER TABLE ops_audit
    ADD COLUMN origin text,
    ADD COLUMN login  text;
ALTER TABLE ops_audit ALTER COLUMN login SET DEFAULT session_user;

-- Right codes that were shown, and from where. Kept for 90 days.
CREATE TABLE sign_ins (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    user_id  bigint NOT NULL,
    address  text,
    trace_id text NOT NULL
);
CREATE INDEX sign_ins_user_id ON sign_ins (user_id, at);
CREATE INDEX sign_ins_at ON sign_ins (at);
