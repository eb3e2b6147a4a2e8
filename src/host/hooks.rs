//! One command of the user's, in its own process group: a hook from the configuration's `[hooks]`.
//!
//! The caller decides when to run it and what its end means. Invariants: [`run`] ends [`GRACE`] and a moment after the
//! limit at the latest; the command's output blocks nobody and is kept within bounds; a group is signalled only while
//! its leader is unreaped, because until then the kernel gives the leader's pid to no other process.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::info;

use super::threads;

/// The time between SIGTERM at the limit and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);
/// The time for reading the last output after the command has ended. Another process may still hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The wait after SIGKILL. Only the kernel can delay a process then, for example on a file server that does not answer.
const REAPING: Duration = Duration::from_millis(500);
/// The pause between two checks whether the group has ended after SIGTERM.
const LOOK: Duration = Duration::from_millis(50);

/// The bytes of a line that are logged; the rest is cut off.
pub const LONGEST_LINE: usize = 4096;
/// The lines of one hook that are logged: this many, and then this many more each second. journald drops a service's
/// lines, also the daemon's own, above 10,000 in 30 seconds (journald.conf(5), `RateLimitBurst=`).
pub const LINES: u64 = 1000;
pub const LINES_A_SECOND: u64 = 50;
/// The bytes that are read before other tasks have their turn.
const PIECE: usize = 8192;

/// Variables that systemd means for the daemon only (sd_notify(3), sd_listen_fds(3), systemd.exec(5)). With them a hook
/// could notify systemd as the daemon, or log to a place where its output does not go. Variables that describe the unit
/// stay: `INVOCATION_ID`, `STATE_DIRECTORY`, `CREDENTIALS_DIRECTORY` and the like.
const NOT_FOR_HOOKS: [&str; 13] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "FDSTORE",
    "MAINPID",
    "SYSTEMD_EXEC_PID",
    "JOURNAL_STREAM",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
];

/// A command and its time limit.
#[derive(Clone, Debug)]
pub struct HookRun {
    /// The hook's name in the configuration and in log lines.
    pub name: &'static str,
    /// The program, looked up in `PATH` if it has no slash, and its arguments; not empty. There is no shell.
    pub command: Vec<String>,
    /// Variables in addition to the daemon's environment without [`NOT_FOR_HOOKS`].
    pub environment: Vec<(String, String)>,
    pub limit: Duration,
}

/// The result of a hook. Its text follows the hook's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookEnd {
    Succeeded {
        after: Duration,
    },
    Failed {
        status: i32,
        after: Duration,
    },
    /// A signal ended it that was not ours.
    Killed {
        signal: i32,
        after: Duration,
    },
    TimedOut {
        limit: Duration,
        stopped: Stopped,
    },
    NotStarted {
        why: String,
    },
    /// It was started, but its result is not known.
    Unknown {
        why: String,
    },
}

/// The way in which a group was ended at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All its processes ended on SIGTERM.
    Terminated,
    /// Some of its processes needed SIGKILL.
    Killed,
    /// The command has not ended even on SIGKILL: it waits in the kernel, or belongs to another user.
    Not,
}

impl HookEnd {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded { .. })
    }

    fn with(status: ExitStatus, after: Duration) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Succeeded { after },
            (Some(status), _) => Self::Failed { status, after },
            (None, Some(signal)) => Self::Killed { signal, after },
            (None, None) => Self::Unknown { why: status.to_string() },
        }
    }
}

impl fmt::Display for HookEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded { after } => write!(f, "succeeded after {:.1} s", after.as_secs_f64()),
            Self::Failed { status, after } => {
                write!(f, "ended with exit status {status} after {:.1} s", after.as_secs_f64())
            }
            Self::Killed { signal, after } => {
                // The standard library knows the names: "signal: 9 (SIGKILL)".
                let signal = ExitStatus::from_raw(*signal).to_string().replace(':', "");
                write!(f, "was ended by {signal} after {:.1} s", after.as_secs_f64())
            }
            Self::TimedOut { limit, stopped } => {
                write!(f, "was still running after {:.1} s and {stopped}", limit.as_secs_f64())
            }
            Self::NotStarted { why } => write!(f, "could not be started: {why}"),
            Self::Unknown { why } => write!(f, "was started, but how it ended is not known: {why}"),
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminated => "was ended with SIGTERM",
            Self::Killed => "did not end on SIGTERM and was killed",
            Self::Not => "did not end on SIGKILL either; it was left alone",
        })
    }
}

