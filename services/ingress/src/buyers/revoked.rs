//! Sessions that are over, as this process knows them. PostgreSQL has all of them, because a
//! sign-out has to outlive a lost Redis; every process reads what is new there each second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use seckill_domain::{Timestamp, UserId};
use seckill_orderbook::{EndedSessions, Revocations, RevokedSession};
use uuid::Uuid;

/// The set. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Revoked(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    over: RwLock<Over>,
    /// Most of the time nobody has signed out lately, and then no request takes the lock.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Over {
    /// Until when each counts.
    sessions: HashMap<Uuid, Timestamp>,
    users: HashMap<UserId, EndedSessions>,
}

impl Revoked {
    /// Whether the session is over: by itself, or with all of its user's up to some moment after it `began`.
    #[must_use]
    pub fn contains(
        &self,
        session_id: Uuid,
        user: UserId,
        began: impl FnOnce() -> Timestamp,
    ) -> bool {
        if !self.0.any.load(Ordering::Acquire) {
            return false;
        }
        let over = self.0.over.read().unwrap_or_else(PoisonError::into_inner);
        let ended = over.users.get(&user);
        over.sessions.contains_key(&session_id) || ended.is_some_and(|e| began() <= e.up_to)
    }

    /// Adds one, until all of its tokens have expired.
    pub fn insert(&self, session_id: Uuid, expires_at: Timestamp) {
        self.change(|over| {
            over.sessions.insert(session_id, expires_at);
        });
    }

    /// Adds all of a user's.
    pub fn insert_all(&self, ended: EndedSessions) {
        self.change(|over| over.end(ended));
    }

    /// Adds what was read, and forgets what has expired by then.
    pub fn learn(&self, news: &Revocations) {
        let now = news.as_of;
        self.change(|over| {
            let new = |new: &RevokedSession| (new.session_id, new.expires_at);
            over.sessions.extend(news.sessions.iter().map(new));
            for ended in &news.users {
                over.end(*ended);
            }
            over.sessions.retain(|_, expires_at| *expires_at > now);
            over.users.retain(|_, ended| ended.expires_at > now);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Over)) {
        let mut over = self.0.over.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut over);
        let any = !(over.sessions.is_empty() && over.users.is_empty());
        self.0.any.store(any, Ordering::Release);
    }
}

impl Over {
    fn end(&mut self, ended: EndedSessions) {
        let known = self.users.entry(ended.user_id).or_insert(ended);
        known.up_to = known.up_to.max(ended.up_to);
        known.expires_at = known.expires_at.max(ended.expires_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn nothing_new(as_of: i64) -> Revocations {
        Revocations {
            as_of: at(as_of),
            sessions: Vec::new(),
            users: Vec::new(),
        }
    }

    #[test]
    fn a_session_is_revoked_until_its_tokens_have_expired() {
        let (revoked, session_id) = (Revoked::default(), Uuid::new_v4());
        let contains = |id| revoked.contains(id, user(1), || at(5));
        assert!(!contains(session_id));
        revoked.insert(session_id, at(100));
        assert!(contains(session_id));
        assert!(!contains(Uuid::new_v4()));
        revoked.learn(&nothing_new(99));
        assert!(contains(session_id));
        revoked.learn(&nothing_new(100));
        assert!(!contains(session_id));
    }

    #[test]
    fn all_sessions_of_a_user_are_over_but_those_that_began_later() {
        let revoked = Revoked::default();
        let contains = |id, began| revoked.contains(Uuid::new_v4(), user(id), || at(began));
        let ended = |up_to, expires_at| EndedSessions {
            user_id: user(1),
            up_to: at(up_to),
            expires_at: at(expires_at),
        };
        revoked.insert_all(ended(10, 100));
        assert!(contains(1, 10) && !contains(1, 11) && !contains(2, 10));
        // What another instance noted earlier takes nothing back.
        let news = Revocations {
            users: vec![ended(9, 90)],
            ..nothing_new(50)
        };
        revoked.learn(&news);
        assert!(contains(1, 10));
        revoked.learn(&nothing_new(100));
        assert!(!contains(1, 10));
    }
}
