//! SIGTERM, SIGINT and SIGHUP as something to await, without a thread.
//!
//! The caller decides what a signal means; each signal is counted, so a second one can mean something else than the
//! first. SIGHUP (the terminal is gone) asks to stop, too, because a handover or a drill has something to finish. It
//! never counts as a second request, because a shell and sudo may both forward it. Under nohup(1) it is ignored. Rust's
//! runtime ignores SIGPIPE already, so a restart of journald ends no process.

use std::future::pending;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::{fs, io};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequest {
    /// SIGTERM or SIGINT: somebody wants the process to stop.
    Stop,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

/// The signals, caught from the creation of this until the process ends.
#[derive(Debug)]
pub struct Signals {
    stops: UnixStream,
    hang_ups: UnixStream,
}

impl Signals {
    /// Starts to catch the signals. Call it within a runtime that does I/O.
    pub fn new() -> io::Result<Self> {
        let hang_ups: &[i32] = if is_ignored(SIGHUP) { &[] } else { &[SIGHUP] };
        Ok(Self { stops: of(&[SIGTERM, SIGINT])?, hang_ups: of(hang_ups)? })
    }

    /// Waits for the next signal. No signal is lost if this is dropped.
    pub async fn recv(&mut self) -> StopRequest {
        tokio::select! {
            biased;
            () = next(&mut self.stops) => StopRequest::Stop,
            () = next(&mut self.hang_ups) => StopRequest::HangUp,
        }
    }
}

/// Opens a pipe that receives a byte for each of these signals.
fn of(signals: &[i32]) -> io::Result<UnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    for &signal in signals {
        pipe::register(signal, theirs.try_clone()?)?;
    }
    ours.set_nonblocking(true)?;
    UnixStream::from_std(ours)
}

async fn next(pipe: &mut UnixStream) {
    // An error comes only if no signal was registered: then none ever comes.
    if pipe.read_u8().await.is_err() {
        pending().await
    }
}

/// Tells whether the parent process set this signal to be ignored (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