/// Runs the hook, with its output as log lines, until its command ends. Processes that the command left in the
/// background go on; nobody reads their pipe any more, so their output should go elsewhere. At the limit the whole
/// group is ended, first with SIGTERM. If this is dropped before, the group gets SIGTERM, and systemd ends what
/// remains.
///
/// It needs a runtime with I/O and time. A short-lived thread starts the program, because a file system that does not
/// answer blocks its caller.
pub async fn run(hook: HookRun) -> HookEnd {
    let began = Instant::now();
    let (name, limit) = (hook.name, hook.limit);
    let started = match timeout(limit, threads::run(move || start(&hook))).await {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the system had not started it after {:.1} s", limit.as_secs_f64())),
    };
    let mut group = match started {
        Ok(group) => group,
        Err(why) => return HookEnd::NotStarted { why },
    };
    let mut output = HookOutput::new(name, &mut group.leader);
    let ended = {
        let mut end = std::pin::pin!(group.end(began, limit));
        tokio::select! {
            biased;
            ended = &mut end => ended,
            () = output.forward() => end.await,
        }
    };
    let _ = timeout(LAST_WORDS, output.forward()).await;
    output.finish();
    ended
}

/// Starts the command. The error is text for a person.
fn start(hook: &HookRun) -> Result<ProcessGroup, String> {
    let Some((program, arguments)) = hook.command.split_first() else { return Err("the command is empty".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in NOT_FOR_HOOKS {
        command.env_remove(name);
    }
    command.envs(hook.environment.iter().map(|(name, value)| (name, value)));
    let leader = command.spawn().map_err(|error| format!("{program}: {error}{}", remedy(program, &error)))?;
    let id = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    Ok(ProcessGroup { leader, id })
}

/// Explains the terse errors of execve(2).
fn remedy(program: &str, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound if Path::new(program).exists() => {
            "; its first line names an interpreter that is missing"
        }
        io::ErrorKind::PermissionDenied => "; is it executable, and may the daemon's user reach it?",
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "; a script's first line names its interpreter, as #!/bin/sh"
        }
        _ => "",
    }
}

/// The command and all processes that it started in its group.
struct ProcessGroup {
    leader: Child,
    /// The leader's pid; `None` once it may belong to another process.
    id: Option<Pid>,
}

impl ProcessGroup {
    async fn end(&mut self, began: Instant, limit: Duration) -> HookEnd {
        match timeout(limit.saturating_sub(began.elapsed()), self.reap()).await {
            Ok(Ok(status)) => HookEnd::with(status, began.elapsed()),
            Ok(Err(error)) => HookEnd::Unknown { why: error.to_string() },
            Err(_) => HookEnd::TimedOut { limit, stopped: self.stop().await },
        }
    }

