//! Tokens of buyers, made here.

use std::time::Duration;

use anyhow::Context;
use seckill_credentials::token::{self, BuyerClaims};
use seckill_service::settings::Secret;
use time::OffsetDateTime;

/// Longer than any run.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// `Bearer <token>` for each of the users 1 to `users`, in order.
///
/// # Errors
/// When a token cannot be signed.
pub fn bearers(secret: &Secret, users: u32) -> anyhow::Result<Vec<String>> {
    (1..=users)
        .map(|user| bearer(secret, user.into()))
        .collect()
}

/// `Bearer <token>` for one user.
///
/// # Errors
/// When the token cannot be signed.
pub fn bearer(secret: &Secret, user: u64) -> anyhow::Result<String> {
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp())?;
    let token = token::sign(secret.expose(), &BuyerClaims::new(user, now, TOKEN_LIFE));
    let token = token.context("signing a token")?;
    Ok(format!("Bearer {token}"))
}

#[cfg(test)]
mod tests {
    use seckill_credentials::token::{Keyring, demands};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_token_carries_the_users_number_issuer_audience_and_an_end() {
        let secret = Secret::new("0123456789abcdef");
        let bearers = bearers(&secret, 2).unwrap();
        let token = bearers[1].strip_prefix("Bearer ").unwrap();
        let keys = Keyring::new(b"0123456789abcdef", None, demands());
        let claims: Value = keys.check(token).unwrap();
        assert_eq!(claims["sub"], "2");
    }
}
