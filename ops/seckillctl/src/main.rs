//! The operators' command line.

// Use the functions of `output` instead: `print!` and `eprint!` panic when they cannot write.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod act;
mod admin;
mod commands;
mod decoded;
mod failure;
mod log;
mod output;
mod settings;
mod stock;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use seckill_service::{failpoints, panics};

use crate::commands::{
    completion, db, dlq, doctor, order, rebuild, reconcile, replay, risk, sale, schemas, session,
    token, topics,
};
use crate::failure::Failure;
use crate::output::{Output, Report, print, tell, written};
use crate::settings::Settings;

const AFTER_HELP: &str = "\
Settings are read from the environment, or from --env-file alone where it is given:
  KAFKA_BROKERS, EVENT_PARTITIONS, TOPIC_PREFIX   doctor, topics, order --at, order timeline, dlq,
                                                  replay, rebuild, reconcile
  SCHEMA_REGISTRY_URL and the rest of its kind    schemas, and whatever reads or writes the log
  DATABASE_URL                                    doctor, db, sale report, order, topics lag, topics accept, dlq,
                                                  risk, session, token, replay --execute, rebuild, reconcile
  REDIS_URL, PROMISE_DEADLINE_MS                  doctor, topics accept, reconcile
  EXPIRY_GRACE_SECONDS                            doctor
  INGRESS_ADMIN_URL or INGRESS_ADMIN_LISTEN,
  INGRESS_ADMIN_SSL_CA_LOCATION, ADMIN_TOKEN      sale
  TOKEN_SECRET                                    token
Any of them may be given as NAME_FILE, the path of a file that holds the value.

dlq redrive, dlq discard, replay --to-topic, rebuild, reconcile, session end, topics reset, topics accept
and changes of risk rules print what they would do.
With --execute they do it, after a confirmation, and note who did it and why in the table ops_audit.
token notes there whose token was made, too.

Exit codes:
  0  done, or as much of it as somebody read
  1  failed; the message says what to do
  2  wrong arguments or settings; nothing was done
  3  there is no such sale, order or dead letter
  4  not confirmed, or never to be done; nothing was done

Examples:
  seckillctl topics create --replication 3
  seckillctl db migrate
  seckillctl doctor
  seckillctl sale create --title 'Espresso machine' --price-cents 4900 --stock 100
  seckillctl sale show 17 --output json
  seckillctl sale report 17
  seckillctl topics lag
  seckillctl order timeline 00000004-4c2a-8f5a-91b3-5a0000000001
  seckillctl dlq list --cause 'unknown schema'
  seckillctl token --user 7 | sed 's/^/Authorization: Bearer /' | curl -H @- http://127.0.0.1:8080/api/v1/orders";

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
    /// Show orders and their history.
    #[command(subcommand)]
    Order(order::Command),
    /// End sessions of buyers.
    #[command(subcommand)]
    Session(session::Command),
    /// Make a buyer's bearer token, and record it in the audit.
    Token(token::Arguments),
    /// Check Kafka, Redis and PostgreSQL: whether they answer, their versions and their settings.
    ///
    /// Nothing is changed. Each problem is printed with the command or the setting that solves it. The exit code is 1
    /// if something is wrong; a risk does not change it.
    #[command(after_help = "Example: seckillctl doctor --output json")]
    Doctor,
    /// Make the Kafka topics, check them, or see how far the views are behind.
    #[command(subcommand)]
    Topics(topics::Command),
    /// Register the schemas of this version in a schema registry, or check them against it.
    #[command(subcommand)]
    Schemas(schemas::Command),
    /// Prepare the database.
    #[command(subcommand)]
    Db(db::Command),
    /// Show records that could not be decoded or applied, and redrive, skip or discard them.
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Fold the log into new tables, compare them with the live ones, and replace these.
    #[command(subcommand)]
    Rebuild(rebuild::Command),
    /// Compare PostgreSQL and Redis with the log, and repair what differs.
    Reconcile(reconcile::Arguments),
    /// Show and change the rules that refuse orders.
    #[command(subcommand)]
    Risk(risk::Command),
    /// Copy a part of the log into another topic, or print it.
    Replay(replay::Arguments),
    /// Print the script that completes this command line in a shell.
    Completion {
        /// The shell that reads the script.
        #[arg(value_enum)]
        shell: completion::CompletedShell,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    panics::end_the_process(seckill_eventlog::catches_panics);
    match answer().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::NobodyReads) {
                tell(format_args!("seckillctl: {failure}\n"));
            }
            failure.exit_code()
        }
    }
}

