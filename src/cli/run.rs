//! `spot-relay run`: the daemon.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tracing::{error, warn};

use crate::cli::configuration::{WrongValue, is_unreadable};
use crate::cli::environment::{files, runtime, signals, variable};
use crate::cloud::client::for_posts;
use crate::core::config::{Config, ConfigError, Notify};
use crate::core::retry::Backoff;
use crate::daemon;
use crate::host::files::Files;
use crate::host::lock::{Holder, Lock, LockError, Who};
use crate::host::text_file;
use crate::telemetry::webhook::Webhook;

/// The pauses after a panic, short enough for a notice.
const AFTER_A_PANIC: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Say what would be done on a notice, and write nothing to AWS
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn main(arguments: &Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let files = files();
    // A dry run changes nothing, so it needs no lock.
    let _lock = if arguments.dry_run { None } else { lock(&files)? };
    for unwise in config.unwise() {
        warn!("{}: {}", unwise.key, unwise.what);
    }
    let mut first_webhook = match webhook(&config.notify) {
        // A file that is mounted late must not cost a handover.
        Err(error) if is_unreadable(&error) => {
            warn!(
                "{error:#}; the daemon works without the webhook, and nobody is told there; put the file in its place and \
                 restart the service"
            );
            None
        }
        webhook => webhook?,
    };
    for (key, command) in [("notice", &config.hooks.notice), ("drained", &config.hooks.drained)] {
        if let Some(program) = command.first().filter(|program| !is_program(program)) {
            warn!(
                "[hooks] {key} names {program}, which is no program that can be run here; its handovers will be partial"
            );
        }
    }
    let runtime = runtime()?;
    let signals = RefCell::new(signals(&runtime)?);
    let run = || {
        let options = daemon::Options {
            webhook: first_webhook.take().or_else(|| webhook(&config.notify).unwrap_or_default()),
            config: config.clone(),
            dry_run: arguments.dry_run,
            metadata_endpoint: variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            files: files.clone(),
            drill: None,
        };
        runtime.block_on(daemon::run(options, &mut signals.borrow_mut()))
    };
    let is_asked_to_stop = |pause| {
        let mut signals = signals.borrow_mut();
        runtime.block_on(async { tokio::time::timeout(pause, signals.recv()).await.is_ok() })
    };
    let result = again_after_panics(run, is_asked_to_stop);
    // A file or a resolver that hangs must not delay the end.
    runtime.shutdown_background();
    result.transpose().map(|_| ExitCode::SUCCESS)
}

/// Runs the daemon again after a panic of its own loop, without ending the process. The next daemon goes on as after a
/// crash: it finds the notice and the record. `wait` tells whether a signal asked to stop meanwhile; then there is no
/// result.
fn again_after_panics<T>(mut run: impl FnMut() -> T, mut wait: impl FnMut(Duration) -> bool) -> Option<T> {
    let mut panics = 0;
    loop {
        if let Ok(result) = catch_unwind(AssertUnwindSafe(&mut run)) {
            return Some(result);
        }
        panics += 1;
        let pause = AFTER_A_PANIC.ceiling(panics);
        error!(
            "the daemon's own loop died, which is a fault of this program; it begins again in {} s",
            pause.as_secs()
        );
        if wait(pause) {
            return None;
        }
    }
}

/// Takes the lock: two daemons would undo each other's work. If the file cannot be used the daemon runs without a lock,
/// because the two minutes matter more.
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

/// Builds the webhook. At the start this finds a URL or a template that cannot be used.
///
/// # Errors
/// [`WrongValue`] names the key; a file that cannot be read is [`ConfigError::is_unreadable`].
pub(super) fn webhook(notify: &Notify) -> anyhow::Result<Option<Webhook>> {
    let (key, url) = match (&notify.webhook, &notify.webhook_file) {
        (Some(url), _) => ("notify.webhook", url.clone()),
        (None, Some(file)) => ("notify.webhook-file", webhook_of_file(file)?),
        (None, None) => return Ok(None),
    };
    let without = Webhook::new(&url, None, for_posts).map_err(|error| wrong(key, format!("{error:#}")))?;
    let Some(path) = &notify.template else { return Ok(Some(without)) };
    let template = read(path, "notify.template")?;
    let webhook = Webhook::new(&url, Some(&template), for_posts);
    webhook.map(Some).map_err(|error| ConfigError::wrong(path, &format!("{error:#}")).into())
}

/// Reads the URL from a file. A name without a slash is a credential that systemd passes.
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
    let shown = path.display().to_string();
    let text = read(&shown, "notify.webhook-file")?;
    Ok(text.trim().to_owned())
}

/// Reads the file that the key names.
fn read(path: &str, key: &'static str) -> anyhow::Result<String> {
    text_file::read(Path::new(path)).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => wrong(key, format!("{path} cannot be read: {error}")).into(),
        _ => ConfigError::unreadable(path, &error).into(),
    })
}

fn wrong(key: &'static str, what: String) -> WrongValue {
    WrongValue { key, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_panics_begins_again_on_the_same_runtime_after_growing_pauses() {
        let runtime = runtime().expect("a runtime");
        let (mut lives, mut pauses) = (0, Vec::new());
        let run = || {
            lives += 1;
            let life = lives;
            runtime.block_on(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(life > 3, "this one dies");
                life
            })
        };
        let result = again_after_panics(run, |pause| {
            pauses.push(pause.as_secs());
            false
        });
        assert_eq!((result, pauses), (Some(4), vec![1, 2, 4]));
    }

    #[test]
    fn a_signal_in_the_pause_after_a_panic_ends_it() {
        let mut lives = 0;
        let run = || {
            lives += 1;
            panic!("this one dies")
        };
        assert_eq!(again_after_panics::<()>(run, |_| true), None);
        assert_eq!(lives, 1);
    }
}
