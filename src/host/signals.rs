//! SIGTERM, SIGINT and SIGHUP as something to await, without a thread.
//!
//! What a signal means is the caller's; every signal counts by itself, so the second one can mean something else than
//! the first. A terminal that goes away asks to stop as well, because whoever is in the middle of a handover or of a drill
//! has something to finish; but it is nobody's second word (a shell and sudo may both hand SIGHUP on), and under nohup(1)
//! it asks nothing. SIGPIPE is ignored by Rust's runtime already: journald
//! restarting kills nobody.

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
    /// SIGTERM or SIGINT: somebody wants it.
    Stop,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

/// The signals, caught from its making until the process ends.
#[derive(Debug)]
pub struct Signals {
    stops: UnixStream,
    hang_ups: UnixStream,
}

impl Signals {
    /// Must be called within a runtime that does I/O.
    pub fn new() -> io::Result<Self> {
        let hang_ups: &[i32] = if is_ignored(SIGHUP) { &[] } else { &[SIGHUP] };
        Ok(Self { stops: of(&[SIGTERM, SIGINT])?, hang_ups: of(hang_ups)? })
    }

    /// The next signal. Nothing is lost when this is dropped before it is done.
    pub async fn recv(&mut self) -> StopRequest {
        tokio::select! {
            biased;
            () = next(&mut self.stops) => StopRequest::Stop,
            () = next(&mut self.hang_ups) => StopRequest::HangUp,
        }
    }
}

/// A byte for each of these signals.
fn of(signals: &[i32]) -> io::Result<UnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    for &signal in signals {
        pipe::register(signal, theirs.try_clone()?)?;
    }
    ours.set_nonblocking(true)?;
    UnixStream::from_std(ours)
}

async fn next(pipe: &mut UnixStream) {
    // The other end lives as long as the process, or was never used: at its end there is nothing to do but never to signal.
    if pipe.read_u8().await.is_err() {
        pending().await
    }
}

/// Tells whether whoever started this process had it ignore the signal (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
