//! One command of the user's, in a process group of its own: what the configuration's `[hooks]` name.
//!
//! When to run it and what its end means is not decided here. Invariants: [`run`] ends at most [`GRACE`] and a moment
//! after the limit, whatever the command does; nothing that the command writes holds anybody up or is kept without
//! bound; and no group is signalled but while its leader is unreaped, because until then the kernel gives the leader's
//! number to nobody else.

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
/// A command that has ended may have left its output open in somebody else's hands; what was written is read at once.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The wait after SIGKILL, when only the kernel can hold a process (on a file server that does not answer, say).
const REAPING: Duration = Duration::from_millis(500);
/// The pause between two looks at whether the group has ended on SIGTERM.
const LOOK: Duration = Duration::from_millis(50);

/// Bytes of a line that go to the log; the rest of it is cut off.
pub const LONGEST_LINE: usize = 4096;
/// Lines of one hook that go to the log: so many, and then so many more each second. journald drops a service's lines
/// from 10,000 in 30 seconds on (journald.conf(5), `RateLimitBurst=`), the daemon's own among them.
pub const LINES: u64 = 1000;
pub const LINES_A_SECOND: u64 = 50;
/// The size of a piece that is read before the other tasks have their turn.
const PIECE: usize = 8192;

/// Variables that systemd passes to the daemon alone (sd_notify(3), sd_listen_fds(3), systemd.exec(5)). A hook that
/// took it for its own would speak in the daemon's name, or write its log to where its output does not go. What
/// describes the unit stays: `INVOCATION_ID`, `STATE_DIRECTORY`, `CREDENTIALS_DIRECTORY` and the like.
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

/// The command, and how long it may take.
#[derive(Clone, Debug)]
pub struct HookRun {
    /// The hook's name in the configuration; the log lines bear it.
    pub name: &'static str,
    /// The program, looked up in `PATH` if it has no slash, and its arguments; not empty. There is no shell.
    pub command: Vec<String>,
    /// Variables beside the daemon's own environment, which arrives without what systemd means for the daemon only.
    pub environment: Vec<(String, String)>,
    pub limit: Duration,
}

/// The end of a hook. Its text goes after the hook's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookEnd {
    Succeeded {
        after: Duration,
    },
    Failed {
        status: i32,
        after: Duration,
    },
    /// It was ended by a signal that was not ours.
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
    /// It was started, but its end was not told.
    Unknown {
        why: String,
    },
}

/// The way in which a whole group was brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All of it ended on SIGTERM.
    Terminated,
    /// Some of it needed SIGKILL.
    Killed,
    /// SIGKILL was sent, and yet the command has not ended: it waits within the kernel, or it is another user's.
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

/// Runs the hook to its end, with its output as log lines. The hook has ended when the command has: what it left in the
/// background goes on by itself, and should have its output elsewhere, since nobody reads the pipe any more. At the
/// limit the whole group is ended, first with SIGTERM. If this is dropped before its end, the group gets SIGTERM, and
/// what does not end on that is left to systemd.
///
/// Needs a runtime with I/O and time, of one thread or more. A passing thread starts the program, because a file system
/// that does not answer holds up whoever does that.
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

/// Starts the command. The error is for a person.
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

/// The command and whatever it started and left in its group.
struct ProcessGroup {
    leader: Child,
    /// The leader's number; `None` once that may be somebody else's.
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

