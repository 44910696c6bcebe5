-- Whose orders are refused before they are taken. Empty: nobody's.
CREATE TABLE risk_rules (
    rule       text NOT NULL,
    -- user-blocked: the user's id; address-blocked: an address or a network; crowded-address: *
    subject    text NOT NULL,
    -- crowded-address: how many users may order from one address in an hour; else 0
    value      bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rule, subject),
    CHECK (CASE rule
        WHEN 'user-blocked' THEN subject ~ '^[1-9][0-9]{0,18}$' AND value = 0
        WHEN 'address-blocked' THEN subject::inet IS NOT NULL AND value = 0
        WHEN 'crowded-address' THEN subject = '*' AND value BETWEEN 1 AND 1000000
        ELSE false
    END)
);

-- Counts changes, so that instances need not read all rules every second.
CREATE TABLE risk_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL
);
INSERT INTO risk_version (version) VALUES (1);

-- A trigger, so that an edit by hand is seen, too.
CREATE FUNCTION risk_rules_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE risk_version SET version = version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER risk_rules_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON risk_rules
    FOR EACH STATEMENT EXECUTE FUNCTION risk_rules_changed();
