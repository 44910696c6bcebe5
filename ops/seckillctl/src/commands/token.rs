//! Bearer tokens of buyers, as the ingress checks them.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use seckill_domain::{Actor, Reason, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use crate::act::{Warrant, user};
use crate::commands::db::connect;
use crate::failure::Failure;
use crate::output::{Report, moment};
use crate::settings::{Need, Settings};

/// Issuer and audience of every token.
const SECKILL: &str = "seckill";
/// No token is good for longer.
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the token is to say, and who wants it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The buyer.
    #[arg(long, value_name = "ID")]
    user: UserId,
    /// How long it is good for: a number and s, m or h, up to a day.
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = Reason::written)]
    reason: Option<Reason>,
    /// Who, for the audit; else USER says so.
    #[arg(long, value_name = "NAME", value_parser = Actor::written)]
    actor: Option<Actor>,
}

/// The claims that the ingress demands. Times in seconds since the Unix epoch.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    /// The user id as a decimal string.
    sub: String,
    iat: i64,
    exp: i64,
    iss: String,
    aud: String,
}

pub(crate) async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report, Failure> {
    settings.check(&[Need::TokenSecret, Need::Database])?;
    let report = made(arguments, settings)?;
    // Before anybody has it.
    let actor = arguments.actor.clone().or_else(user).unwrap_or_default();
    let warrant = Warrant::new(actor, arguments.reason.clone().unwrap_or_default());
    let noted = connect(settings)?.audit(warrant.entry(1)).await;
    noted.context("cannot note in ops_audit that a token is made, and so none is")?;
    Ok(report)
}

fn made(arguments: &Arguments, settings: &Settings) -> Result<Report, Failure> {
    let secret = settings.token_secret()?;
    let issued_at = OffsetDateTime::now_utc();
    let claims = claims(arguments.user, issued_at, arguments.ttl)?;
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .context("cannot sign the token")?;
    let expires_at = moment(Timestamp::from_micros(claims.exp.saturating_mul(1_000_000)));
    Ok(Report {
        json: json!({ "token": token, "user_id": claims.sub, "expires_at": expires_at }),
        text: token,
    })
}

fn claims(user: UserId, issued_at: OffsetDateTime, ttl: Duration) -> anyhow::Result<Claims> {
    let iat = issued_at.unix_timestamp();
    let ttl_seconds = i64::try_from(ttl.as_secs()).ok();
    let exp = ttl_seconds.and_then(|ttl| iat.checked_add(ttl));
    Ok(Claims {
        sub: user.to_string(),
        iat,
        exp: exp.context("--ttl is longer than time itself; give a shorter one")?,
        iss: SECKILL.to_owned(),
        aud: SECKILL.to_owned(),
    })
}

fn parse_ttl(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str =
        "give a positive number and a unit, up to a day, such as 90s, 15m or 12h";
    let unit_at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(unit_at).ok_or(EXPECTED)?;
    let unit_seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        _ => return Err(EXPECTED),
    };
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let ttl = number.checked_mul(unit_seconds).map(Duration::from_secs);
    let ttl = ttl.filter(|ttl| !ttl.is_zero() && *ttl <= TTL_MAX);
    ttl.ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn minted(ttl: Duration) -> String {
        let arguments = Arguments {
            user: UserId::new(7).unwrap(),
            ttl,
            reason: None,
            actor: None,
        };
        let settings = Settings::from([("TOKEN_SECRET", SECRET)]);
        made(&arguments, &settings).unwrap().text
    }

    fn verify(token: &str, secret: &str) -> jsonwebtoken::errors::Result<Claims> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[SECKILL]);
        validation.set_audience(&[SECKILL]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let key = DecodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::decode(token, &key, &validation).map(|data| data.claims)
    }

    #[test]
    fn a_token_passes_the_check_of_the_contract_and_lasts_its_ttl() {
        let claims = verify(&minted(Duration::from_secs(900)), SECRET).unwrap();
        assert_eq!(claims.sub, "7");
        assert_eq!(claims.exp - claims.iat, 900);
        assert!(verify(&minted(Duration::from_secs(900)), "another secret..").is_err());
    }

    #[test]
    fn lengths_of_time_have_a_unit_are_positive_and_at_most_a_day() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3600), ("24h", 86_400)] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "h",
            "1",
            "0s",
            "-1h",
            "1.5h",
            "25h",
            "86401s",
            "7d",
            "1x",
            "1é",
            "999999999999999999999d",
        ] {
            assert!(parse_ttl(text).is_err(), "{text:?}");
        }
    }
}
