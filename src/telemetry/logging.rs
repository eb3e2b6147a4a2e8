//! Log lines: text for people and JSON for machines on standard error, and fields for systemd's journal.
//!
//! Invariants: a log that nobody reads (a closed pipe, a journal that restarts or is full) never ends or blocks the
//! program; no level shows the credentials that other crates log.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::journal::{self, JournalLayer};
use crate::core::printable::{printable, printable_json};

/// The format of log lines on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// The most lines that wait while standard error accepts none (a full pipe, a stopped terminal); more are lost.
const QUEUE: usize = 2000;
/// The writing thread ends after this time without a line: a quiet daemon has one thread.
const QUIET: Duration = Duration::from_secs(1);
/// The wait for a slow journal or standard error at the end of the process.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The running log. Keep it until the end of the process.
#[must_use]
pub(crate) struct Logging {
    journal: Option<JournalLayer>,
    /// `None` if there is a journal.
    stderr: Option<Stderr>,
}

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some(journal) = &self.journal {
            journal.flush(LAST_LINES);
        }
        if let Some(stderr) = &self.stderr {
            stderr.wait(LAST_LINES);
        }
    }
}

/// Starts logging as `RUST_LOG` says (`level` or `target=level,...`; the default is `info`).
pub(crate) fn start(log_format: LogFormat) -> Logging {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let targets = wanted.as_deref().and_then(|text| text.parse::<Targets>().ok());
    let unreadable = wanted.filter(|_| targets.is_none());
    let targets = targets.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let journal = if log_format == LogFormat::Text { journal() } else { None };
    let (layer, stderr) = match (&journal, log_format) {
        (Some(journal), _) => (journal.clone().boxed(), None),
        (None, LogFormat::Json) => {
            let stderr = Stderr::new();
            (to(&Stderr { is_json: true, ..stderr.clone() }).json().flatten_event(true).boxed(), Some(stderr))
        }
        (None, LogFormat::Text) => {
            let stderr = Stderr::new();
            let colour = io::stderr().is_terminal() && !refuses_colour();
            let layer = to(&stderr).with_target(false).with_ansi(colour).with_timer(SystemTime);
            (layer.fmt_fields(format::debug_fn(for_people)).boxed(), Some(stderr))
        }
    };
    tracing_subscriber::registry().with(targets).with(filter_fn(is_for_a_log)).with(layer).init();
    say_panics_once();
    if let Some(text) = unreadable {
        tracing::warn!("RUST_LOG is {text:?}, which cannot be read; write a level such as debug, or spot_relay=debug");
    }
    Logging { journal, stderr }
}

/// Tells whether `NO_COLOR` is set, and not empty (<https://no-color.org>).
pub(crate) fn refuses_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Logs a panic, once for each place in the code: a repetition would say nothing new.
fn say_panics_once() {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone()) {
            let what = panic.payload_as_str().unwrap_or("without a word");
            tracing::error!("a bug of this program, please report it: it panicked at {place}: {what}");
        }
    }));
}

/// The journal, if standard error is connected to it.
fn journal() -> Option<JournalLayer> {
    let (stream, stderr) = (std::env::var("JOURNAL_STREAM").ok()?, io::stderr());
    let is_ours = journal::is_stream(&stream, &stderr);
    let stderr = stderr.as_fd().try_clone_to_owned().ok().filter(|_| is_ours)?;
    JournalLayer::new(Path::new(journal::SOCKET), stderr).ok()
}

/// Standard error, written by a thread, so that its caller does not wait. (`tracing-appender` does the same, but
/// changes the features of a crate that aws-sdk-ec2 also uses.)
#[derive(Clone)]
struct Stderr {
    queue: SyncSender<Message>,
    /// The receiving end of the queue while no thread has it.
    unread: Arc<Mutex<Option<Receiver<Message>>>>,
    is_json: bool,
}

enum Message {
    Line(Vec<u8>),
    /// Asks for an answer once all earlier lines are written.
    Written(SyncSender<()>),
}

impl Stderr {
    fn new() -> Stderr {
        let (queue, messages) = sync_channel(QUEUE);
        let stderr = Stderr { queue, unread: Arc::new(Mutex::new(Some(messages))), is_json: false };
        stderr.find_a_thread();
        stderr
    }

    /// Gives the queue to a thread. If none can start this writes what standard error accepts without a wait. The rest
    /// stays in the queue, and the next line tries again.
    fn find_a_thread(&self) {
        let mut waiting = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(messages) = waiting.take() else { return };
        let (give, given) = sync_channel::<Receiver<Message>>(1);
        let unread = self.unread.clone();
        match std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(given, &unread)) {
            Ok(_) => drop(give.send(messages)),
            Err(_) => {
                while takes_more()
                    && let Ok(message) = messages.try_recv()
                {
                    write(message);
                }
                *waiting = Some(messages);
            }
        }
    }

    /// Waits until everything is written, for `limit` at most.
    fn wait(&self, limit: Duration) {
        let (asked, answered) = sync_channel(1);
        if self.queue.try_send(Message::Written(asked)).is_ok() {
            self.find_a_thread();
            let _ = answered.recv_timeout(limit);
        }
    }
}

/// Writes the queued lines, and returns the queue after [`QUIET`] without a line.
fn write_all(given: Receiver<Receiver<Message>>, unread: &Mutex<Option<Receiver<Message>>>) {
    let Ok(messages) = given.recv() else { return };
    loop {
        while let Ok(message) = messages.recv_timeout(QUIET) {
            write(message);
        }
        let mut waiting = unread.lock().unwrap_or_else(PoisonError::into_inner);
        // A line that came meanwhile started no thread, because this one had the queue.
        let Ok(message) = messages.try_recv() else {
            *waiting = Some(messages);
            return;
        };
        drop(waiting);
        write(message);
    }
}

fn write(message: Message) {
    // A failure here cannot be reported to anybody.
    let _ = match message {
        Message::Line(line) => io::stderr().write_all(&line).is_ok(),
        Message::Written(asked) => asked.try_send(()).is_ok(),
    };
}

/// Tells whether standard error accepts a line without a wait.
fn takes_more() -> bool {
    let stderr = io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl Write for Stderr {
    /// Never waits and never fails: if the queue is full the line is lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let shown = match std::str::from_utf8(line) {
            Ok(text) if self.is_json => printable_json(text).into_owned().into_bytes(),
            _ => line.to_owned(),
        };
        let _ = self.queue.try_send(Message::Line(shown));
        self.find_a_thread();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to<S>(stderr: &Stderr) -> fmt::Layer<S, format::DefaultFields, format::Format, impl Fn() -> Stderr + 'static> {
    let stderr = stderr.clone();
    fmt::layer().with_writer(move || stderr.clone()).log_internal_errors(false)
}

/// Tells whether a line may be logged. At `debug` and `trace` the HTTP crates show requests with their headers, bodies
/// and keys. At `info` and `warn` the AWS SDK tells without its reason what this program tells with it, at each call.
fn is_for_a_log(metadata: &Metadata<'_>) -> bool {
    let (ours, target) = (env!("CARGO_CRATE_NAME"), metadata.target());
    let is_ours = target.strip_prefix(ours).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    is_ours || *metadata.level() == Level::ERROR
}

/// Writes the sentence and the time left; the other fields are for machines.
fn for_people(writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    match field.name() {
        "message" => write!(writer, "{}", printable(&format!("{value:?}"))),
        "seconds_left" => write!(writer, " ({value:?} s left)"),
        _ => Ok(()),
    }
}
