//! The operators' command line.

mod admin;
mod commands;
mod failure;
mod output;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{db, order, sale, token, topics};
use crate::failure::Failure;
use crate::output::{Output, Report};
use crate::settings::Settings;

const AFTER_HELP: &str = "\
Settings are read from the environment, or from --env-file alone where it is given:
  KAFKA_BROKERS, EVENT_PARTITIONS, TOPIC_PREFIX   topics
  DATABASE_URL                                    db, order
  INGRESS_ADMIN_URL or INGRESS_ADMIN_LISTEN,
  ADMIN_TOKEN                                     sale
  TOKEN_SECRET                                    token
Any of them may be given as NAME_FILE, the path of a file that holds the value.

Exit codes:
  0  done
  1  failed; the message says what to do
  2  wrong arguments or settings; nothing was done
  3  there is no such sale or order

Examples:
  seckillctl topics create --replication 3
  seckillctl db migrate
  seckillctl sale create --title 'Espresso machine' --price-cents 4900 --stock 100
  seckillctl sale show 17 --output json
  curl -H \"Authorization: Bearer $(seckillctl token --user 7)\" http://127.0.0.1:8080/api/v1/orders";

/// Operates a flash-sale pipeline: its topics, its database, its sales and its orders.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    /// Read settings from this file of NAME=value lines instead of the environment.
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// What to print: text for people, or JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put sales up, change their stock, close them, and see where their units are.
    #[command(subcommand)]
    Sale(sale::Command),
    /// See orders.
    #[command(subcommand)]
    Order(order::Command),
    /// Make a buyer's bearer token.
    Token(token::Arguments),
    /// Make the Kafka topics, or check them.
    #[command(subcommand)]
    Topics(topics::Command),
    /// Prepare the database.
    #[command(subcommand)]
    Db(db::Command),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = cli.output;
    match run(cli).await {
        Ok(report) => {
            report.print(output);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("seckillctl: {failure}");
            failure.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<Report, Failure> {
    let settings = Settings::load(cli.env_file.as_deref())?;
    match cli.command {
        Command::Sale(command) => sale::run(command, &settings).await,
        Command::Order(command) => order::run(command, &settings).await,
        Command::Token(arguments) => token::run(&arguments, &settings),
        Command::Topics(command) => topics::run(command, &settings).await,
        Command::Db(command) => db::run(command, &settings).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn refused(line: &str) -> String {
        let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_arguments_are_declared_without_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let line = "seckillctl topics create --replication 3 --env-file local.env --output json";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.output, Output::Json);
        assert_eq!(cli.env_file, Some(PathBuf::from("local.env")));
    }

    #[test]
    fn what_could_never_be_meant_is_a_usage_error() {
        for (line, names) in [
            ("seckillctl sale show 0", "a voucher id is"),
            ("seckillctl order show 42", "an order id is"),
            ("seckillctl token --user -1", "-1"),
            ("seckillctl token --user 7 --ttl 1x", "90s, 15m, 1h or 7d"),
            ("seckillctl topics create --replication 0", "--replication"),
            ("seckillctl sale restock 1 0 --reason x", "UNITS"),
            ("seckillctl sale shrink 1 5", "--reason"),
            (
                "seckillctl sale create --title x --price-cents -1 --stock 1",
                "-1",
            ),
            (
                "seckillctl sale create --title x --price-cents 1 --stock 1 --currency euro",
                "three capital letters",
            ),
            (
                "seckillctl sale create --title x --price-cents 1 --stock 1 --opens-at noon",
                "RFC 3339",
            ),
        ] {
            let message = refused(line);
            assert!(message.contains(names), "{line}: {message}");
        }
    }
}
