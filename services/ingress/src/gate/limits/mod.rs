//! Rate limits on attempts to order: by one address, by one buyer, of one voucher, and in all.
//!
//! Every limit is a token bucket that holds the tokens of one second, and counts the attempts at this instance.
//! The limits of a voucher and of all orders may be shared by all instances.

mod bucket;
mod lease;
mod shared;

use std::net::IpAddr;

use actix_web::http::header::{HeaderName, HeaderValue};
use seckill_domain::{UserId, VoucherId};

use self::bucket::{Buckets, Taken};
pub use self::shared::Budgets;
use self::shared::SharedBuckets;
use crate::http::address::subscriber;
use crate::http::problem::{Problem, RATE_LIMIT, RATE_LIMIT_POLICY};

/// Orders a second; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// From one address: a whole IPv4 address, or the first half of an IPv6 one.
    pub address: u32,
    /// By one buyer.
    pub user: u32,
    /// Of one voucher.
    pub voucher: u32,
    pub global: u32,
}

/// The limits of this process.
#[derive(Debug)]
pub struct Limits {
    address: Buckets<IpAddr>,
    user: Buckets<UserId>,
    voucher: SharedBuckets<VoucherId>,
    global: SharedBuckets<()>,
}

/// What is left of the limits of a caller who was admitted, for the headers of the answer.
#[derive(Debug, Default)]
pub struct Standing(Vec<Taken>);

impl Limits {
    /// Limits that nobody has used yet. With `budgets`, those of a voucher and of all are for all instances
    /// together.
    #[must_use]
    pub fn new(rates: Rates, budgets: Option<Budgets>) -> Self {
        let voucher = Buckets::new("voucher", rates.voucher);
        let name = |voucher: &VoucherId| format!("voucher:{voucher}");
        let global = Buckets::new("global", rates.global);
        Self {
            address: Buckets::new("address", rates.address),
            user: Buckets::new("user", rates.user),
            voucher: SharedBuckets::new(voucher, budgets.clone(), name),
            global: SharedBuckets::new(global, budgets, |()| "global".to_owned()),
        }
    }

    /// Counts one attempt from an address, before anything is done for it.
    ///
    /// # Errors
    /// `rate-limited`.
    pub fn admit_address(&self, address: Option<IpAddr>) -> Result<Standing, Problem> {
        let taken = match address {
            Some(address) => self.address.take(&subscriber(address))?,
            None => None,
        };
        Ok(Standing(taken.into_iter().collect()))
    }

    /// Counts one attempt of `user` to order anything.
    ///
    /// # Errors
    /// `rate-limited`.
    pub fn admit_user(&self, user: UserId, standing: &mut Standing) -> Result<(), Problem> {
        standing.0.extend(self.user.take(&user)?);
        Ok(())
    }

    /// Counts one attempt to order `voucher` that passed the other checks.
    ///
    /// # Errors
    /// `rate-limited`.
    pub fn admit_sale(&self, voucher: VoucherId, standing: &mut Standing) -> Result<(), Problem> {
        standing.0.extend(self.voucher.take(&voucher)?);
        standing.0.extend(self.global.take(&())?);
        Ok(())
    }
}

impl Standing {
    /// `RateLimit` and `RateLimit-Policy`: a list of the limits that the call was counted under; none
    /// where there are none.
    #[must_use]
    pub fn headers(&self) -> Option<[(HeaderName, HeaderValue); 2]> {
        if self.0.is_empty() {
            return None;
        }
        let list = |item: fn(&Taken) -> String| {
            let items: Vec<String> = self.0.iter().map(item).collect();
            HeaderValue::from_str(&items.join(", ")).ok()
        };
        Some([
            (RATE_LIMIT, list(Taken::state)?),
            (RATE_LIMIT_POLICY, list(Taken::policy)?),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn user(number: i64) -> UserId {
        UserId::new(number).unwrap()
    }

    fn voucher(number: i64) -> VoucherId {
        VoucherId::new(number).unwrap()
    }

    fn admitted(limits: &Limits, attempts: i64, who: fn(i64) -> (UserId, VoucherId)) -> usize {
        let admitted = |n: &i64| {
            let (user, voucher) = who(*n);
            let standing = &mut Standing::default();
            let admitted = limits.admit_user(user, standing);
            let admitted = admitted.and_then(|()| limits.admit_sale(voucher, standing));
            admitted.is_ok()
        };
        (1..=attempts).filter(admitted).count()
    }

    // A slow machine may let a token drip in between; 40 attempts take far less than 3 s.

    #[test]
    fn a_buyer_over_the_limit_is_refused_and_others_are_not() {
        let limits = Limits::new(
            Rates {
                user: 5,
                ..Rates::default()
            },
            None,
        );
        let mine = admitted(&limits, 40, |_| (user(1), voucher(1)));
        assert!((5..40).contains(&mine), "{mine}");
        assert_eq!(admitted(&limits, 5, |n| (user(n + 1), voucher(1))), 5);
    }

    #[test]
    fn a_crowd_at_one_voucher_leaves_the_others_alone() {
        let limits = Limits::new(
            Rates {
                voucher: 5,
                ..Rates::default()
            },
            None,
        );
        let crowd = admitted(&limits, 40, |n| (user(n), voucher(1)));
        assert!((5..40).contains(&crowd), "{crowd}");
        assert_eq!(admitted(&limits, 5, |n| (user(n), voucher(2))), 5);
    }

    #[test]
    fn the_global_limit_is_shared_and_zero_is_none() {
        let limits = Limits::new(
            Rates {
                global: 10,
                ..Rates::default()
            },
            None,
        );
        let all = admitted(&limits, 100, |n| (user(n), voucher(n)));
        assert!((10..100).contains(&all), "{all}");
        let unlimited = Limits::new(Rates::default(), None);
        assert_eq!(
            admitted(&unlimited, 1_000, |_| (user(1), voucher(1))),
            1_000
        );
    }

    #[test]
    fn an_address_is_limited_whoever_calls_from_it() {
        let limits = Limits::new(
            Rates {
                address: 5,
                ..Rates::default()
            },
            None,
        );
        let from = |last| Some(IpAddr::from(Ipv4Addr::new(203, 0, 113, last)));
        let one = (0..40).filter(|_| limits.admit_address(from(1)).is_ok());
        assert!((5..40).contains(&one.count()));
        assert!(limits.admit_address(from(2)).is_ok());
        assert!(limits.admit_address(None).is_ok());
    }

    #[test]
    fn headers_name_every_limit_and_what_is_left_of_it() {
        let limits = Limits::new(
            Rates {
                address: 100,
                user: 5,
                ..Rates::default()
            },
            None,
        );
        let address = Some(IpAddr::from([203, 0, 113, 1]));
        let mut standing = limits.admit_address(address).unwrap();
        limits.admit_user(user(1), &mut standing).unwrap();
        limits.admit_sale(voucher(1), &mut standing).unwrap();
        let [state, policy] = standing.headers().unwrap();
        assert_eq!(state.1, "\"address\";r=99;t=1, \"user\";r=4;t=1");
        assert_eq!(policy.1, "\"address\";q=100;w=1, \"user\";q=5;w=1");
        assert!(Standing::default().headers().is_none());
    }
}
