//! One daemon an instance: the lock, and what happens without it.

use std::process::Stdio;

use crate::scenario::{Scenario, world};

#[test]
fn a_second_daemon_says_who_the_first_is_and_ends() {
    let scenario = Scenario::new(world());
    let first = scenario.ready();
    let mut second = scenario.start();
    let line = second.wait_for_line("another daemon works for this instance already");
    assert!(line.contains(&format!("process {}", first.pid())), "{line}");
    assert_eq!(second.wait().code(), Some(1));
    // The first one's files are as they were.
    assert_eq!(first.status()["pid"], first.pid());
}

#[test]
fn a_daemon_that_was_killed_holds_nothing() {
    let scenario = Scenario::new(world());
    scenario.ready().kill();
    scenario.ready();
}

#[test]
fn a_dry_run_may_watch_beside_the_daemon() {
    let scenario = Scenario::new(world());
    let daemon = scenario.ready();
    let ours = daemon.status()["pid"].clone();
    // Its own writes, which would take the flag down, are over.
    daemon.signal("-STOP");
    std::fs::write(scenario.directory().join("run/notice"), "").expect("a flag");
    let beside = scenario.argument("--dry-run");
    let dry = beside.start();
    dry.wait_for_line("ready; on a notice");
    // It leaves the daemon's files alone: flags that units wait for, and the status.
    assert!(beside.directory().join("run/notice").exists());
    assert_eq!(daemon.status()["pid"], ours);
}

#[test]
fn a_lock_that_cannot_be_made_is_told_and_the_daemon_watches_all_the_same() {
    let scenario = Scenario::new(world());
    std::fs::write(scenario.directory().join("run"), "a file where the directory should be").expect("written");
    let daemon = scenario.ready();
    daemon.wait_for_line("going on without, so nothing keeps a second daemon or a drill from working beside this one");
}

/// `mount` needs the rights of a user namespace; the daemon's `/run` is a file system without a free page there.
const ON_A_FULL_DISK: &str = "mkdir -p \"$RUNTIME_DIRECTORY\" && mount -t tmpfs -o size=4k none \"$RUNTIME_DIRECTORY\" \
                              && head -c 4096 /dev/zero > \"$RUNTIME_DIRECTORY/full\" && exec \"$@\"";

#[test]
fn a_daemon_on_a_full_disk_holds_the_lock_and_status_says_that_it_runs() {
    let unshare = ["/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-c", ON_A_FULL_DISK, "sh"];
    let scenario = Scenario::new(world()).started_by(&unshare);
    let daemon = scenario.ready();
    assert!(daemon.lines_with("failed to lock").is_empty(), "{:#?}", daemon.lines());
    // Its file system is seen from its namespace alone.
    let run = format!("/proc/{}/root{}", daemon.pid(), scenario.directory().join("run").display());
    let mut command = scenario.command_of("status");
    let status = command.arg("--json").env("RUNTIME_DIRECTORY", run).stdout(Stdio::piped()).output();
    let status = status.expect("status runs");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("a document");
    assert_eq!((status["state"].as_str(), status["running"].as_bool()), (Some("untold"), Some(true)), "{status:#}");
}
