//! Rules that refuse orders.

use std::net::IpAddr;

use anyhow::Context;
use clap::{Args, Subcommand};
use ipnet::IpNet;
use seckill_domain::UserId;
use seckill_orderbook::RiskRule;
use serde_json::json;

use crate::act::Act;
use crate::commands::db::connect;
use crate::failure::Failure;
use crate::output::{Report, table};
use crate::settings::Settings;

/// The subject of a rule that is about all buyers.
const EVERYBODY: &str = "*";

/// What to do with the rules. All instances apply a change within seconds.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the rules.
    List,
    /// Refuse orders from a user, an address or a network, or orders without a token from the sale's page.
    #[command(after_help = "Examples:
  seckillctl risk block --address 203.0.113.0/24 --execute --reason 'scripts'
  seckillctl risk block --page-not-seen --execute --reason 'orders that no page made'")]
    Block {
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        act: Act,
    },
    /// Accept these orders again.
    Unblock {
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        act: Act,
    },
    /// Set the number of a rule that has one; 0 removes the rule.
    #[command(after_help = "Examples:
  seckillctl risk set --users-per-address 20 --execute --reason 'one campus, not one network'
  seckillctl risk set --page-ms-min 300 --execute --reason 'nobody is that quick'")]
    Set {
        #[command(flatten)]
        limit: Limit,
        #[command(flatten)]
        act: Act,
    },
}

/// Whose orders a block refuses.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Subject {
    /// The id of a user.
    #[arg(long, value_name = "ID")]
    user: Option<i64>,
    /// An address, or a network such as 203.0.113.0/24.
    #[arg(long, value_name = "ADDRESS", value_parser = network)]
    address: Option<IpNet>,
    /// Orders without a token from the sale's page.
    #[arg(long)]
    page_not_seen: bool,
}

/// A rule with a number.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Limit {
    /// How many users may order from one address in an hour, counted by each instance.
    #[arg(long, value_name = "USERS", value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    users_per_address: Option<i64>,
    /// The least time between loading the sale's page and an order, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..=60_000))]
    page_ms_min: Option<i64>,
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "neither an address nor a network".to_owned())?;
    Ok(network.trunc())
}

impl Subject {
    fn rule(&self) -> Result<RiskRule, Failure> {
        let (rule, subject) = match (self.user, self.address) {
            (Some(id), _) => {
                let user = UserId::new(id).map_err(|e| Failure::Usage(format!("--user: {e}")))?;
                ("user-blocked", user.to_string())
            }
            (None, Some(network)) => ("address-blocked", network.to_string()),
            (None, None) if self.page_not_seen => ("page-not-seen", EVERYBODY.to_owned()),
            (None, None) => {
                let needed = "--user, --address or --page-not-seen is needed";
                return Err(Failure::Usage(needed.into()));
            }
        };
        Ok(RiskRule {
            rule: rule.to_owned(),
            subject,
            value: 0,
        })
    }
}

impl Limit {
    fn rule(&self) -> Result<RiskRule, Failure> {
        let (rule, value) = match (self.users_per_address, self.page_ms_min) {
            (Some(users), _) => ("crowded-address", users),
            (None, Some(ms)) => ("impossible-timing", ms),
            (None, None) => {
                let needed = "--users-per-address or --page-ms-min is needed";
                return Err(Failure::Usage(needed.into()));
            }
        };
        Ok(RiskRule {
            rule: rule.to_owned(),
            subject: EVERYBODY.to_owned(),
            value,
        })
    }
}

pub(crate) async fn run(command: Command, settings: &Settings) -> Result<Report, Failure> {
    match command {
        Command::List => list(settings).await,
        Command::Block { subject, act } => change(subject.rule()?, true, &act, settings).await,
        Command::Unblock { subject, act } => change(subject.rule()?, false, &act, settings).await,
        Command::Set { limit, act } => {
            let rule = limit.rule()?;
            let wanted = rule.value > 0;
            change(rule, wanted, &act, settings).await
        }
    }
}

async fn list(settings: &Settings) -> Result<Report, Failure> {
    let rules = connect(settings)?.risk_rules().await;
    let rules = rules.context("cannot read the rules")?;
    let rows: Vec<[String; 3]> = rules
        .iter()
        .map(|r| [r.rule.clone(), r.subject.clone(), r.value.to_string()])
        .collect();
    let json: Vec<_> = rules
        .iter()
        .map(|r| json!({ "rule": r.rule, "subject": r.subject, "value": r.value }))
        .collect();
    Ok(Report {
        json: json!({ "rules": json }),
        text: table(["RULE", "SUBJECT", "VALUE"], &rows),
    })
}

/// Adds or removes a rule. Does nothing if it is already so.
async fn change(
    rule: RiskRule,
    wanted: bool,
    act: &Act,
    settings: &Settings,
) -> Result<Report, Failure> {
    let orderbook = connect(settings)?;
    let rules = orderbook.risk_rules().await;
    let rules = rules.context("cannot read the rules")?;
    let same = |held: &&RiskRule| held.rule == rule.rule && held.subject == rule.subject;
    let held = rules.iter().find(same);
    let is_so = if wanted {
        held == Some(&rule)
    } else {
        held.is_none()
    };
    let affected = usize::from(!is_so);
    let verb = if wanted { "put" } else { "remove" };
    let phrase = format!("{verb} {} {}", rule.rule, rule.subject);
    let warrant = act.warrant(&phrase, affected)?;
    if let Some(warrant) = &warrant {
        let entry = warrant.entry(affected);
        let changed = if wanted {
            orderbook.put_risk_rule(&rule, entry).await
        } else {
            orderbook.remove_risk_rule(&rule, entry).await
        };
        changed.context("cannot change the rules")?;
    }
    let closing = act.closing(warrant.is_some());
    Ok(Report {
        json: json!({
            "rule": rule.rule, "subject": rule.subject, "value": rule.value,
            "change": verb, "changes": affected, "executed": warrant.is_some(),
        }),
        text: format!("{phrase}: {affected} change{closing}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_of_one_and_a_network_has_no_host_part() {
        assert_eq!(
            network("203.0.113.5").unwrap().to_string(),
            "203.0.113.5/32"
        );
        assert_eq!(
            network("203.0.113.5/24").unwrap().to_string(),
            "203.0.113.0/24"
        );
        assert!(network("everybody").is_err());
    }
}
