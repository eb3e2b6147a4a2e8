//! `spot-relay drill`: a real handover of this instance, and back.
//!
//! It is its own process, not a request to the daemon: nobody can reach the daemon and take an instance out of service.
//! While the drill runs it replaces the daemon, and holds the daemon's lock.

#[cfg(test)]
mod tests;
mod text;

use std::io::{self, BufRead as _, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::environment::{complain, files, read_enough, runtime, signals, variable};
use crate::core::config::Config;
use crate::core::drill::Survey;
use crate::core::notice::TWO_MINUTES;
use crate::daemon::{self, Drill, Options};
use crate::host::files::Files;
use crate::host::lock::{Holder, Lock, LockError, Who};

use super::screen::Screen;

/// The range of `--within`, in seconds. No handover can be shorter.
const WITHIN: std::ops::RangeInclusive<u64> = 10..=120;
/// The exit code without a terminal to ask on and without `--yes`: the same as for wrong arguments.
const EXIT_UNASKED: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Start without asking for confirmation
    #[arg(long)]
    yes: bool,
    /// The drill's deadline, 10s to 120s: the time that a notice would give
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = within)]
    within: Duration,
    /// Hand over although a target group has no other healthy target, or this instance might not come back
    #[arg(long)]
    force: bool,
    /// Print what would be done, with every call that changes something and what it acts on, and do nothing
    #[arg(long)]
    dry_run: bool,
}

fn within(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time from {} s to {} s, as in 30s", WITHIN.start(), WITHIN.end());
    let seconds = match text.strip_suffix('m') {
        Some(minutes) => minutes.parse::<u64>().ok().and_then(|minutes| minutes.checked_mul(60)),
        None => text.strip_suffix('s').unwrap_or(text).parse().ok(),
    };
    let seconds = seconds.filter(|seconds| WITHIN.contains(seconds)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds).min(TWO_MINUTES))
}

pub(super) fn main(arguments: &Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let files = files();
    if !arguments.dry_run {
        // This reports a taken lock early. It is not held while a person thinks: a daemon may start meanwhile.
        drop(lock(&files)?);
    }
    let mut options = Options {
        webhook: super::run::webhook(&config.notify)?,
        config,
        dry_run: false,
        metadata_endpoint: variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        files,
        drill: None,
    };
    let runtime = runtime()?;
    let survey = runtime.block_on(daemon::survey(&options))?;
    let screen = Screen::new();
    write(&text::plan(&survey, arguments.within, screen.paint, screen.width))?;
    if arguments.dry_run {
        write(&text::calls(&survey.calls(), screen.paint, screen.width))?;
        return Ok(ExitCode::SUCCESS);
    }
    refuse(&survey, arguments)?;
    if let Some(code) = unasked(arguments)? {
        return Ok(code);
    }
    // The lock is held until this process ends. The facts may have changed since the question, so they are read again.
    let _lock = lock(&options.files)?;
    let survey = runtime.block_on(daemon::survey(&options))?;
    refuse(&survey, arguments)?;
    options.drill = Some(Drill { known: survey.known.clone(), within: arguments.within });
    let mut signals = signals(&runtime)?;
    let ended = runtime.block_on(daemon::run(options, &mut signals));
    runtime.shutdown_background();
    let ended = ended?;
    write(&text::end(&ended, screen.paint, screen.width))?;
    Ok(if text::is_complete(&ended) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Refuses the drill if there is a reason against it.
fn refuse(survey: &Survey, arguments: &Arguments) -> anyhow::Result<()> {
    let obstacles = survey.obstacles();
    if !obstacles.is_empty() {
        anyhow::bail!("no drill now: {}", obstacles.join("; "));
    }
    let objections = survey.objections();
    if !objections.is_empty() && !arguments.force {
        anyhow::bail!("no drill: {}; --force hands over all the same", objections.join("; "));
    }
    Ok(())
}

/// Asks for confirmation; `None` if the drill begins, else the exit code.
fn unasked(arguments: &Arguments) -> anyhow::Result<Option<ExitCode>> {
    if arguments.yes {
        return Ok(None);
    }
    if !io::stdin().is_terminal() {
        complain("spot-relay: nobody can be asked here, and a drill is not begun unasked; with --yes it is");
        return Ok(Some(ExitCode::from(EXIT_UNASKED)));
    }
    let mut stdout = io::stdout().lock();
    write!(stdout, "Hand this instance over now? Type yes in full to go on: ")?;
    stdout.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        return Ok(None);
    }
    writeln!(stdout, "Nothing was done: the answer was not yes.")?;
    Ok(Some(ExitCode::FAILURE))
}

/// Takes the lock: a daemon and a drill would undo each other's work.
fn lock(files: &Files) -> anyhow::Result<Lock> {
    let path = files.lock_path();
    Lock::take(&path, Who::Drill).map_err(|error| match error {
        LockError::Held(Holder { who: Who::Daemon, pid }) => anyhow::anyhow!(
            "the daemon works for this instance (process {pid}); a drill takes its place as long as it runs: stop it first, as \
             with systemctl stop spot-relay, and start it afterwards"
        ),
        LockError::Held(Holder { who: Who::Drill, pid }) => {
            anyhow::anyhow!("another drill is under way (process {pid}); let it end first")
        }
        LockError::Unusable(error) => anyhow::anyhow!(
            "failed to lock {}: {error}; so nothing would keep the daemon from working beside the drill; run it as root, or as \
             the daemon's user",
            path.display()
        ),
    })
}

fn write(lines: &[String]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    read_enough(lines.iter().try_for_each(|line| writeln!(stdout, "{line}")).and_then(|()| stdout.flush()))
}
