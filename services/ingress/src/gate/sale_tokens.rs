//! Sale tokens: a signed proof that a buyer has loaded a sale's page, valid for one order. They are made and checked
//! here without a store. The script that grants the units makes sure that a token is used only once.

use std::fmt;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use seckill_credentials::token::{Algorithm, Keyring, Validation, derived};
use seckill_domain::{Timestamp, UserId, VoucherId};
use seckill_service::settings::Secret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::problem::Problem;

/// The header with an order's token.
pub const SALE_TOKEN: &str = "x-sale-token";

/// Long enough to wait for a sale to open. Pages get a new token before it expires.
const LIFE: Duration = Duration::from_mins(30);
/// How much the clocks of two instances may differ.
const LEEWAY: Duration = Duration::from_secs(5);
/// It differs from that of sign-in tokens, and so does the key, so that neither is accepted as the other.
const AUDIENCE: &str = "seckill-sale";

/// JWT's `iat` and `exp` are whole seconds: too coarse to tell a person from a program.
#[derive(Serialize, Deserialize)]
struct SaleTokenClaims {
    aud: String,
    sub: String,
    voucher_id: i64,
    jti: Uuid,
    issued_us: i64,
    expires_us: i64,
}

/// A token with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedSaleToken {
    pub token: String,
    /// When it becomes valid.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// An order's proof that its buyer has loaded the sale's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageProof {
    /// Nothing.
    Missing,
    /// Not a token of this deployment, or one of another buyer or another sale.
    Invalid,
    /// An expired token.
    Expired,
    /// A token whose time is in the future.
    Early,
    /// A valid token.
    Good {
        /// Its nonce: the same for every copy of it.
        nonce: Uuid,
        /// Its age.
        age: Duration,
    },
}

impl PageProof {
    /// All that are not valid.
    pub const REFUSED: [Self; 4] = [Self::Missing, Self::Invalid, Self::Expired, Self::Early];

    /// As answers and logs spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Good { .. } => "good",
        }
    }

    /// The nonce of a valid token.
    #[must_use]
    pub const fn nonce(self) -> Option<Uuid> {
        match self {
            Self::Good { nonce, .. } => Some(nonce),
            _ => None,
        }
    }
}

/// Makes and checks sale tokens: JWTs, HS256, under a key derived from that of sign-in tokens.
pub struct SaleTokens(Keyring);

impl SaleTokens {
    /// `secret` is `TOKEN_SECRET`: the same on every instance, so that each accepts the others' tokens. Tokens of
    /// `previous` are valid, too.
    #[must_use]
    pub fn new(secret: &Secret, previous: Option<&Secret>) -> Self {
        let key = |secret: &Secret| derived(secret.expose().as_bytes(), b"sale tokens");
        let previous = previous.map(key);
        let previous = previous.as_ref().map(<[u8; 32]>::as_slice);
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["aud"]);
        // Times are checked below, to distinguish an expired token from an invalid one.
        validation.validate_exp = false;
        Self(Keyring::new(&key(secret), previous, validation))
    }

    /// A new token of `user` for one order of `voucher`, whether or not there is such a sale.
    ///
    /// # Errors
    /// `internal` when it cannot be signed.
    pub fn issue(
        &self,
        user: UserId,
        voucher: VoucherId,
        now: Timestamp,
    ) -> Result<IssuedSaleToken, Problem> {
        let expires_us = now.as_micros().saturating_add(micros(LIFE));
        let claims = SaleTokenClaims {
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            voucher_id: voucher.get(),
            jti: Uuid::new_v4(),
            issued_us: now.as_micros(),
            expires_us,
        };
        Ok(IssuedSaleToken {
            token: self.0.sign(&claims).map_err(Problem::internal)?,
            issued_at: now,
            expires_at: Timestamp::from_micros(expires_us),
        })
    }

    /// What a request of `user` for `voucher` shows. One without a token costs nothing.
    #[must_use]
    pub fn proof(
        &self,
        headers: &HeaderMap,
        user: UserId,
        voucher: VoucherId,
        now: Timestamp,
    ) -> PageProof {
        let mut values = headers.get_all(SALE_TOKEN);
        match (values.next(), values.next()) {
            (None, _) => PageProof::Missing,
            (Some(value), None) => value.to_str().map_or(PageProof::Invalid, |token| {
                self.check(token, user, voucher, now)
            }),
            (Some(_), Some(_)) => PageProof::Invalid,
        }
    }

    fn check(&self, token: &str, user: UserId, voucher: VoucherId, now: Timestamp) -> PageProof {
        let Ok(claims) = self.0.check::<SaleTokenClaims>(token) else {
            return PageProof::Invalid;
        };
        if claims.sub != user.to_string() || claims.voucher_id != voucher.get() {
            return PageProof::Invalid;
        }
        let age_us = now.as_micros().saturating_sub(claims.issued_us);
        if now.as_micros() >= claims.expires_us {
            PageProof::Expired
        } else if age_us < -micros(LEEWAY) {
            PageProof::Early
        } else {
            PageProof::Good {
                nonce: claims.jti,
                age: Duration::from_micros(u64::try_from(age_us).unwrap_or(0)),
            }
        }
    }
}