    /// Waits for the leader. Can be dropped and called again.
    async fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.leader.wait().await;
        // After an error too: it means that somebody else has reaped it.
        self.id = None;
        status
    }

    /// The leader is reaped last, so that its number stays the group's until nobody is signalled any more.
    async fn stop(&mut self) -> Stopped {
        self.signal(Signal::TERM);
        let signalled = Instant::now();
        let mut is_running = self.is_running().await;
        while signalled.elapsed() < GRACE && is_running {
            sleep(LOOK).await;
            is_running = self.is_running().await;
        }
        let stopped = if is_running { Stopped::Killed } else { Stopped::Terminated };
        // In any case: /proc may hide what another user runs, and shows a leader with other threads left as a zombie.
        self.signal(Signal::KILL);
        match timeout(REAPING, self.reap()).await {
            Ok(_) => stopped,
            Err(_) => Stopped::Not,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.id {
            // An error means that there is nobody left whom we may signal.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Tells whether any process of the group still runs; that is so as long as nobody can tell. A machine may have many
    /// processes, so they are read where nothing else waits.
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

/// kill(2) with signal 0 would count the unreaped leader too.
fn is_running(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let stats = processes.flatten().filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    stats.flat_map(|entry| fs::read(entry.path().join("stat"))).any(|stat| is_running_in(group, &stat))
}

/// `stat` is proc_pid_stat(5): `123 (name) S parent group ...`, where the name may hold anything.
fn is_running_in(group: Pid, stat: &[u8]) -> bool {
    let stat = String::from_utf8_lossy(stat);
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let state = fields.next();
    let of_group = fields.nth(1).and_then(|id| id.parse().ok()).and_then(Pid::from_raw) == Some(group);
    of_group && !matches!(state, Some("Z" | "X"))
}

/// Both pipes on their way to the log. Everything here can be dropped and taken up again.
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
            log: HookLog { name, began: Instant::now(), told: 0, dropped: 0 },
        }
    }

    /// Forwards lines until nobody holds the other ends of the pipes.
    async fn forward(&mut self) {
        let Self { stdout, stderr, log } = self;
        loop {
            tokio::select! {
                Some(length) = stdout.read() => stdout.tell(length, log),
                Some(length) = stderr.read() => stderr.tell(length, log),
                else => return,
            }
            yield_now().await;
        }
    }

    fn finish(mut self) {
        self.stdout.end_line(&mut self.log);
        self.stderr.end_line(&mut self.log);
        self.log.tell_dropped();
    }
}

struct Stream<R> {
    /// `None` after its end.
    pipe: Option<R>,
    piece: Vec<u8>,
    /// The part of an unfinished line that goes to the log.
    line: Vec<u8>,
    is_cut: bool,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe, piece: vec![0; PIECE], line: Vec::new(), is_cut: false }
    }

    /// The length of the next piece; at once `None` after the end.
    async fn read(&mut self) -> Option<usize> {
        let length = self.pipe.as_mut()?.read(&mut self.piece).await.unwrap_or(0);
        if length == 0 {
            self.pipe = None;
            return None;
        }
        Some(length)
    }

    fn tell(&mut self, length: usize, log: &mut HookLog) {
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
        let room = LONGEST_LINE.saturating_sub(self.line.len());
        self.is_cut |= part.len() > room;
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn end_line(&mut self, log: &mut HookLog) {
        log.tell(&self.line, self.is_cut);
        self.line.clear();
        self.is_cut = false;
    }
}

/// The log of one hook, and how many lines it has written.
struct HookLog {
    name: &'static str,
    began: Instant,
    told: u64,
    dropped: u64,
}

impl HookLog {
    /// An empty line tells nobody anything.
    fn tell(&mut self, line: &[u8], is_cut: bool) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if self.told >= LINES.saturating_add(self.began.elapsed().as_secs().saturating_mul(LINES_A_SECOND)) {
            self.dropped += 1;
            return;
        }
        self.tell_dropped();
        self.told += 1;
        let name = self.name;
        let line = readable(line);
        let mark = if is_cut { " [the rest of this line was cut off]" } else { "" };
        info!(hook = name, "hook {name}: {line}{mark}");
    }

    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let name = self.name;
            info!(hook = name, "hook {name}: [{dropped} lines were left out here, because it writes so many]");
        }
    }
}

/// Text without what would end the log's line or move a terminal's cursor.
fn readable(line: &[u8]) -> String {
    let printable =
        |letter: char| if letter.is_control() && letter != '\t' { char::REPLACEMENT_CHARACTER } else { letter };
    String::from_utf8_lossy(line.trim_ascii_end()).chars().map(printable).collect()
}
