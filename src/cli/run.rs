//! `spot-relay run`: the daemon.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use tracing::warn;

use super::WrongValue;
use crate::config::{Config, ConfigError, Notify};
use crate::daemon;
use crate::record::Files;
use crate::webhook::Webhook;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Say what would be done on a notice, and write nothing to AWS
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn main(arguments: &Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let files =
        Files::new(super::variable("STATE_DIRECTORY").as_deref(), super::variable("RUNTIME_DIRECTORY").as_deref());
    for unwise in config.unwise() {
        warn!("{}: {}", unwise.key, unwise.what);
    }
    let options = daemon::Options {
        webhook: webhook(&config.notify)?,
        config,
        dry_run: arguments.dry_run,
        metadata_endpoint: super::variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        files,
    };
    for (key, command) in [("notice", &options.config.hooks.notice), ("drained", &options.config.hooks.drained)] {
        if let Some(program) = command.first().filter(|program| !is_program(program)) {
            warn!(
                "[hooks] {key} names {program}, which is no program that can be run here; its handovers will be partial"
            );
        }
    }
    let runtime = super::runtime()?;
    let result = runtime.block_on(daemon::run(options));
    // A file that hangs, or a resolver, must not hold up the end.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// As execvp(3) would find it.
pub(super) fn is_program(name: &str) -> bool {
    let is_executable = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    match name.contains('/') {
        true => is_executable(Path::new(name)),
        false => {
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|it| is_executable(&it.join(name)))
        }
    }
}

/// A webhook that cannot be posted to is a wrong configuration, found at start.
pub(super) fn webhook(notify: &Notify) -> anyhow::Result<Option<Webhook>> {
    let Some(url) = &notify.webhook else { return Ok(None) };
    let without = Webhook::new(url, None).map_err(|error| wrong("notify.webhook", format!("{error:#}")))?;
    let Some(path) = &notify.template else { return Ok(Some(without)) };
    let template = std::fs::read_to_string(path)
        .map_err(|error| wrong("notify.template", format!("{path} cannot be read: {error}")))?;
    let webhook = Webhook::new(url, Some(&template));
    webhook.map(Some).map_err(|error| ConfigError::wrong(path, &format!("{error:#}")).into())
}

fn wrong(key: &'static str, what: String) -> WrongValue {
    WrongValue { key, what }
}