impl fmt::Debug for SaleTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaleTokens(redacted)")
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buyers::revoked::Revoked;
    use crate::buyers::tokens::{self, Tokens};
    use actix_web::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
    use futures_util::FutureExt;

    /// 2026-05-01T00:00:00Z.
    const NOW: Timestamp = Timestamp::from_micros(1_777_593_600_000_000);
    const HEADER: HeaderName = HeaderName::from_static(SALE_TOKEN);

    fn secret() -> Secret {
        Secret::new("a secret for tests only")
    }

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn voucher(id: i64) -> VoucherId {
        VoucherId::new(id).unwrap()
    }

    fn after(duration: Duration) -> Timestamp {
        Timestamp::from_micros(NOW.as_micros() + micros(duration))
    }

    /// Of user 42 for voucher 7.
    fn token() -> String {
        let issued = SaleTokens::new(&secret(), None).issue(user(42), voucher(7), NOW);
        issued.unwrap().token
    }

    fn check(token: &str, at: Timestamp) -> PageProof {
        SaleTokens::new(&secret(), None).check(token, user(42), voucher(7), at)
    }

    #[test]
    fn a_token_is_good_from_its_issue_until_it_expires_on_every_instance() {
        let token = token();
        let age = |at| match check(&token, at) {
            PageProof::Good { age, .. } => Ok(age),
            other => Err(other),
        };
        assert_eq!(age(NOW), Ok(Duration::ZERO));
        let later = Duration::from_micros(1_234_567);
        assert_eq!(age(after(later)), Ok(later));
        let last = LIFE - Duration::from_micros(1);
        assert_eq!(age(after(last)), Ok(last));
        assert_eq!(age(after(LIFE)), Err(PageProof::Expired));
        let before = |duration| Timestamp::from_micros(NOW.as_micros() - micros(duration));
        assert_eq!(age(before(LEEWAY)), Ok(Duration::ZERO));
        let earlier = LEEWAY + Duration::from_micros(1);
        assert_eq!(age(before(earlier)), Err(PageProof::Early));
    }

    #[test]
    fn every_token_has_a_name_of_its_own() {
        let tokens = [token(), token()];
        let names = tokens.map(|token| check(&token, NOW).nonce().unwrap());
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn a_token_is_of_one_buyer_one_sale_and_one_secret() {
        let (ours, token) = (SaleTokens::new(&secret(), None), token());
        let invalid = PageProof::Invalid;
        assert_eq!(ours.check(&token, user(43), voucher(7), NOW), invalid);
        assert_eq!(ours.check(&token, user(42), voucher(8), NOW), invalid);
        let another = Secret::new("another secret");
        let others = SaleTokens::new(&another, None);
        assert_eq!(others.check(&token, user(42), voucher(7), NOW), invalid);
        let changing = SaleTokens::new(&another, Some(&secret()));
        let proof = changing.check(&token, user(42), voucher(7), NOW);
        assert!(proof.nonce().is_some(), "the secret changes: {proof:?}");
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed_left_out_or_added() {
        let token = token();
        let bytes = token.as_bytes();
        for at in 0..bytes.len() {
            for other in [b'A', b'B', b'_', b'.', b'=', bytes[at] ^ 1, bytes[at] ^ 4] {
                if other == bytes[at] {
                    continue;
                }
                let mut changed = bytes.to_vec();
                changed[at] = other;
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(check(&changed, NOW), PageProof::Invalid, "{changed}");
            }
            let shorter = [&token[..at], &token[at + 1..]].concat();
            assert_eq!(check(&shorter, NOW), PageProof::Invalid, "{shorter}");
        }
        for longer in [
            format!("{token}A"),
            format!("{token}="),
            format!("A{token}"),
        ] {
            assert_eq!(check(&longer, NOW), PageProof::Invalid, "{longer}");
        }
        for garbage in ["", ".", "..", "a.b.c"] {
            assert_eq!(check(garbage, NOW), PageProof::Invalid, "{garbage:?}");
        }
    }

    #[test]
    fn a_sign_in_token_is_no_sale_token_nor_the_other_way_round() {
        let life = Duration::from_secs(60);
        let sign_in = tokens::mint(&secret(), user(42), life).unwrap();
        assert_eq!(check(&sign_in, NOW), PageProof::Invalid);
        let sign_ins = Tokens::new(&secret(), None, life, Revoked::default());
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token())).unwrap();
        headers.insert(AUTHORIZATION, bearer);
        assert!(sign_ins.caller(&headers).now_or_never().unwrap().is_err());
    }

    #[test]
    fn the_header_comes_once_and_is_text() {
        let proof = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
            }
            SaleTokens::new(&secret(), None).proof(&headers, user(42), voucher(7), NOW)
        };
        let token = token();
        assert_eq!(proof(&[]), PageProof::Missing);
        assert!(proof(&[token.as_bytes()]).nonce().is_some());
        assert_eq!(proof(&["é".as_bytes()]), PageProof::Invalid);
        let twice = proof(&[token.as_bytes(), token.as_bytes()]);
        assert_eq!(twice, PageProof::Invalid);
    }
}
