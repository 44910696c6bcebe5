//! Makes bearer tokens of buyers that the ingress accepts.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use seckill_credentials::token::{self, BuyerClaims};
use seckill_domain::{Actor, Reason, Timestamp, UserId};
use serde_json::json;
use time::OffsetDateTime;

use crate::act::{Warrant, user};
use crate::commands::db::connect;
use crate::failure::Failure;
use crate::output::{Report, moment};
use crate::settings::{Need, Settings};

/// The longest validity of a token.
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The content of the token, and who asks for it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The user id of the buyer.
    #[arg(long, value_name = "ID")]
    user: UserId,
    /// How long the token is valid: a number and s, m or h, up to a day.
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,
    /// The reason, for the audit.
    #[arg(long, value_name = "TEXT", value_parser = Reason::written)]
    reason: Option<Reason>,
    /// The name of the operator, for the audit [default: the value of USER].
    #[arg(long, value_name = "NAME", value_parser = Actor::written)]
    actor: Option<Actor>,
}

pub(crate) async fn run(arguments: &Arguments, settings: &Settings) -> Result<Report, Failure> {
    settings.check(&[Need::TokenSecret, Need::Database])?;
    let report = made(arguments, settings)?;
    // Write the audit before the token is printed.
    let actor = arguments.actor.clone().or_else(user).unwrap_or_default();
    let warrant = Warrant::new(actor, arguments.reason.clone().unwrap_or_default());
    let noted = connect(settings)?.audit(warrant.entry(1)).await;
    noted.context("cannot note in ops_audit that a token is made, and so none is")?;
    Ok(report)
}

fn made(arguments: &Arguments, settings: &Settings) -> Result<Report, Failure> {
    let secret = settings.token_secret()?;
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp());
    let now = now.context("the clock is before 1970")?;
    let claims = BuyerClaims::new(arguments.user, now, arguments.ttl);
    let token = token::sign(secret.expose(), &claims).context("cannot sign the token")?;
    let exp = i64::try_from(claims.exp).unwrap_or(i64::MAX);
    let expires_at = moment(Timestamp::from_micros(exp.saturating_mul(1_000_000)));
    Ok(Report {
        json: json!({ "token": token, "user_id": claims.sub, "expires_at": expires_at }),
        text: token,
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
    use seckill_credentials::token::{Error, Keyring, demands};
    use serde_json::Value;

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

    fn verify(token: &str, secret: &str) -> Result<Value, Error> {
        Keyring::new(secret.as_bytes(), None, demands()).check(token)
    }

    #[test]
    fn a_token_passes_the_check_of_the_contract_and_lasts_its_ttl() {
        let claims = verify(&minted(Duration::from_secs(900)), SECRET).unwrap();
        assert_eq!(claims["sub"], "7");
        let [exp, iat] = ["exp", "iat"].map(|name| claims[name].as_u64().unwrap());
        assert_eq!(exp - iat, 900);
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
