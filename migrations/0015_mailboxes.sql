-- The address that all spellings of a mailbox share, as `Address::mailbox` of the code makes it: without what
-- follows a plus sign, and without dots where the provider ignores them. Of several users of one mailbox the first
-- one has it. Where a mailbox is to be one user, that is the one. No user's id changes.
ALTER TABLE users ADD COLUMN mailbox text;

UPDATE users SET mailbox = first.mailbox
  FROM (SELECT DISTINCT ON (mailbox) user_id, mailbox
          FROM (SELECT user_id, created_at,
                       CASE WHEN domain IN ('gmail.com', 'googlemail.com')
                            THEN replace(name, '.', '') || '@gmail.com'
                            ELSE name || '@' || domain
                       END AS mailbox
                  FROM (SELECT user_id, created_at, split_part(email, '@', 2) AS domain,
                               coalesce(nullif(split_part(split_part(email, '@', 1), '+', 1), ''),
                                        split_part(email, '@', 1)) AS name
                          FROM users) AS parts) AS named
         ORDER BY mailbox, created_at, user_id) AS first
 WHERE users.user_id = first.user_id;

CREATE UNIQUE INDEX users_mailbox ON users (mailbox);
