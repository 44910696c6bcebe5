//! What an instance remembers of a sale without units, so that a crowd is refused without asking Redis.
//!
//! Redis gives a lease: until it is over, nobody gets units. It says nothing to buyers who have ordered before: they may
//! be repeating a request, on any instance, and Redis alone knows their order. So the instance reads once who they are,
//! and goes on asking for them. Units that come back are on sale when the last lease is over, everywhere at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seckill_domain::{UserId, VoucherId};
use seckill_stock::{HoldersVersion, SoldOutLease};

use super::queues::QueueState;
use super::{PlaceOrder, ReservationsContext};

/// The clocks of Redis and of this process may differ in speed, and that of Redis may be corrected by some milliseconds.
const TRUSTED_QUARTERS: u32 = 3;
/// When so much of a lease is left, one order is sent to Redis, and comes back with the next lease.
const RENEWED_AT: Duration = Duration::from_millis(10);
/// Reading who has ordered costs Redis one part of so many, if the buyers change all the time.
const READING_SHARE: u32 = 10;
/// The pause after a reading that has failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Times are of one monotonic clock with any origin.
#[derive(Default)]
pub(super) struct SoldOut(RwLock<Remembered>);

#[derive(Default)]
struct Remembered {
    refusing: Option<Refusing>,
    holders: Option<Holders>,
    /// No reading of the holders begins before; none while one is under way.
    next_reading: Option<Duration>,
}

/// A lease that can be used: it is for the holders that are known.
struct Refusing {
    until: Duration,
    /// Whether an order is under way for the next lease.
    renewing: AtomicBool,
    max_quantity: u32,
    requires_sale_token: bool,
}

impl Refusing {
    /// Whether this order is the one that has to ask for the next lease.
    fn asks_for_the_next(&self, now: Duration) -> bool {
        now + RENEWED_AT >= self.until && !self.renewing.swap(true, Ordering::Relaxed)
    }
}

struct Holders {
    version: HoldersVersion,
    /// In ascending order.
    users: Vec<UserId>,
}

impl SoldOut {
    /// Whether Redis would answer `sold-out` to this order, and to every other of the same buyer.
    pub(super) fn refuses(&self, order: &PlaceOrder, now: Duration) -> bool {
        let remembered = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(refusing), Some(holders)) = (&remembered.refusing, &remembered.holders) else {
            return false;
        };
        now < refusing.until
            && !refusing.asks_for_the_next(now)
            && (1..=refusing.max_quantity).contains(&order.quantity)
            && (order.sale_token.is_some() || !refusing.requires_sale_token)
            && holders.users.binary_search(&order.user_id).is_err()
    }

    /// Notes the lease that came with the answer to a call that was sent at `sent`. Returns true if the caller has to
    /// read who the holders are, and then to call [`Self::has_read`].
    pub(super) fn learn(&self, lease: &SoldOutLease, sent: Duration, now: Duration) -> bool {
        let mut remembered = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = remembered.holders.as_ref();
        if known.is_some_and(|holders| holders.version == lease.holders) {
            remembered.refusing = Some(Refusing {
                until: sent + lease.lasts * TRUSTED_QUARTERS / 4,
                renewing: AtomicBool::new(false),
                max_quantity: lease.max_quantity,
                requires_sale_token: lease.requires_sale_token,
            });
            return false;
        }
        let due = remembered.next_reading.is_none_or(|at| at <= now);
        if due {
            remembered.next_reading = Some(Duration::MAX);
        }
        due
    }

    /// Notes who has ordered, as far as it was read: all of `version`, or nothing.
    fn has_read(
        &self,
        version: HoldersVersion,
        users: Option<Vec<UserId>>,
        took: Duration,
        now: Duration,
    ) {
        let mut remembered = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let pause = match users {
            Some(users) => {
                remembered.holders = Some(Holders { version, users });
                took * READING_SHARE
            }
            None => RETRY_PAUSE,
        };
        // The lease was for other holders.
        remembered.refusing = None;
        remembered.next_reading = Some(now + pause);
    }
}