    /// Waits for the leader. This can be dropped and called again.
    async fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.leader.wait().await;
        // An error means that somebody else has reaped the leader.
        self.id = None;
        status
    }

    /// Ends the group. The leader is reaped last, so that its pid stays the group's until the last signal is sent.
    async fn stop(&mut self) -> Stopped {
        self.signal(Signal::TERM);
        let signalled = Instant::now();
        let mut is_running = self.is_running().await;
        while signalled.elapsed() < GRACE && is_running {
            sleep(LOOK).await;
            is_running = self.is_running().await;
        }
        let stopped = if is_running { Stopped::Killed } else { Stopped::Terminated };
        // In any case: /proc may hide processes of other users, and shows a leader with live threads as a zombie.
        self.signal(Signal::KILL);
        match timeout(REAPING, self.reap()).await {
            Ok(_) => stopped,
            Err(_) => Stopped::Not,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.id {
            // An error means that no process is left that we may signal.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Tells whether a process of the group runs, or this is unknown. A thread reads the processes, because there may
    /// be many.
    async fn is_running(&self) -> bool {
        let Some(group) = self.id else { return false };
        let told = timeout(REAPING, threads::run(move || is_running(group))).await;
        !matches!(told, Ok(Ok(false)))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

/// Reads /proc, because kill(2) with signal 0 would count the unreaped leader too.
fn is_running(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let stats = processes.flatten().filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    stats.flat_map(|entry| fs::read(entry.path().join("stat"))).any(|stat| is_running_in(group, &stat))
}

/// Parses proc_pid_stat(5): `123 (name) S parent group ...`, where the name may hold any letters.
fn is_running_in(group: Pid, stat: &[u8]) -> bool {
    let stat = String::from_utf8_lossy(stat);
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let state = fields.next();
    let of_group = fields.nth(1).and_then(|id| id.parse().ok()).and_then(Pid::from_raw) == Some(group);
    of_group && !matches!(state, Some("Z" | "X"))
}

/// Both pipes and their log. Every function here can be dropped and called again.
struct HookOutput {
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
    log: HookLog,
}

impl HookOutput {
    fn new(name: &'static str, leader: &mut Child) -> Self {
        Self {
            stdout: Stream::new(leader.stdout.take()),
            stderr: Stream::new(leader.stderr.take()),
            log: HookLog { name, began: Instant::now(), written: 0, dropped: 0 },
        }
    }

    /// Logs lines until both pipes are closed.
    async fn forward(&mut self) {
        let Self { stdout, stderr, log } = self;
        loop {
            tokio::select! {
                Some(length) = stdout.read() => stdout.log_piece(length, log),
                Some(length) = stderr.read() => stderr.log_piece(length, log),
                else => return,
            }
            yield_now().await;
        }
    }

    fn finish(mut self) {
        self.stdout.end_line(&mut self.log);
        self.stderr.end_line(&mut self.log);
        self.log.write_dropped();
    }
}

struct Stream<R> {
    /// The pipe; `None` after its end.
    pipe: Option<R>,
    piece: Vec<u8>,
    /// The part of an unfinished line that will be logged.
    line: Vec<u8>,
    is_cut: bool,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe, piece: vec![0; PIECE], line: Vec::new(), is_cut: false }
    }

    /// Reads the next piece and returns its length; `None` after the end.
    async fn read(&mut self) -> Option<usize> {
        let length = self.pipe.as_mut()?.read(&mut self.piece).await.unwrap_or(0);
        if length == 0 {
            self.pipe = None;
            return None;
        }
        Some(length)
    }

    fn log_piece(&mut self, length: usize, log: &mut HookLog) {
        let piece = std::mem::take(&mut self.piece);
        for part in piece.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(rest_of_line) => {
                    self.extend_line(rest_of_line);
                    self.end_line(log);
                }
                None => self.extend_line(part),
            }
        }
        self.piece = piece;
    }

    fn extend_line(&mut self, part: &[u8]) {
        let free = LONGEST_LINE.saturating_sub(self.line.len());
        self.is_cut |= part.len() > free;
        self.line.extend_from_slice(part.get(..free).unwrap_or(part));
    }

    fn end_line(&mut self, log: &mut HookLog) {
        log.write(&self.line, self.is_cut);
        self.line.clear();
        self.is_cut = false;
    }
}

/// The log of one hook, with counts of its lines.
struct HookLog {
    name: &'static str,
    began: Instant,
    written: u64,
    dropped: u64,
}

impl HookLog {
    /// Logs a line. Empty lines are skipped.
    fn write(&mut self, line: &[u8], is_cut: bool) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.written >= LINES.saturating_add(self.began.elapsed().as_secs().saturating_mul(LINES_A_SECOND)) {
            self.dropped += 1;
            return;
        }
        self.write_dropped();
        self.written += 1;
        let name = self.name;
        let line = readable(line);
        let mark = if is_cut { " [the rest of this line was cut off]" } else { "" };
        info!(hook = name, "hook {name}: {line}{mark}");
    }

    fn write_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let name = self.name;
            info!(hook = name, "hook {name}: [{dropped} lines were left out here, because it writes so many]");
        }
    }
}

/// Replaces characters that would end the log line or move a terminal's cursor.
fn readable(line: &[u8]) -> String {
    let printable =
        |letter: char| if letter.is_control() && letter != '\t' { char::REPLACEMENT_CHARACTER } else { letter };
    String::from_utf8_lossy(line.trim_ascii_end()).chars().map(printable).collect()
}
