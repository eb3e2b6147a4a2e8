//! `spot-relay run`: the daemon.

use std::process::ExitCode;

use crate::config::Config;
use crate::daemon;
use crate::record::Files;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Say what would be done on a notice, and write nothing to AWS
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn main(arguments: &Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let files = Files::new(variable("STATE_DIRECTORY").as_deref(), variable("RUNTIME_DIRECTORY").as_deref());
    let options = daemon::Options {
        config,
        dry_run: arguments.dry_run,
        metadata_endpoint: variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        files,
    };
    let runtime = super::runtime()?;
    let result = runtime.block_on(daemon::run(options));
    // A file that hangs, or a resolver, must not hold up the end.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}
