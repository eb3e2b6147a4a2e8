//! systemd's journal: each log line as an entry with a priority and fields, in journald's native protocol.
//!
//! Invariant: no log line waits for the journal, and none fails its caller. If the journal is full a line is queued,
//! and a short-lived thread sends it. If the journal cannot be reached a line goes to its stream as text, and the next
//! one tries again. Lines beyond both are only counted. The protocol is that of
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>; `tracing-journald` speaks it too, but waits while the journal is
//! full.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::FileType;
use rustix::net::SendFlags;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::core::printable::printable;

/// The socket of journald.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The most lines in the queue. A handover logs some dozens; at `RUST_LOG=debug`, some thousands.
const QUEUE: usize = 2000;
/// Field names that journald gives another meaning, so an event's own fields may not use them.
const RESERVED: [&str; 3] = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"];
const LONGEST_NAME: usize = 64;
/// The longest line on the stream. journald splits longer ones (`LineMax=`), and no half line may stand there.
const LONGEST_LINE: usize = 32 * 1024;

/// Tells whether this file is the stream that systemd connected to the journal. `JOURNAL_STREAM` names it
/// (systemd.exec(5)), but also stays in the environment when the output is redirected.
pub fn is_stream(journal_stream: &str, file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| {
        let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        is_socket && journal_stream == format!("{}:{}", stat.st_dev, stat.st_ino)
    })
}

/// The journal as a layer of [`tracing_subscriber`]. Clones share one journal.
#[derive(Clone)]
pub struct JournalLayer {
    shared: Arc<JournalWriter>,
}

struct JournalWriter {
    path: PathBuf,
    /// Non-blocking.
    socket: UnixDatagram,
    stream: OwnedFd,
    queue: Mutex<Queue>,
    is_empty: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<JournalLine>,
    /// The number of lines that came while the queue was full.
    lost: u64,
    /// A thread sends the queued lines.
    is_sending: bool,
}

struct JournalLine {
    /// The entry for the journal's socket.
    entry: Vec<u8>,
    /// The text for the journal's stream, if the socket fails.
    text: String,
}

impl JournalLayer {
    /// `path` is [`SOCKET`], which need not exist; `stream` is the stream for which [`is_stream`] is true.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn new(path: &Path, stream: OwnedFd) -> io::Result<JournalLayer> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let (path, queue, is_empty) = (path.to_owned(), Mutex::default(), Condvar::new());
        Ok(JournalLayer { shared: Arc::new(JournalWriter { path, socket, stream, queue, is_empty }) })
    }

    /// Waits until the queue is empty, for `limit` at most.
    pub fn flush(&self, limit: Duration) {
        let queue = self.shared.queue();
        let wait = self.shared.is_empty.wait_timeout_while(queue, limit, |queue| queue.is_sending);
        drop(wait);
    }

    fn send(&self, line: JournalLine) {
        let mut queue = self.shared.queue();
        if !queue.is_sending && self.shared.send(&self.shared.socket, &line).is_ok() {
            return;
        }
        if queue.lines.len() >= QUEUE {
            queue.lost += 1;
            return;
        }
        queue.lines.push_back(line);
        if !queue.is_sending {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("journal".to_owned());
            // If no thread can start the next line tries again.
            queue.is_sending = thread.spawn(move || shared.send_queued()).is_ok();
        }
    }
}

/// The journal is full: try again.
struct Full;

impl JournalWriter {
    /// Nothing panics while this lock is held.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a line. If the journal is absent, or does not take an entry of this size, its stream gets the text.
    fn send(&self, socket: &UnixDatagram, line: &JournalLine) -> Result<(), Full> {
        match socket.send_to(&line.entry, &self.path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Full),
            Err(_) => {
                // A failure here cannot be reported to anybody.
                let _ =
                    rustix::net::send(&self.stream, line.text.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                Ok(())
            }
        }
    }

