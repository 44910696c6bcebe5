-- Buyers who sign in with a mailed code. Orders keep user ids as they are and don't refer to this
-- table: whoever else holds the key may sign tokens of users that it does not have. Ids given out
-- here begin beyond any that such an issuer is likely to have used.
CREATE TABLE users (
    user_id    bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000000000) PRIMARY KEY,
    -- In lower case, so that a person is one user however the address is typed.
    email      text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) <= 254),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Sessions that were signed out. Every ingress reads what is new here each second; a row is of no
-- use once no token of its session can be good any more.
CREATE TABLE revoked_sessions (
    session_id uuid PRIMARY KEY,
    user_id    bigint NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE INDEX revoked_sessions_revoked_at ON revoked_sessions (revoked_at);
CREATE INDEX revoked_sessions_expires_at ON revoked_sessions (expires_at);