async fn answer() -> Result<(), Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints the error on standard error, and ends the process with its own exit code.
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return written(help.print()),
    };
    let output = cli.output;
    run(cli)
        .await?
        .map_or(Ok(()), |report| report.print(output))
}

/// Returns a report, or none if the command has printed its result itself.
async fn run(cli: Cli) -> Result<Option<Report>, Failure> {
    failpoints::install().map_err(anyhow::Error::msg)?;
    let settings = Settings::load(cli.env_file.as_deref());
    match cli.command {
        Command::Sale(command) => sale::run(command, &settings).await,
        Command::Order(command) => order::run(command, &settings).await,
        Command::Session(command) => session::run(command, &settings).await,
        Command::Token(arguments) => token::run(&arguments, &settings).await,
        Command::Doctor => doctor::run(&settings, cli.output).await,
        Command::Topics(command) => topics::run(command, &settings).await,
        Command::Schemas(command) => schemas::run(command, &settings, cli.output).await,
        Command::Db(command) => db::run(command, &settings).await,
        Command::Risk(command) => risk::run(command, &settings).await,
        Command::Dlq(command) => dlq::run(command, &settings).await,
        Command::Rebuild(command) => rebuild::run(command, &settings, cli.output).await,
        Command::Reconcile(arguments) => reconcile::run(&arguments, &settings, cli.output).await,
        Command::Replay(arguments) => return replay::run(&arguments, &settings).await,
        Command::Completion { shell } => {
            print(completion::script(shell, Cli::command()).trim_end())?;
            return Ok(None);
        }
    }
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("seckillctl token --user 7 --ttl 1x", "90s, 15m or 12h"),
            ("seckillctl topics create --replication 0", "--replication"),
            ("seckillctl sale restock 1 0 --reason x", "UNITS"),
            ("seckillctl sale shrink 1 5", "--reason"),
            ("seckillctl dlq redrive", "PARTITION/OFFSET"),
            ("seckillctl dlq redrive 3", "PARTITION/OFFSET"),
            ("seckillctl dlq redrive 3/1 --execute", "--reason"),
            ("seckillctl dlq redrive 3/1 --yes", "--execute"),
            ("seckillctl dlq discard 3/1", "--export"),
            ("seckillctl replay", "--to-topic"),
            ("seckillctl reconcile --voucher 0", "a voucher id is"),
            ("seckillctl reconcile --execute", "--reason"),
            ("seckillctl topics reset --to-offset 0", "--view"),
            ("seckillctl topics reset --view effects", "--to-offset"),
            ("seckillctl topics accept", "--partition"),
            (
                "seckillctl replay --stdout --execute --reason x",
                "--execute",
            ),
            ("seckillctl replay --stdout --to-topic x", "--to-topic"),
            ("seckillctl replay --stdout --since noon", "RFC 3339"),
            (
                "seckillctl sale create --title x --price-cents -1 --stock 1",
                "-1",
            ),
            (
                "seckillctl sale create --title x --price-cents 1 --stock 1 --currency euro",
                "three capital letters",
            ),
            (
                "seckillctl sale create --title x --price-cents 1 --stock 1 --currency XAU",
                "no currency of ISO 4217",
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

    /// Splits a line into words like a shell. The examples use only single quotes.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('\'').enumerate();
        let word = |(n, part): (usize, &str)| match n % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        };
        parts.flat_map(word).collect()
    }

    #[test]
    fn the_commands_of_the_runbooks_are_real() {
        let runbooks = [
            include_str!("../../runbooks/alerts.md"),
            include_str!("../../runbooks/dead-letters.md"),
            include_str!("../../runbooks/fold-stands-still.md"),
            include_str!("../../runbooks/lag.md"),
            include_str!("../../runbooks/lost-redis.md"),
            include_str!("../../runbooks/rebuild.md"),
            include_str!("../../runbooks/reconcile.md"),
            include_str!("../../runbooks/upgrade.md"),
        ];
        let lines = runbooks.iter().flat_map(|text| text.lines());
        let commands: Vec<_> = lines.filter(|l| l.starts_with("seckillctl ")).collect();
        assert!(commands.len() > 10, "{commands:?}");
        for line in commands {
            let line = line.split('#').next().unwrap_or(line);
            // A redirection of the output is not an argument of the command.
            let line = line.split(" > ").next().unwrap_or(line);
            let line = line.split(" || ").next().unwrap_or(line);
            let parsed = Cli::try_parse_from(words(line));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        }
    }
}
