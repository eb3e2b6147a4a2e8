//! The daemon as systemd starts it: its standard error is the journal's stream, and journald listens where it always does.
//! The test is journald; a mount namespace puts its socket into that place.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::scenario::{Daemon, PATIENCE, Scenario, eventually, world};

/// Where the namespace finds the test's directory with the socket in it.
const IN_PLACE: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal \
                        && mount --bind \"$JOURNAL\" /run/systemd/journal && exec \"$@\"";

/// Those of systemd.journal-fields(7).
const OF_EVERY_ENTRY: [&str; 3] = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"];

pub(crate) type Entry = BTreeMap<String, String>;

/// What arrives on journald's socket.
#[derive(Clone, Default)]
pub(crate) struct Entries(Arc<Mutex<Vec<Entry>>>);

impl Entries {
    pub(crate) fn all(&self) -> Vec<Entry> {
        self.0.lock().expect("entries").clone()
    }

    pub(crate) fn wait_for(&self, name: &str, beginning: &str) -> Entry {
        let is_it = |entry: &Entry| entry.get(name).is_some_and(|value| value.starts_with(beginning));
        eventually(|| self.all().into_iter().find(is_it))
            .unwrap_or_else(|| panic!("no {name}={beginning}: {:#?}", self.all()))
    }

    pub(crate) fn read_from(&self, socket: UnixDatagram) {
        let entries = self.clone();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 300_000];
            while let Ok(length) = socket.recv(&mut bytes) {
                let entry = parse(&bytes[..length]);
                entries.0.lock().expect("entries").push(entry);
            }
        });
    }
}

/// As journald reads it: `NAME=value`, or a name, the value's length and the value.
fn parse(mut bytes: &[u8]) -> Entry {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let mut entry = Entry::new();
    while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        let line = &bytes[..end];
        bytes = &bytes[end + 1..];
        match line.iter().position(|&byte| byte == b'=') {
            Some(at) => entry.insert(text(&line[..at]), text(&line[at + 1..])),
            None => {
                let (length, rest) = bytes.split_at(8);
                let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
                let (value, rest) = rest.split_at(usize::try_from(length).expect("a length"));
                bytes = &rest[1..];
                entry.insert(text(line), text(value))
            }
        };
    }
    entry
}

/// A scenario whose daemon finds a journal, and the journal's socket.
pub(crate) fn with_journal(scenario: Scenario) -> (Scenario, UnixDatagram) {
    let directory = scenario.directory().join("journal");
    std::fs::create_dir_all(&directory).expect("a directory");
    let socket = UnixDatagram::bind(directory.join("socket")).expect("a socket");
    let unshare = ["/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-c", IN_PLACE, "sh"];
    let scenario = scenario.variable("JOURNAL", &directory.display().to_string()).started_by(&unshare);
    (scenario.argument("--log-format").argument("text"), socket)
}

/// Started with the journal's stream, whose lines are the daemon's.
pub(crate) fn start(scenario: &Scenario) -> Daemon {
    let (ours, theirs) = UnixStream::pair().expect("a stream");
    let stream = OwnedFd::from(theirs);
    let file = std::fs::File::from(stream.try_clone().expect("the same stream")).metadata().expect("its numbers");
    let mut command = scenario.command();
    command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino())).stderr(stream);
    scenario.daemon(command.spawn().expect("the daemon starts"), ours)
}

