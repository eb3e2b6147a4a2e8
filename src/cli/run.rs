//! `spot-relay run`: the daemon.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tracing::warn;

use crate::cli::configuration::WrongValue;
use crate::cli::environment::{files, runtime, variable};
use crate::core::config::{Config, ConfigError, Notify};
use crate::daemon;
use crate::host::files::Files;
use crate::host::lock::{Holder, Lock, LockError, Who};
use crate::host::text_file;
use crate::telemetry::webhook::Webhook;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Say what would be done on a notice, and write nothing to AWS
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn main(arguments: &Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let files = files();
    // It writes nothing, and is in nobody's way.
    let _lock = if arguments.dry_run { None } else { lock(&files)? };
    for unwise in config.unwise() {
        warn!("{}: {}", unwise.key, unwise.what);
    }
    let options = daemon::Options {
        webhook: webhook(&config.notify)?,
        config,
        dry_run: arguments.dry_run,
        metadata_endpoint: variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        files,
        drill: None,
    };
    for (key, command) in [("notice", &options.config.hooks.notice), ("drained", &options.config.hooks.drained)] {
        if let Some(program) = command.first().filter(|program| !is_program(program)) {
            warn!(
                "[hooks] {key} names {program}, which is no program that can be run here; its handovers will be partial"
            );
        }
    }
    let runtime = runtime()?;
    let result = runtime.block_on(daemon::run(options));
    // A file that hangs, or a resolver, must not hold up the end.
    runtime.shutdown_background();
    result.map(|_| ExitCode::SUCCESS)
}

/// Two that work for one instance would undo what the other one does. Without the file nobody can tell, and the two minutes
/// matter more.
fn lock(files: &Files) -> anyhow::Result<Option<Lock>> {
    let path = files.lock_path();
    match Lock::take(&path, Who::Daemon) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Held(Holder { who: Who::Daemon, pid })) => anyhow::bail!(
            "another daemon works for this instance already (process {pid}, which holds {}); this one ends, because two would \
             undo each other's work; stop that one first",
            path.display()
        ),
        Err(LockError::Held(Holder { who: Who::Drill, pid })) => anyhow::bail!(
            "a drill is under way (process {pid}, which holds {}), and is this instance's daemon as long as it runs; start this \
             one again when it has ended",
            path.display()
        ),
        Err(LockError::Unusable(error)) => {
            warn!(
                "failed to lock {}: {error}; going on without, so nothing keeps a second daemon or a drill from working beside \
                 this one",
                path.display()
            );
            Ok(None)
        }
    }
}

/// Tells whether execvp(3) would find this program.
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

/// Builds the webhook. A URL or a template that cannot be used is a wrong configuration, found at start.
///
/// # Errors
/// [`WrongValue`] names the key; a file that cannot be read is [`ConfigError::is_unreadable`].
pub(super) fn webhook(notify: &Notify) -> anyhow::Result<Option<Webhook>> {
    let (key, url) = match (&notify.webhook, &notify.webhook_file) {
        (Some(url), _) => ("notify.webhook", url.clone()),
        (None, Some(file)) => ("notify.webhook-file", webhook_of_file(file)?),
        (None, None) => return Ok(None),
    };
    let without = Webhook::new(&url, None).map_err(|error| wrong(key, format!("{error:#}")))?;
    let Some(path) = &notify.template else { return Ok(Some(without)) };
    let template = read(path, "notify.template")?;
    let webhook = Webhook::new(&url, Some(&template));
    webhook.map(Some).map_err(|error| ConfigError::wrong(path, &format!("{error:#}")).into())
}

/// The URL that a file holds. A name without a slash is a credential that systemd passes.
fn webhook_of_file(file: &str) -> anyhow::Result<String> {
    let path = match (file.contains('/'), variable("CREDENTIALS_DIRECTORY")) {
        (true, _) => PathBuf::from(file),
        (false, Some(directory)) => Path::new(&directory).join(file),
        (false, None) => {
            let what = format!(
                "{file:?} names a credential, and systemd passes none: add LoadCredential={file}:/etc/spot-relay/{file} to \
                 the unit with a drop-in, or write the whole path of the file"
            );
            return Err(wrong("notify.webhook-file", what).into());
        }
    };
    read(&path.display().to_string(), "notify.webhook-file").map(|text| text.trim().to_owned())
}

/// The text of a file that the key names.
fn read(path: &str, key: &'static str) -> anyhow::Result<String> {
    text_file::read(Path::new(path)).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidData => wrong(key, format!("{path} cannot be read: {error}")).into(),
        _ => ConfigError::unreadable(path, &error).into(),
    })
}

fn wrong(key: &'static str, what: String) -> WrongValue {
    WrongValue { key, what }
}
