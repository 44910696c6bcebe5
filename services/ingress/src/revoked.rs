//! Sessions that were signed out, as this process knows them. PostgreSQL has all of them, because a
//! sign-out has to outlive a lost Redis; every process reads what is new there each second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use seckill_domain::Timestamp;
use seckill_orderbook::RevokedSession;
use uuid::Uuid;

/// The set. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Revoked(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sessions: RwLock<HashMap<Uuid, Timestamp>>,
    /// Most of the time nobody has signed out lately, and then no request takes the lock.
    any: AtomicBool,
}

impl Revoked {
    /// Whether the session was signed out.
    #[must_use]
    pub fn contains(&self, session_id: Uuid) -> bool {
        if !self.0.any.load(Ordering::Acquire) {
            return false;
        }
        let sessions = self.0.sessions.read();
        let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.contains_key(&session_id)
    }

    /// Adds one, until all of its tokens have expired.
    pub fn insert(&self, session_id: Uuid, expires_at: Timestamp) {
        let session = RevokedSession {
            session_id,
            expires_at,
        };
        self.learn(&[session], Timestamp::MIN);
    }

    /// Adds what was read, and forgets what has expired by `now`.
    pub fn learn(&self, new: &[RevokedSession], now: Timestamp) {
        let sessions = self.0.sessions.write();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.extend(new.iter().map(|new| (new.session_id, new.expires_at)));
        sessions.retain(|_, expires_at| *expires_at > now);
        self.0.any.store(!sessions.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_revoked_until_its_tokens_have_expired() {
        let (revoked, session_id) = (Revoked::default(), Uuid::new_v4());
        assert!(!revoked.contains(session_id));
        revoked.insert(session_id, Timestamp::from_micros(100));
        assert!(revoked.contains(session_id));
        assert!(!revoked.contains(Uuid::new_v4()));
        revoked.learn(&[], Timestamp::from_micros(99));
        assert!(revoked.contains(session_id));
        revoked.learn(&[], Timestamp::from_micros(100));
        assert!(!revoked.contains(session_id));
    }
}