#[test]
fn the_journal_shows_a_handover_in_fields_and_its_stream_nothing() {
    let (scenario, socket) = with_journal(Scenario::new(world()));
    let entries = Entries::default();
    entries.read_from(socket);
    let mut daemon = start(&scenario);
    entries.wait_for("MESSAGE", "ready; on a notice");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let handed_over = entries.wait_for("MILESTONE", "handed-over");
    assert_eq!((handed_over["OUTCOME"].as_str(), handed_over["PRIORITY"].as_str()), ("complete", "6"));
    assert!(handed_over["MESSAGE"].starts_with("handed over completely in "), "{handed_over:?}");
    let instance = scenario.sim.instance_id();
    for entry in entries.all().iter().filter(|entry| entry.contains_key("MILESTONE")) {
        let fixed = ["INSTANCE_ID", "SIGNAL", "ACTION"].map(|name| entry[name].as_str());
        assert_eq!(fixed, [instance.as_str(), "notice", "terminate"], "{entry:?}");
        let left = format!(" ({} s left)", entry["SECONDS_LEFT"]);
        assert!(entry["MESSAGE"].ends_with(&left), "people are told what is left: {entry:?}");
        for name in entry.keys().filter(|name| !OF_EVERY_ENTRY.contains(&name.as_str())) {
            assert!(crate::documents::page("operating.md").contains(&format!("`{name}`")), "a page names {name}");
        }
    }
    assert!(entries.wait_for("MILESTONE", "left")["TARGET_GROUP"].contains(":targetgroup/web/"));
    assert_eq!(entries.wait_for("MILESTONE", "successor-requested")["OWNER"], "web");
    assert_eq!(entries.wait_for("MILESTONE", "successor-healthy")["SUCCESSOR_ID"], scenario.sim.successors()[0]);

    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    let last = entries.wait_for("MESSAGE", "stopped");
    assert_eq!(last["SYSLOG_IDENTIFIER"], "spot-relay");
    assert_eq!(daemon.lines(), Vec::<String>::new(), "nothing is told twice");
}

#[test]
fn a_journal_that_hangs_holds_no_handover_up_and_is_told_everything_when_it_reads() {
    let (scenario, socket) = with_journal(Scenario::new(world()).variable("RUST_LOG", "debug"));
    let daemon = start(&scenario);
    let is_ready = || scenario.count("DescribeTargetHealth") > 0 && !daemon.status()["registrations"].is_null();
    eventually(|| is_ready().then_some(())).expect("it looks everything up");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    assert!(daemon.is_complete());
    scenario.assert_handed_over(&["web"], "nobody read a line");
    let entries = Entries::default();
    entries.read_from(socket);
    entries.wait_for("MILESTONE", "handed-over");
    let of_milestones = entries.all();
    let names: Vec<&String> = of_milestones.iter().filter_map(|entry| entry.get("MILESTONE")).collect();
    assert!(of_milestones[0]["MESSAGE"].starts_with("spot-relay "), "{:?}", of_milestones[0]);
    assert_eq!(names.first().map(|name| name.as_str()), Some("noticed"), "{names:?}");
}

/// No socket, and a stream: an old or a strange journald. And a stream that nobody reads any more ends nothing either.
#[test]
fn without_the_socket_lines_go_to_the_stream_and_without_both_the_daemon_goes_on() {
    let (scenario, socket) = with_journal(Scenario::new(world()));
    drop(socket);
    std::fs::remove_file(scenario.directory().join("journal/socket")).expect("it was there");
    let daemon = start(&scenario);
    let line = daemon.wait_for_line("ready; on a notice");
    assert!(line.starts_with("<6>ready"), "{line}");
    drop(daemon);

    let (mut ours, theirs) = UnixStream::pair().expect("a stream");
    ours.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let stream = OwnedFd::from(theirs);
    let file = std::fs::File::from(stream.try_clone().expect("the same stream")).metadata().expect("its numbers");
    let mut command = scenario.command();
    command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino())).stderr(stream);
    let daemon = scenario.daemon(command.spawn().expect("the daemon starts"), std::io::empty());
    drop(command);
    assert_eq!(ours.read(&mut [0; 1]).expect("a first line"), 1);
    drop(ours);
    let is_ready = || !daemon.status()["registrations"].is_null();
    eventually(|| is_ready().then_some(())).expect("it looks everything up");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    assert!(daemon.is_complete());
}

/// `JOURNAL_STREAM` stays in the environment of whoever redirects the output.
#[test]
fn a_stream_that_is_not_ours_makes_no_journal_of_standard_error() {
    let (scenario, socket) = with_journal(Scenario::new(world()).variable("JOURNAL_STREAM", "8:1"));
    let daemon = scenario.start();
    let line = daemon.wait_for_line("ready; on a notice");
    assert!(line.starts_with("20") && line.contains("  INFO "), "with its time: {line}");
    socket.set_nonblocking(true).expect("set");
    assert!(socket.recv(&mut [0; 100]).is_err(), "the journal got nothing");
}
