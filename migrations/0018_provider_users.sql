-- Buyers whom an identity provider names: who has which id. As in `users`, an id is a keyed hash, here of issuer and `sub`, so that a
-- database that lost its last rows gives the same buyer the same id again. A row keeps a second one whose hash is the same from it.
-- Ids lie between those that older versions counted and the hashed ones of addresses, so that no table has to know the other's.
CREATE TABLE provider_users (
    user_id    bigint PRIMARY KEY CHECK (user_id >= 2251799813685248 AND user_id < 4503599627370496),
    issuer     text NOT NULL,
    -- Compared byte for byte, whatever the database's collation.
    sub        text COLLATE "C" NOT NULL CHECK (octet_length(sub) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (issuer, sub)
);
