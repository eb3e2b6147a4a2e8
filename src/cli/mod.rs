//! What a person types and reads: the command line, one file a command.
//!
//! Invariant: exit codes are the contract's. Errors are printed once, here, with the chain of what led to them.

mod demo;
mod drill;
mod logging;
mod policy;
mod run;
mod screen;
mod sim;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigError};

/// A value of the configuration, as in `notify.webhook`, that its user refuses.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {what}")]
struct WrongValue {
    key: &'static str,
    what: String,
}

/// The configuration is wrong (`EX_CONFIG` of sysexits.h): the unit does not restart on it.
const EXIT_CONFIG: u8 = 78;
const DEFAULT_CONFIG: &str = "/etc/spot-relay/config.toml";

/// Hands a Spot instance's work over when the two-minute notice comes: takes it out of its target groups, has a
/// successor launched, waits until the last request is answered, and records what happened.
#[derive(Debug, Parser)]
#[command(name = "spot-relay", version, max_term_width = 100)]
struct Cli {
    /// The configuration file; it may be absent unless it is named here [default: /etc/spot-relay/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How log lines are written to standard error; RUST_LOG sets the level
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the metadata and hand over when a notice comes: the daemon, also in the foreground for debugging
    Run(run::Arguments),
    /// Print the smallest IAM policy for this configuration and this instance's owner
    Policy(policy::Arguments),
    /// Hand this instance over for real, as if the notice had come, and put everything back: asks before
    Drill(drill::Arguments),
    /// Show a whole handover in under a minute, without an AWS account: simulated metadata and AWS on loopback
    Demo(demo::Arguments),
    /// Serve the demo's simulated metadata and AWS alone, for other clients (boto3, the AWS CLI, curl)
    #[command(hide = true)]
    Sim(sim::Arguments),
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run(arguments) => with_config(cli.config.as_deref(), |config| {
            logging::start(cli.log_format);
            run::main(arguments, config)
        }),
        Command::Policy(arguments) => with_config(cli.config.as_deref(), |config| policy::main(arguments, &config)),
        Command::Drill(arguments) => with_config(cli.config.as_deref(), |config| {
            logging::start(cli.log_format);
            drill::main(arguments, config)
        }),
        Command::Demo(arguments) => demo::main(arguments),
        Command::Sim(arguments) => {
            logging::start(cli.log_format);
            sim::main(arguments)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("spot-relay: {error:#}");
        match error.downcast_ref::<ConfigError>() {
            Some(_) => ExitCode::from(EXIT_CONFIG),
            None => ExitCode::FAILURE,
        }
    })
}

fn with_config(
    named: Option<&std::path::Path>,
    command: impl FnOnce(Config) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let path = named.unwrap_or(std::path::Path::new(DEFAULT_CONFIG));
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => String::new(),
        Err(error) => return Err(ConfigError::unreadable(&name, &error).into()),
    };
    command(Config::parse(&text, &name)?).map_err(|error| placed(error, &text, &name))
}

/// What only its user finds out about a value is told with the line that it was written in.
fn placed(error: anyhow::Error, text: &str, file: &str) -> anyhow::Error {
    match error.downcast::<WrongValue>() {
        Ok(wrong) => ConfigError::of_value(file, text, wrong.key, &wrong.what).into(),
        Err(error) => error,
    }
}

/// An environment variable; an empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Onto standard output; who closed it has read enough.
fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// One thread: an idle daemon has nothing for a second one.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start the runtime")
}
