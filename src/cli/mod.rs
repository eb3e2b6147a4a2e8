//! The command line, for people: one file a command.
//!
//! Invariant: exit codes are as documented. Errors are printed once, here, with their causes.

mod chart;
mod check;
mod completions;
mod configuration;
mod demo;
mod drill;
mod environment;
mod man;
mod policy;
mod run;
mod screen;
mod sim;
mod status;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use self::configuration::{EXIT_CONFIG, EXIT_UNREADABLE, load};
use crate::core::config::{Config, ConfigError};
use crate::telemetry::logging::{self, LogFormat};

/// Hands a Spot instance's work over when the two-minute notice comes
///
/// spot-relay runs on an EC2 Spot instance behind a load balancer and watches the instance metadata. When AWS gives the
/// two-minute notice, it takes its own instance out of its target groups, asks the owner of the instance to launch a
/// successor, waits until the last request is answered, and sees the successor into service. Without any configuration
/// it finds out by itself which target groups and which owner these are.
#[derive(Debug, Parser)]
#[command(name = "spot-relay", version, max_term_width = 100)]
struct Cli {
    /// The configuration file; it may be absent unless it is named here [default: /etc/spot-relay/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The format of log lines on standard error; RUST_LOG sets the level
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the metadata and hand over when a notice comes: the daemon, also in the foreground for debugging
    #[command(
        after_help = "Exit status: 0 stopped, 1 another daemon runs, 75 configuration unreadable or not there, 78 configuration wrong, 2 wrong arguments"
    )]
    Run(run::Arguments),
    /// Find out now what would go wrong in the two minutes: metadata, permissions, owner, target groups, and more
    #[command(after_help = "Exit status: 0, 1 if anything failed, with `--config-only` 78")]
    Check(check::Arguments),
    /// Print the smallest IAM policy for this configuration and this instance's owner
    #[command(after_help = "Exit status: 0, 1 if the owner is unknown")]
    Policy(policy::Arguments),
    /// Tell what the daemon is doing, and the last handover as a timeline; no privilege is needed
    #[command(after_help = "Exit status: 0 the daemon runs, 3 it does not, 1 its status cannot be read")]
    Status(status::Arguments),
    /// Hand this instance over for real, as if the notice had come, and bring it back; it asks before
    #[command(
        after_help = "Exit status: 0 complete and put back, 1 partial, called off or refused, 2 no terminal to ask on, or wrong arguments"
    )]
    Drill(drill::Arguments),
    /// Show a whole handover in about a minute, without an AWS account: simulated metadata and AWS on loopback
    #[command(after_help = "Exit status: 0 if the handover was complete and no request was lost, else 1")]
    Demo(demo::Arguments),
    /// Serve the demo's simulated metadata and AWS alone, for other clients (boto3, the AWS CLI, curl)
    #[command(hide = true)]
    Sim(sim::Arguments),
    /// Print a manual page: packages install them
    #[command(hide = true)]
    Man(man::Arguments),
    /// Print a shell completion script: packages install it
    #[command(hide = true)]
    Completions(completions::Arguments),
}

/// The definitions of the command line, for documentation and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command line without its hidden commands.
fn visible() -> clap::Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect::<Vec<_>>();
    let visible =
        clap::Command::new("spot-relay").version(env!("CARGO_PKG_VERSION")).args(all.get_arguments().cloned());
    let about = all.get_about().cloned().unwrap_or_default();
    let long_about = all.get_long_about().cloned().unwrap_or_default();
    visible.about(about).long_about(long_about).subcommands(shown)
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run(arguments) => with_config(cli.config.as_deref(), |config| {
            let _logging = logging::start(cli.log_format);
            run::main(arguments, config)
        }),
        Command::Check(arguments) => check::main(arguments, cli.config.as_deref()),
        Command::Policy(arguments) => with_config(cli.config.as_deref(), |config| policy::main(arguments, &config)),
        Command::Status(arguments) => status::main(arguments),
        Command::Drill(arguments) => with_config(cli.config.as_deref(), |config| {
            let _logging = logging::start(cli.log_format);
            drill::main(arguments, config)
        }),
        Command::Demo(arguments) => demo::main(arguments),
        Command::Man(arguments) => man::main(arguments, visible()),
        Command::Completions(arguments) => completions::main(arguments, visible()),
        Command::Sim(arguments) => {
            let _logging = logging::start(cli.log_format);
            sim::main(arguments)
        }
    };
    result.unwrap_or_else(|error| {
        environment::complain(&format!("spot-relay: {error:#}"));
        match error.downcast_ref::<ConfigError>() {
            Some(error) if error.is_unreadable() => ExitCode::from(EXIT_UNREADABLE),
            Some(_) => ExitCode::from(EXIT_CONFIG),
            None => ExitCode::FAILURE,
        }
    })
}

fn with_config(
    named: Option<&Path>,
    command: impl FnOnce(Config) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let loaded = load(named)?;
    command(loaded.config.clone()).map_err(|error| loaded.placed(error))
}