    /// Sends the queued lines, and waits for the journal as long as it takes.
    fn send_queued(&self) {
        let waiting = UnixDatagram::unbound();
        loop {
            let mut queue = self.queue();
            let line = match (queue.lines.pop_front(), std::mem::take(&mut queue.lost)) {
                (Some(line), lost) => {
                    queue.lost = lost;
                    line
                }
                (None, 0) => {
                    queue.is_sending = false;
                    self.is_empty.notify_all();
                    return;
                }
                (None, lost) => left_out(lost),
            };
            drop(queue);
            let socket = waiting.as_ref().unwrap_or(&self.socket);
            // A blocking socket is never full. Without one the line is lost, rather than tried for ever.
            let _ = self.send(socket, &line);
        }
    }
}

fn left_out(lines: u64) -> JournalLine {
    let text = format!("{lines} lines were left out here, because the journal took none for too long");
    JournalLine::new(Level::WARN, &text, &[])
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut visitor = EventFields::default();
        event.record(&mut visitor);
        let EventFields { mut message, left, fields } = visitor;
        if let Some(left) = left {
            // People read the time left in the message.
            let _ = write!(message, " ({left} s left)");
        }
        self.send(JournalLine::new(*event.metadata().level(), &message, &fields));
    }
}

impl JournalLine {
    fn new(level: Level, message: &str, fields: &[u8]) -> JournalLine {
        // The priorities of syslog(3).
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut entry = Vec::with_capacity(256);
        put(&mut entry, "MESSAGE", message);
        put(&mut entry, "PRIORITY", &priority.to_string());
        put(&mut entry, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
        entry.extend_from_slice(fields);
        // On a stream the priority comes first (sd-daemon(3)), and each line is an entry.
        let (beginning, _) = message.split_at(message.floor_char_boundary(LONGEST_LINE));
        let text = format!("<{priority}>{}\n", beginning.replace(['\n', '\r'], " "));
        JournalLine { entry, text }
    }
}

/// The fields of an event.
#[derive(Default)]
struct EventFields {
    message: String,
    left: Option<String>,
    /// The fields in the protocol's form.
    fields: Vec<u8>,
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = &*printable(value);
        if field.name() == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        if field.name() == "seconds_left" {
            self.left = Some(value.to_owned());
        }
        if let Some(name) = name(field.name()) {
            put(&mut self.fields, &name, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The field's name as journald accepts it: capital letters, digits and underscores, with a letter first.
fn name(field: &str) -> Option<String> {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let name: String = field.chars().map(letter).skip_while(|letter| !letter.is_ascii_uppercase()).collect();
    (!name.is_empty() && name.len() <= LONGEST_NAME && !RESERVED.contains(&name.as_str())).then_some(name)
}

/// Adds a field. A value with a line break comes after its length.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_journald_takes_and_that_says_nothing_else() {
        let names = ["seconds_left", "log.target", "__1st", "message", "priority", "_", "é"].map(name);
        let expected = ["SECONDS_LEFT", "LOG_TARGET", "ST", "", "", "", ""];
        assert_eq!(names.map(Option::unwrap_or_default), expected);
        assert_eq!(name(&"n".repeat(65)), None);
    }

    #[test]
    fn a_value_cannot_be_taken_for_another_field() {
        let line = JournalLine::new(Level::WARN, "one\nPRIORITY=0", &[]);
        assert_eq!(
            line.entry,
            b"MESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\nPRIORITY=4\nSYSLOG_IDENTIFIER=spot-relay\n"
        );
        assert_eq!(line.text, "<4>one PRIORITY=0\n");
    }

    #[test]
    fn a_stream_is_known_by_its_numbers_and_by_being_a_socket() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let numbers = |stat: rustix::fs::Stat| format!("{}:{}", stat.st_dev, stat.st_ino);
        let (of_stream, of_file) = (rustix::fs::fstat(&stream), rustix::fs::fstat(&file));
        let (of_stream, of_file) = (numbers(of_stream.expect("a file")), numbers(of_file.expect("a file")));
        assert!(is_stream(&of_stream, &stream) && !is_stream(&of_file, &stream));
        assert!(!is_stream(&of_file, &file) && !is_stream("", &stream));
    }
}
