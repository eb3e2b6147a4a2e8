//! Hooks as real processes. A bound on time is wide, for a machine that is busy; only what must not be early is exact.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use spot_relay::host::hooks::{GRACE, HookEnd, HookRun, LINES, LINES_A_SECOND, LONGEST_LINE, Stopped, run};
use tokio::time::{sleep, timeout};
use tracing::subscriber::DefaultGuard;

use crate::alone::alone;

/// Longer than any test waits.
const AMPLE: Duration = Duration::from_secs(60);
/// What a busy machine may need for what takes no time.
const BUSY: Duration = Duration::from_secs(10);

fn hook(command: &[&str], limit: Duration) -> HookRun {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    HookRun { name: "drained", command, environment: Vec::new(), limit }
}

/// A script in `directory`.
fn sh(script: &str, directory: &Path, limit: Duration) -> HookRun {
    let environment = vec![("DIRECTORY".to_owned(), directory.to_str().unwrap().to_owned())];
    HookRun { environment, ..hook(&["sh", "-c", &format!("cd \"$DIRECTORY\" || exit 99; {script}")], limit) }
}

/// An empty directory, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spot-relay-hooks-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The process whose number the script wrote to `file`.
    async fn process(&self, file: &str) -> Process {
        let read = || fs::read_to_string(self.0.join(file)).ok().filter(|text| text.ends_with('\n'));
        let began = Instant::now();
        loop {
            if let Some(number) = read() {
                return Process(number.trim().parse().unwrap());
            }
            assert!(began.elapsed() < BUSY, "nobody wrote {file}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Process(u32);

impl Process {
    /// `None` if there is none, not even a zombie.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    }

    fn runs(&self) -> bool {
        self.state().is_some_and(|state| state != 'Z')
    }

    /// A signal takes its time to arrive.
    async fn assert_ends(&self) {
        let began = Instant::now();
        while self.runs() {
            assert!(began.elapsed() < BUSY, "{} still runs", self.0);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The log of this thread while this lives.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    _subscriber: DefaultGuard,
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn new() -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let writer = bytes.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || Writer(writer.clone())).finish();
        Self { bytes, _subscriber: tracing::subscriber::set_default(subscriber) }
    }

    /// What follows `hook drained: `, each with the level and the field that it must have.
    fn lines(&self) -> Vec<String> {
        let bytes = self.bytes.lock().unwrap();
        let lines = std::str::from_utf8(&bytes).unwrap().lines();
        let ours = lines.map(|line| serde_json::from_str(line).unwrap()).filter(|line: &Value| {
            line["target"] == "spot_relay::host::hooks"
                && line["level"] == "INFO"
                && line["fields"]["hook"] == "drained"
        });
        ours.map(|line| line["fields"]["message"].as_str().unwrap().strip_prefix("hook drained: ").unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn how_a_hook_ended_is_told_in_words() {
    let succeeded = run(hook(&["true"], AMPLE)).await;
    assert!(succeeded.is_success() && succeeded.to_string().starts_with("succeeded after "), "{succeeded}");
    let failed = run(hook(&["sh", "-c", "exit 3"], AMPLE)).await;
    assert!(matches!(failed, HookEnd::Failed { status: 3, .. }) && !failed.is_success());
    assert!(failed.to_string().starts_with("ended with exit status 3 after "), "{failed}");
    let killed = run(hook(&["sh", "-c", "kill -KILL $$"], AMPLE)).await;
    assert!(matches!(killed, HookEnd::Killed { signal: 9, .. }) && !killed.is_success());
    assert!(killed.to_string().starts_with("was ended by signal 9 (SIGKILL) after "), "{killed}");
    let timed_out = |stopped| HookEnd::TimedOut { limit: Duration::from_secs(20), stopped };
    for (stopped, words) in [
        (Stopped::Terminated, "was still running after 20.0 s and was ended with SIGTERM"),
        (Stopped::Killed, "was still running after 20.0 s and did not end on SIGTERM and was killed"),
    ] {
        assert_eq!(timed_out(stopped).to_string(), words);
        assert!(!timed_out(stopped).is_success());
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named_with_the_reason() {
    let directory = Directory::new("unstartable");
    let file = |name: &str, mode: u32, text: &str| {
        let path = directory.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = directory.0.join("missing").to_str().unwrap().to_owned();
    for (program, why) in [
        (missing, "No such file or directory (os error 2)"),
        (file("plain", 0o644, "#!/bin/sh\n"), "Permission denied (os error 13); is it executable"),
        (file("orphaned", 0o755, "#!/nowhere/sh\n"), "No such file or directory (os error 2); its first line names"),
        (file("formless", 0o755, "echo\n"), "Exec format error (os error 8); a script's first line"),
        (directory.0.to_str().unwrap().to_owned(), "Permission denied (os error 13)"),
    ] {
        let ended = run(hook(&[&program], AMPLE)).await.to_string();
        assert!(ended.starts_with(&format!("could not be started: {program}: {why}")), "{ended}");
    }
    for unusable in [&[][..], &[""], &["true", "a\0b"]] {
        let ended = run(hook(unusable, AMPLE)).await;
        assert!(matches!(ended, HookEnd::NotStarted { .. }), "{ended}");
    }
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_with_its_whole_group() {
    let directory = Directory::new("hangs");
    let began = Instant::now();
    let limit = Duration::from_secs(1);
    let ended = run(sh("sleep 600 & echo $! >grandchild; echo $$ >child; wait", &directory.0, limit)).await;
    assert!((limit..limit + BUSY).contains(&began.elapsed()));
    assert_eq!(ended, HookEnd::TimedOut { limit, stopped: Stopped::Terminated });
    assert_eq!(directory.process("child").await.state(), None, "a zombie is left");
    assert!(!directory.process("grandchild").await.runs());
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_the_grace() {
    let directory = Directory::new("stubborn");
    let began = Instant::now();
    let limit = Duration::from_secs(1);
    let all_stubborn = "trap '' TERM; echo $$ >stubborn; sleep 600; sleep 600";
    let stubborn_grandchild = "sh -c 'trap \"\" TERM; echo $$ >grandchild; exec sleep 600' & exec sleep 600";
    let (first, second) =
        tokio::join!(run(sh(all_stubborn, &directory.0, limit)), run(sh(stubborn_grandchild, &directory.0, limit)));
    assert!((limit + GRACE..limit + GRACE + BUSY).contains(&began.elapsed()));
    let killed = HookEnd::TimedOut { limit, stopped: Stopped::Killed };
    assert_eq!([first, second], [killed.clone(), killed]);
    assert_eq!(directory.process("stubborn").await.state(), None);
    directory.process("grandchild").await.assert_ends().await;
}

#[tokio::test]
async fn whoever_cleans_up_on_sigterm_has_the_grace_for_it_even_when_its_parent_has_ended() {
    let directory = Directory::new("cleans-up");
    let limit = Duration::from_secs(1);
    let tidy = "sh -c 'trap \"sleep 0.5; echo $$ >clean; exit\" TERM; sleep 600 & wait' & exec sleep 600";
    let ended = run(sh(tidy, &directory.0, limit)).await;
    assert_eq!(ended, HookEnd::TimedOut { limit, stopped: Stopped::Terminated });
    assert!(directory.0.join("clean").exists());
}

#[tokio::test]
async fn a_background_child_holds_nothing_up_and_lives_on() {
    let directory = Directory::new("background");
    let began = Instant::now();
    // Nobody ends it afterwards: by its number alone it could not be told from another process.
    let ended = run(sh("sleep 20 & echo $! >background", &directory.0, AMPLE)).await;
    assert!(ended.is_success() && began.elapsed() < BUSY, "{ended} {:?}", began.elapsed());
    assert!(directory.process("background").await.runs());
}

#[tokio::test]
async fn a_hook_has_an_empty_input_and_a_group_of_its_own() {
    let script = "cat && read -r _ _ _ _ group _ </proc/$$/stat && test $group = $$";
    let ended = run(hook(&["sh", "-c", script], AMPLE)).await;
    assert!(ended.is_success(), "{ended}");
}

#[test]
fn the_environment_arrives_without_what_only_systemd_means_for_the_daemon() {
    let variables = [
        ("AWS_REGION", "eu-west-1"),
        ("STATE_DIRECTORY", "/var/lib/spot-relay"),
        ("NOTIFY_SOCKET", "/nowhere/notify"),
        ("WATCHDOG_USEC", "30000000"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_FDS", "1"),
        ("JOURNAL_STREAM", "8:1"),
    ];
    let test = "hooks::the_environment_arrives_without_what_only_systemd_means_for_the_daemon";
    if !alone(test, &variables) {
        return;
    }
    let log = Captured::new();
    let environment = [("SPOT_RELAY_ACTION", "terminate"), ("STATE_DIRECTORY", "/elsewhere")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(run(HookRun { environment, ..hook(&["env"], AMPLE) }));
    assert!(ended.is_success(), "{ended}");
    let lines = log.lines();
    for expected in ["AWS_REGION=eu-west-1", "SPOT_RELAY_ACTION=terminate", "STATE_DIRECTORY=/elsewhere"] {
        assert!(lines.contains(&expected.to_owned()), "{expected} is not in {lines:?}");
    }
    for expected in ["PATH=", "HOME="] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected} is not in {lines:?}");
    }
    for unexpected in ["NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM="] {
        assert!(!lines.iter().any(|line| line.starts_with(unexpected)), "{unexpected} is in {lines:?}");
    }
}

#[tokio::test]
async fn each_line_of_output_is_a_line_of_the_log() {
    let log = Captured::new();
    let ended = run(hook(&["printf", "one\\r\\n\\n  two\\tand\\nthe last without its end"], AMPLE)).await;
    assert!(ended.is_success(), "{ended}");
    assert_eq!(log.lines(), ["one", "  two\tand", "the last without its end"]);
    run(hook(&["sh", "-c", "echo what went wrong >&2; exit 1"], AMPLE)).await;
    assert_eq!(log.lines().last().unwrap(), "what went wrong");
}

#[tokio::test]
async fn a_line_is_told_when_it_is_written_and_not_at_the_end() {
    let directory = Directory::new("lines");
    let log = Captured::new();
    let waiting = "echo begun; until test -e told; do sleep 0.05; done";
    let reader = async {
        while log.lines() != ["begun"] {
            sleep(Duration::from_millis(10)).await;
        }
        fs::write(directory.0.join("told"), "").unwrap();
    };
    let (ended, told) = tokio::join!(run(sh(waiting, &directory.0, BUSY)), timeout(BUSY, reader));
    assert!(ended.is_success() && told.is_ok(), "{ended}");
}

#[tokio::test]
async fn a_hook_that_closes_its_output_is_still_waited_for() {
    let began = Instant::now();
    let ended = run(hook(&["sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 4"], AMPLE)).await;
    assert!(matches!(ended, HookEnd::Failed { status: 4, .. }), "{ended}");
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn a_firehose_holds_nobody_up_and_is_cut() {
    let log = Captured::new();
    let limit = Duration::from_secs(2);
    let mut turns = 0;
    let other = async {
        loop {
            sleep(Duration::from_millis(10)).await;
            turns += 1;
        }
    };
    let began = Instant::now();
    let ended = tokio::select! {
        ended = run(hook(&["yes"], limit)) => ended,
        () = other => unreachable!(),
    };
    assert_eq!(ended, HookEnd::TimedOut { limit, stopped: Stopped::Terminated });
    assert!(began.elapsed() < limit + BUSY);
    assert!(turns >= 20, "others had {turns} turns");
    let told = u64::try_from(log.lines().len()).unwrap();
    let seconds = began.elapsed().as_secs() + 1;
    // A note of what was left out stands at most once a second.
    assert!((LINES..=LINES + seconds * (LINES_A_SECOND + 1)).contains(&told), "{told} lines");
    assert!(log.lines().last().unwrap().contains("were left out here"));
}

#[tokio::test]
async fn much_output_blocks_no_hook_and_every_line_is_told_or_counted() {
    let log = Captured::new();
    let ended = run(hook(&["seq", "200000"], AMPLE)).await;
    assert!(ended.is_success(), "{ended}");
    let (notes, told): (Vec<_>, Vec<_>) = log.lines().into_iter().partition(|line| line.starts_with('['));
    let left_out: usize = notes.iter().map(|note| note[1..].split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(told.len() + left_out, 200_000);
    assert!(told.len() >= usize::try_from(LINES).unwrap());
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    let log = Captured::new();
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo after";
    let ended = run(hook(&["sh", "-c", script], AMPLE)).await;
    assert!(ended.is_success(), "{ended}");
    let cut = format!("{} [the rest of this line was cut off]", "x".repeat(LONGEST_LINE));
    assert_eq!(log.lines(), [cut, "after".to_owned()]);
}

#[tokio::test]
async fn binary_output_is_made_readable() {
    let log = Captured::new();
    let ended = run(hook(&["printf", "\\377\\000caf\\303\\251\\033[2J\\n"], AMPLE)).await;
    assert!(ended.is_success(), "{ended}");
    assert_eq!(log.lines(), ["\u{fffd}\u{fffd}caf\u{e9}\u{fffd}[2J"]);
    let ended = run(hook(&["head", "-c", "200000", "/dev/urandom"], AMPLE)).await;
    assert!(ended.is_success(), "{ended}");
    for line in log.lines() {
        assert!(!line.contains(|letter: char| letter.is_control() && letter != '\t'), "{line:?}");
    }
}

#[tokio::test]
async fn dropping_the_future_ends_the_group_and_leaves_no_zombie() {
    let directory = Directory::new("dropped");
    let script = "sleep 600 & echo $! >grandchild; echo $$ >child; wait";
    let (child, grandchild) = {
        let hook = std::pin::pin!(run(sh(script, &directory.0, AMPLE)));
        let both = async { (directory.process("child").await, directory.process("grandchild").await) };
        tokio::select! {
            ended = hook => panic!("{ended}"),
            both = both => both,
        }
    };
    child.assert_ends().await;
    grandchild.assert_ends().await;
    let began = Instant::now();
    while child.state().is_some() {
        assert!(began.elapsed() < BUSY, "a zombie is left");
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn hooks_leave_no_descriptor_and_no_child_behind() {
    if !alone("hooks::hooks_leave_no_descriptor_and_no_child_behind", &[]) {
        return;
    }
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let children = || {
        let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap();
        fs::read_dir("/proc/self/task").unwrap().flatten().map(children).collect::<String>()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        run(hook(&["true"], AMPLE)).await;
        let before = descriptors();
        for _ in 0..20 {
            run(hook(&["sh", "-c", "echo; exit 1"], AMPLE)).await;
            run(hook(&["/nowhere/at/all"], AMPLE)).await;
        }
        run(hook(&["sleep", "600"], Duration::from_millis(300))).await;
        assert_eq!((descriptors(), children()), (before, String::new()));
        // Dropped while it is being started: nobody is there any more when it has been.
        tokio::select! {
            biased;
            ended = run(hook(&["sleep", "600"], AMPLE)) => panic!("{ended}"),
            () = std::future::ready(()) => {}
        }
        let began = Instant::now();
        sleep(Duration::from_millis(300)).await;
        while (descriptors(), children()) != (before, String::new()) {
            assert!(began.elapsed() < BUSY, "it is left: {}", children());
            sleep(Duration::from_millis(10)).await;
        }
    });
}