/// Reads who has ordered in a sale.
pub(super) async fn read_holders(
    shared: Arc<ReservationsContext>,
    voucher: VoucherId,
    queue: Arc<QueueState>,
    version: HoldersVersion,
) {
    let began = shared.now();
    let users = match shared.pages.holders(voucher, &version).await {
        Ok(users) => users,
        Err(error) => {
            tracing::debug!(%voucher, %error, "Redis is asked for every order of this sold-out sale");
            None
        }
    };
    let now = shared.now();
    queue
        .sold_out
        .has_read(version, users, now.saturating_sub(began), now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::TraceParent;
    use uuid::Uuid;

    const LEASE: Duration = Duration::from_millis(40);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn lease(holders: &str) -> SoldOutLease {
        SoldOutLease {
            lasts: LEASE,
            max_quantity: 3,
            requires_sale_token: false,
            holders: HoldersVersion::from(holders),
        }
    }

    fn order(user: i64) -> PlaceOrder {
        PlaceOrder {
            user_id: UserId::new(user).unwrap(),
            quantity: 1,
            key_hash: None,
            traceparent: TraceParent::generate(1, 1),
            sale_token: None,
        }
    }

    /// Users 3 and 5 have ordered. Of version `a` that was read at 100 ms and took one.
    fn knows_holders() -> SoldOut {
        let sold_out = SoldOut::default();
        assert!(sold_out.learn(&lease("a"), ms(98), ms(99)));
        let users = [3, 5].map(|user| UserId::new(user).unwrap());
        sold_out.has_read(
            HoldersVersion::from("a"),
            Some(users.to_vec()),
            ms(1),
            ms(100),
        );
        sold_out
    }

    /// At which milliseconds a buyer is refused who has not ordered.
    fn expect(sold_out: &SoldOut, cases: &[(u64, bool)]) {
        for (at, refused) in cases {
            assert_eq!(sold_out.refuses(&order(1), ms(*at)), *refused, "at {at} ms");
        }
    }

    #[test]
    fn nobody_is_refused_before_a_lease_for_the_known_holders_and_nobody_after_it() {
        let sold_out = knows_holders();
        assert!(
            !sold_out.refuses(&order(1), ms(100)),
            "the lease was before"
        );
        assert!(!sold_out.learn(&lease("a"), ms(200), ms(205)));
        expect(
            &sold_out,
            &[(205, true), (219, true), (230, false), (240, false)],
        );
    }

    #[test]
    fn before_a_lease_is_over_one_order_asks_for_the_next() {
        let sold_out = knows_holders();
        sold_out.learn(&lease("a"), ms(200), ms(201));
        expect(
            &sold_out,
            &[(219, true), (220, false), (220, true), (229, true)],
        );
        sold_out.learn(&lease("a"), ms(220), ms(229));
        expect(
            &sold_out,
            &[(230, true), (239, true), (240, false), (249, true)],
        );
    }

    #[test]
    fn whoever_has_ordered_is_not_refused() {
        let sold_out = knows_holders();
        sold_out.learn(&lease("a"), ms(200), ms(201));
        for (user, refused) in [(2, true), (3, false), (4, true), (5, false), (6, true)] {
            assert_eq!(
                sold_out.refuses(&order(user), ms(202)),
                refused,
                "user {user}"
            );
        }
    }

    #[test]
    fn an_order_that_is_refused_for_another_reason_is_left_to_redis() {
        let sold_out = knows_holders();
        sold_out.learn(&lease("a"), ms(200), ms(201));
        let of = |quantity| PlaceOrder {
            quantity,
            ..order(1)
        };
        for (quantity, refused) in [(0, false), (1, true), (3, true), (4, false)] {
            assert_eq!(
                sold_out.refuses(&of(quantity), ms(202)),
                refused,
                "{quantity} units"
            );
        }
        let with_tokens = SoldOutLease {
            requires_sale_token: true,
            ..lease("a")
        };
        sold_out.learn(&with_tokens, ms(202), ms(203));
        assert!(!sold_out.refuses(&order(1), ms(204)));
        let with_token = PlaceOrder {
            sale_token: Some(Uuid::nil()),
            ..order(1)
        };
        assert!(sold_out.refuses(&with_token, ms(204)));
    }

    #[test]
    fn a_lease_for_other_holders_is_not_used_and_they_are_read_once_in_a_while() {
        let sold_out = knows_holders();
        assert!(
            !sold_out.learn(&lease("b"), ms(104), ms(105)),
            "too soon: a reading took 1 ms"
        );
        assert!(!sold_out.refuses(&order(1), ms(106)));
        assert!(sold_out.learn(&lease("b"), ms(110), ms(111)));
        assert!(
            !sold_out.learn(&lease("b"), ms(900), ms(901)),
            "it is under way"
        );
        sold_out.has_read(HoldersVersion::from("b"), None, ms(1), ms(902));
        assert!(
            !sold_out.learn(&lease("b"), ms(1_800), ms(1_801)),
            "it has failed"
        );
        assert!(sold_out.learn(&lease("b"), ms(1_902), ms(1_903)));
    }
}
