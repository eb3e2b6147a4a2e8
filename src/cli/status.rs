//! `spot-relay status`: what the daemon is doing, and the last handover as a timeline.
//!
//! It reads the daemon's status file, which everybody may read, and does not contact the daemon. Invariant: its report
//! is as old as that file, and says how old; without a living process the daemon counts as not running.

mod page;
mod report;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::cli::environment::files;
use crate::core::incident::Incident;
use crate::host::boot;
use crate::host::files::Files;
use crate::host::lock;
use crate::host::processes;

use super::screen::{Paint, Screen};
use report::{Presence, StatusReport, StatusSources};

/// The exit code for "not running" of LSB's init scripts.
const EXIT_NOT_RUNNING: u8 = 3;
/// The pause between two looks at the file with `--watch`.
const WATCH_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print it as JSON, for other programs
    #[arg(long)]
    json: bool,
    /// Show it until interrupted: drawn again on a terminal, and elsewhere printed at every change (JSON: one line each)
    #[arg(long)]
    watch: bool,
}

/// A finished handover, for a person.
pub(super) fn handover(record: &Incident, paint: Paint, width: usize) -> Vec<String> {
    page::handover(&report::ReportedHandover::of(record, None), paint, width)
}

pub(super) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let files = files();
    let mut report = StatusReport::of(&look(&files)?);
    let written = match arguments.watch {
        true => watch(&files, &mut report, arguments.json),
        false => once(&report, arguments.json),
    };
    // The reader has closed the pipe, as in `spot-relay status | head -1`.
    let is_closed = |error: &anyhow::Error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    match written {
        Err(error) if !is_closed(&error) => return Err(error),
        _ => {}
    }
    Ok(if report.running { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOT_RUNNING) })
}

fn once(report: &StatusReport, json: bool) -> anyhow::Result<()> {
    if json {
        writeln!(io::stdout().lock(), "{}", serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    let mut screen = Screen::new();
    let lines = page::lines(report, screen.paint, screen.width);
    Ok(screen.show(&lines, &[])?)
}

/// Shows the status at every change, until it is interrupted or the reader is gone. `report` is the last one.
fn watch(files: &Files, report: &mut StatusReport, json: bool) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let mut shown: Option<StatusReport> = None;
    loop {
        if screen.is_live() && !json {
            screen.measure();
            screen.show(&[], &page::lines_within(report, screen.paint, screen.width, screen.height))?;
        } else if shown.as_ref().is_none_or(|shown| report.is_news_after(shown)) {
            if json {
                writeln!(io::stdout().lock(), "{}", serde_json::to_string(report)?)?;
            } else {
                let mut lines = page::lines(report, screen.paint, screen.width);
                if shown.is_some() {
                    lines.insert(0, String::new());
                }
                screen.show(&lines, &[])?;
            }
            shown = Some(report.clone());
        }
        std::thread::sleep(WATCH_EVERY);
        *report = StatusReport::of(&look(files)?);
    }
}

/// The status file, and whether the process that wrote it lives.
fn look(files: &Files) -> anyhow::Result<StatusSources> {
    let path = files.status_path();
    let status = files.read_status().with_context(|| {
        format!(
            "failed to read {}; it is of another version of this program, or not for this user to read",
            path.display()
        )
    })?;
    let lives = status.as_ref().is_some_and(|status| processes::lives(status.pid, status.process_started));
    let now = boot::now();
    let presence = Presence::of(status.as_ref(), lives, lock::daemon(&files.lock_path()), now);
    // A status file of an earlier process says nothing about the present one.
    let status = status.filter(|_| !matches!(presence, Presence::Untold(_)));
    let record = if presence == Presence::Absent { files.read_any_record() } else { None };
    let path = path.display().to_string();
    Ok(StatusSources { status, record, presence, dry_runs: processes::dry_runs(), path, now })
}
