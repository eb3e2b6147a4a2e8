//! `spot-relay demo`, the real binary: what a newcomer sees first has to be complete, true and over soon.
//!
//! Standard output is a pipe here, so these are the plain lines; how bars and colours come out is tested beside the code.

#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails says where")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// As long as the slow request, and some for a machine that builds at the same time.
const SOON: Duration = Duration::from_secs(40);

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spot-relay"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of the timeline, with the seconds after the notice.
fn timeline(stdout: &str) -> Vec<(f64, String)> {
    let lines = stdout.lines().skip_while(|line| !line.contains("The notice, and what follows"));
    let lines = lines.take_while(|line| !line.contains("in seconds after the notice"));
    // A line that is broken may go on with a number.
    lines.filter_map(|line| Some((line.get(..8)?.trim().parse().ok()?, line.to_owned()))).collect()
}

/// The seconds of a bar of the chart.
fn bar(stdout: &str, label: &str) -> f64 {
    let line = stdout.lines().find(|line| line.trim_start().starts_with(label));
    let line = line.unwrap_or_else(|| panic!("no bar {label:?} in:\n{stdout}"));
    line.trim_start().trim_start_matches(label).split_whitespace().next().unwrap().parse().unwrap()
}

fn hands_over(owner: &str, call: &str) {
    let began = Instant::now();
    let Output { status, stdout, stderr } = demo(&["--fast", "--owner", owner]).output().unwrap();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    assert!(began.elapsed() < SOON, "{:?}\n{stdout}", began.elapsed());
    assert!(!stdout.contains('\x1b') && stderr.is_empty(), "{stdout:?}\n{stderr}");
    let timeline = timeline(&stdout);
    assert!(timeline.is_sorted_by(|one, next| one.0 <= next.0), "{stdout}");
    let noticed = ["AWS gives notice", "AWS will terminate"];
    // The call goes out before anybody is told of it, and may show before or after the daemon's word.
    assert!(timeline.iter().any(|(_, line)| line.contains("DeregisterTargets")), "{stdout}");
    let leaves = ["deregistered from web", "left web", "no request is open", "handed over completely"];
    let arrives =
        ["launched, pending", "is running in", "registered in web", "is healthy in web", "handed over completely"];
    // The successor may be launched before the daemon's word of the notice is heard.
    for (noticed, duties) in [(&noticed[..], leaves.as_slice()), (&noticed[..1], arrives.as_slice())] {
        let mut rest = timeline.iter();
        for part in noticed.iter().chain(duties) {
            assert!(rest.any(|(_, line)| line.contains(*part)), "{part:?} is missing or out of order in:\n{stdout}");
        }
    }
    assert!(timeline.iter().any(|(_, line)| line.contains(call)), "{call:?} in:\n{stdout}");
    assert_eq!(timeline.iter().filter(|(_, line)| line.contains("launched, pending")).count(), 1, "{stdout}");
    let order = ["notice seen", "out of the load balancer", "connections quiet", "handed over"];
    assert!(order.is_sorted_by_key(|label| bar(&stdout, label)), "{stdout}");
    // Two witnesses of nearly one moment: the client, and the daemon's log.
    assert!(bar(&stdout, "last request answered") < bar(&stdout, "connections quiet") + 0.1, "{stdout}");
    // The daemon has settled for its second long before, and waits for the slow request because it sees it.
    assert!(bar(&stdout, "last request answered") > bar(&stdout, "out of the load balancer") + 1.5, "{stdout}");
    let successor = ["successor requested", "successor running", "successor registered", "successor serves"];
    assert!(successor.is_sorted_by_key(|label| bar(&stdout, label)), "{stdout}");
    assert!(stdout.contains("none was lost"), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
}

#[test]
fn an_auto_scaling_group_hands_over() {
    hands_over("auto-scaling-group", "DetachInstances");
}

#[test]
fn an_ec2_fleet_hands_over_and_has_its_capacity_back() {
    hands_over("ec2-fleet", "target capacity 3 instead of 4");
}

#[test]
fn a_spot_fleet_hands_over_and_has_its_capacity_back() {
    hands_over("spot-fleet", "target capacity 3 instead of 4");
}

#[test]
fn a_launch_template_hands_over() {
    hands_over("launch-template", "CreateFleet of type instant, capacity 1");
}

#[test]
fn an_unknown_owner_is_named_with_those_there_are() {
    let output = demo(&["--owner", "nobody"]).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("'nobody'") && stderr.contains("auto-scaling-group"), "{stderr}");
}

/// A demo whose daemon is up, and the daemon's process id.
struct Running {
    demo: Child,
    daemon: u32,
    lines: BufReader<std::process::ChildStdout>,
}

fn running() -> Running {
    let mut demo = demo(&["--fast"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("ready; on a notice") {
        assert!(lines.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    let daemon = seen.split("(process ").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    Running { daemon: daemon.parse().unwrap(), demo, lines }
}

fn signal(signal: Signal, process: u32) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Gone, or dead and not waited for.
fn is_dead(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

fn dies_soon(process: u32) {
    let began = Instant::now();
    while !is_dead(process) {
        assert!(began.elapsed() < Duration::from_secs(5), "process {process} lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn home(demo: u32) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("spot-relay-demo-{demo}"))
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let mut running = running();
    assert!(home(running.demo.id()).is_dir());
    signal(Signal::INT, running.demo.id());
    let mut rest = String::new();
    running.lines.read_to_string(&mut rest).unwrap();
    assert_eq!(running.demo.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("nothing is left behind"), "{rest}");
    assert!(is_dead(running.daemon) && !home(running.demo.id()).exists());
}

#[test]
fn a_killed_demo_takes_its_daemon_with_it() {
    let mut running = running();
    running.demo.kill().unwrap();
    running.demo.wait().unwrap();
    dies_soon(running.daemon);
    std::fs::remove_dir_all(home(running.demo.id())).unwrap();
}

#[test]
fn a_daemon_that_dies_is_told_with_its_last_words() {
    let running = running();
    signal(Signal::KILL, running.daemon);
    let output = running.demo.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the daemon ended (signal: 9") && stderr.contains("ready; on a notice"), "{stderr}");
}
