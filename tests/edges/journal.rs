//! The journal, with the test in journald's place: one that reads, one that does not, and one that comes and goes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use spot_relay::telemetry::journal::JournalLayer;
use tracing_subscriber::layer::SubscriberExt as _;

const PATIENCE: Duration = Duration::from_secs(60);

/// journald's socket and its stream.
struct Journald {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    stream: BufReader<UnixStream>,
    journal: JournalLayer,
}

impl Journald {
    fn start(name: &str) -> Journald {
        let path = std::env::temp_dir().join(format!("spot-relay-journal-{}-{name}", std::process::id()));
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let journal = JournalLayer::new(&path, OwnedFd::from(theirs)).unwrap();
        let mut journald = Journald { path, socket: None, stream: BufReader::new(ours), journal };
        journald.listen();
        journald
    }

    fn listen(&mut self) {
        let socket = UnixDatagram::bind(&self.path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        self.socket = Some(socket);
    }

    fn vanish(&mut self) {
        self.socket = None;
        std::fs::remove_file(&self.path).unwrap();
    }

    fn while_logging<T>(&self, log: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(self.journal.clone()), log)
    }

    fn entry(&self) -> BTreeMap<String, String> {
        let mut bytes = vec![0; 300_000];
        let length = self.socket.as_ref().unwrap().recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn an_entry_has_a_sentence_a_priority_and_the_fields_of_its_line() {
    let journald = Journald::start("fields");
    journald.while_logging(|| {
        let nobody: Option<&str> = None;
        tracing::info!(milestone = "left", instance_id = "i-1", seconds_left = 12.5, owner = nobody, "left {}", "web");
        tracing::warn!("unwise");
        tracing::error!("given up");
        tracing::debug!("asked");
    });
    let fields = |entry: &[(&str, &str)]| entry.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let left: BTreeMap<String, String> = fields(&[
        ("INSTANCE_ID", "i-1"),
        ("MESSAGE", "left web (12.5 s left)"),
        ("MILESTONE", "left"),
        ("PRIORITY", "6"),
        ("SECONDS_LEFT", "12.5"),
        ("SYSLOG_IDENTIFIER", "spot-relay"),
    ]);
    assert_eq!(journald.entry(), left);
    for (message, priority) in [("unwise", "4"), ("given up", "3"), ("asked", "7")] {
        let entry = journald.entry();
        assert_eq!((entry["MESSAGE"].as_str(), entry["PRIORITY"].as_str()), (message, priority));
    }
}

/// It would never come to the first read if a line waited for it.
#[test]
fn a_journal_that_does_not_read_holds_nothing_up_and_gets_every_line_in_order_later() {
    let journald = Journald::start("full");
    journald.while_logging(|| (0..1000).for_each(|number| tracing::info!(number, "line")));
    for number in 0..1000 {
        assert_eq!(journald.entry()["NUMBER"], number.to_string());
    }
    // And again at once after it has caught up.
    journald.journal.flush(PATIENCE);
    journald.while_logging(|| tracing::info!("later"));
    assert_eq!(journald.entry()["MESSAGE"], "later");
}

#[test]
fn of_what_a_journal_does_not_take_for_too_long_the_number_is_told() {
    const LOGGED: u64 = 10_000;
    let journald = Journald::start("lost");
    journald.while_logging(|| (0..LOGGED).for_each(|number| tracing::info!(number, "line")));
    let mut read = 0;
    let told = loop {
        let entry = journald.entry();
        match entry.get("NUMBER") {
            Some(number) => assert_eq!(number, &read.to_string(), "the oldest are kept, in order"),
            None => break entry,
        }
        read += 1;
    };
    let lost = LOGGED - read;
    assert!(read >= 2000 && lost > 0, "{read}");
    let expected = format!("{lost} lines were left out here, because the journal took none for too long");
    assert_eq!((told["MESSAGE"].as_str(), told["PRIORITY"].as_str()), (expected.as_str(), "4"));
}

#[test]
fn a_journal_that_is_gone_gets_text_on_its_stream_until_it_is_back() {
    let mut journald = Journald::start("restart");
    journald.vanish();
    journald.while_logging(|| tracing::warn!(milestone = "left", "two\nlines \u{1b}[2J"));
    assert_eq!(journald.line(), "<4>two\\nlines \\u{1b}[2J\n");
    journald.listen();
    journald.while_logging(|| tracing::info!("back"));
    assert_eq!(journald.entry()["MESSAGE"], "back");
}

#[test]
fn lines_that_wait_for_a_journal_that_goes_are_text_on_its_stream() {
    let mut journald = Journald::start("goes");
    journald.while_logging(|| (0..1000).for_each(|number| tracing::info!("line {number}")));
    journald.vanish();
    // What its socket held is lost with it, and a stream takes only so much: but nothing waits any more.
    let line = journald.line();
    assert!(line.starts_with("<6>line "), "{line}");
    journald.journal.flush(PATIENCE);
    journald.listen();
    journald.while_logging(|| tracing::info!("back"));
    assert_eq!(journald.entry()["MESSAGE"], "back");
}

#[test]
fn an_entry_too_large_for_the_socket_is_text_as_far_as_a_line_goes() {
    let mut journald = Journald::start("large");
    journald.while_logging(|| tracing::info!("{}", "x".repeat(1 << 20)));
    journald.while_logging(|| tracing::info!("after it"));
    let line = journald.line();
    assert!(line.starts_with("<6>xxx") && line.len() > 10_000, "{}", line.len());
    assert_eq!(journald.entry()["MESSAGE"], "after it");
}
