//! Parts that every command uses: environment variables, the daemon's files, standard output, a runtime.

use std::io::Write as _;

use anyhow::Context as _;

use crate::core::printable::printable_lines;
use crate::host::files::Files;
use crate::host::signals::Signals;

/// An environment variable; an empty one counts as unset.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The daemon's files, in the directories that the environment names.
pub(super) fn files() -> Files {
    Files::new(variable("STATE_DIRECTORY").as_deref(), variable("RUNTIME_DIRECTORY").as_deref())
}

/// Makes a runtime of one thread: an idle daemon needs no second one.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start the runtime")
}

/// Starts to catch the signals that ask to stop.
pub(super) fn signals(runtime: &tokio::runtime::Runtime) -> anyhow::Result<Signals> {
    runtime.block_on(async { Signals::new() }).context("failed to catch signals")
}

/// Prints the text on standard output. A closed reader is no error.
pub(super) fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    read_enough(writeln!(stdout, "{}", printable_lines(text)).and_then(|()| stdout.flush()))
}

/// Ignores the error of a closed reader.
pub(super) fn read_enough(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line on standard error, and ignores a failure.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable_lines(text));
}
