//! `spot-relay status` beside a real daemon: what it tells of each state, who may read it, and how it ends.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::scenario::{Scenario, eventually, follow, world};

/// A handover that is still under way when a test has looked at it: the service counts as busy until then.
const LONG: &str = "[watch]\ninterval = \"100ms\"\n[leave]\nquiet-for = \"60s\"\n";

/// What it prints, and its exit code.
fn told(scenario: &Scenario, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = scenario.command_of("status");
    let output = command.args(arguments).stdout(Stdio::piped()).output().expect("it runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

fn report(scenario: &Scenario) -> (Value, Option<i32>) {
    let (text, code) = told(scenario, &["--json"]);
    (serde_json::from_str(&text).expect("JSON"), code)
}

/// The report once it is so: the daemon writes its status beside everything else.
fn report_once(scenario: &Scenario, is_so: impl Fn(&Value) -> bool) -> (Value, Option<i32>) {
    let found = eventually(|| Some(report(scenario)).filter(|(report, _)| is_so(report)));
    found.unwrap_or_else(|| panic!("it never was so: {:#}", report(scenario).0))
}

fn milestones(report: &Value) -> Vec<String> {
    let steps = report["handover"]["milestones"].as_array().cloned().unwrap_or_default();
    steps.iter().filter_map(|step| step["milestone"].as_str().map(str::to_owned)).collect()
}

#[test]
fn watching_is_told_with_what_a_notice_would_bring() {
    let scenario = Scenario::new(world());
    let daemon = scenario.ready();
    let (report, code) = report_once(&scenario, |report| !report["registrations"].is_null());
    assert_eq!(code, Some(0));
    assert_eq!(
        (&report["schema"], &report["running"], &report["state"]),
        (&1.into(), &true.into(), &"watching".into())
    );
    assert_eq!(report["pid"], daemon.pid());
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["instance"]["instance_id"], scenario.sim.instance_id());
    assert_eq!(report["owner"]["kind"], "auto-scaling-group");
    assert_eq!(report["problems"], Value::Array(Vec::new()));
    assert_eq!(report["handover"], Value::Null);
    let places = report["registrations"].as_array().expect("a list");
    assert_eq!(
        (places.len(), &places[0]["name"], &places[0]["ports"]),
        (1, &"web".into(), &serde_json::json!([61_080]))
    );
    assert!(report["metadata"]["age_seconds"].as_f64().is_some_and(|age| age < 60.0), "{report:#}");

    let (text, code) = told(&scenario, &[]);
    assert_eq!(code, Some(0));
    let expected = [
        &format!("spot-relay {} is watching\n", env!("CARGO_PKG_VERSION")),
        &format!("instance     {} (m5.large, eu-west-1a, spot)", scenario.sim.instance_id()),
        "on a notice  deregister from web (port 61080)",
        "registered   web: port 61080, deregistration delay",
        "last good look at most",
    ];
    for line in expected {
        assert!(text.contains(line), "{line:?} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours for a pipe:\n{text}");
}

#[test]
fn a_handover_is_told_while_it_goes_on() {
    let scenario = Scenario::new(world()).config(LONG);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("left");
    let (report, code) = report_once(&scenario, |report| {
        report["state"] == "handing-over" && milestones(report).contains(&"left".into())
    });
    assert_eq!((code, &report["running"]), (Some(0), &true.into()));
    let handover = &report["handover"];
    assert_eq!((&handover["signal"], &handover["action"]), (&"notice".into(), &"terminate".into()));
    assert_eq!(handover["outcome"], Value::Null);
    assert!(handover["seconds_to_deadline"].as_f64().is_some_and(|left| left > 10.0), "{handover:#}");
    assert_eq!(milestones(&report)[0], "noticed");
    let duties = handover["duties"].as_array().expect("a list");
    assert!(duties.iter().any(|duty| duty["done"] == true) && duties.iter().any(|duty| duty["done"] == false));

    let (text, code) = told(&scenario, &[]);
    assert_eq!(code, Some(0));
    for part in ["is handing over\n", "The handover\n", "goes on for ", "so far ", "  open ", "  done "] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
}

#[test]
fn a_handover_is_told_afterwards_and_when_the_daemon_has_been_stopped() {
    let scenario = Scenario::new(world());
    let mut daemon = scenario.hand_over();
    let (report, code) = report_once(&scenario, |report| report["state"] == "handed-over");
    assert_eq!((code, &report["handover"]["outcome"]), (Some(0), &"complete".into()));
    assert_eq!(milestones(&report), daemon.milestone_names());
    let duties = report["handover"]["duties"].as_array().expect("a list");
    assert!(!duties.is_empty() && duties.iter().all(|duty| duty["done"] == true), "{duties:#?}");
    let times = report["handover"]["milestones"].as_array().expect("a list").iter();
    let times: Vec<f64> = times.map(|step| step["seconds"].as_f64().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    let (text, _) = told(&scenario, &[]);
    let shown =
        ["has handed over, and waits for the end", "The last handover\n", "complete in ", "successor healthy ", "━"];
    for part in shown {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }

    daemon.signal("-TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    let (report, code) = self::report(&scenario);
    assert_eq!((code, &report["running"], &report["state"]), (Some(3), &false.into(), &"not-running".into()));
    assert!(report["ended"].is_string() && report["handover"]["outcome"] == "complete", "{report:#}");
    let (text, code) = told(&scenario, &[]);
    assert_eq!(code, Some(3));
    for part in ["is not running", "was stopped", "systemctl start spot-relay", "complete in "] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
}

/// The pipe is full, so that the daemon ends between the look at its file and the end of `status`.
#[test]
fn the_exit_code_is_that_of_the_page() {
    let scenario = Scenario::new(world());
    let mut daemon = scenario.ready();
    report_once(&scenario, |report| report["state"] == "watching");
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; 65_536]).expect("room for a full pipe");
    let mut command = scenario.command_of("status");
    let mut status = command.arg("--json").stdout(writer).spawn().expect("it runs");
    drop(command);
    std::thread::sleep(Duration::from_secs(2));
    daemon.signal("-TERM");
    daemon.wait();
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status.wait().expect("it ends").code(), &report["running"]), (Some(0), &true.into()));
}

#[test]
fn a_daemon_that_was_killed_is_not_taken_for_one_that_watches() {
    let scenario = Scenario::new(world());
    let (text, code) = told(&scenario, &[]);
    assert!(
        code == Some(3) && text.contains("spot-relay is not running") && text.contains("there is no "),
        "before the first start:\n{text}"
    );
    let mut daemon = scenario.ready();
    report_once(&scenario, |report| report["state"] == "watching");
    daemon.kill();
    let (report, code) = self::report(&scenario);
    assert_eq!((code, &report["state"], &report["ended"]), (Some(3), &"not-running".into(), &Value::Null));
    let (text, code) = told(&scenario, &[]);
    assert_eq!(code, Some(3));
    let died = format!("has died (process {} is gone)", daemon.pid());
    assert!(text.contains(&died) && text.contains("journalctl -u spot-relay -e"), "{text}");
}

#[test]
fn a_dry_run_is_told_alone_and_beside_the_daemon() {
    let alone = Scenario::new(world()).argument("--dry-run");
    let dry_run = alone.ready();
    let (text, code) = told(&alone, &[]);
    let said = text.replace('\n', " ");
    assert_eq!(code, Some(3), "nothing would be handed over: {text}");
    assert!(text.starts_with("spot-relay is not running; a dry run watches\n"), "{text}");
    assert!(said.contains("only says what it would do") && !said.contains("no notice is seen"), "{text}");
    assert!(!said.contains("why it ended"), "nothing ended: {text}");

    let beside = Scenario::new(world());
    let _daemon = beside.ready();
    report_once(&beside, |report| report["state"] == "watching");
    let (text, code) = told(&beside, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("  dry run      ") && text.contains(" watches beside it"), "{}: {text}", dry_run.pid());
}

#[test]
fn everybody_may_read_the_status_whatever_the_umask_of_the_daemon() {
    let scenario = Scenario::new(world()).started_by(&["/bin/sh", "-c", "umask 0077; exec \"$@\"", "sh"]);
    let daemon = scenario.ready();
    daemon.status();
    let mode = |name: &str| {
        let data = std::fs::metadata(scenario.directory().join(name)).expect("it is there");
        data.permissions().mode() & 0o777
    };
    assert_eq!((mode("run"), mode("run/status.json")), (0o755, 0o644));
}

/// `status --watch` on a pipe.
struct Watcher {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Watcher {
    fn start(scenario: &Scenario, arguments: &[&str]) -> Watcher {
        let mut command = scenario.command_of("status");
        let mut child = command.arg("--watch").args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = Arc::default();
        follow(child.stdout.take().expect("its output"), &lines);
        Watcher { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("lines").clone()
    }

    fn wait_for(&self, text: &str) {
        let is_there = || self.lines().iter().any(|line| line.contains(text)).then_some(());
        eventually(is_there).unwrap_or_else(|| panic!("{text:?} was not told:\n{}", self.lines().join("\n")));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watch_tells_a_pipe_of_every_change_and_of_nothing_else() {
    let scenario = Scenario::new(world()).config(LONG);
    let mut daemon = scenario.ready();
    report_once(&scenario, |report| !report["registrations"].is_null());
    let (people, programs) = (Watcher::start(&scenario, &[]), Watcher::start(&scenario, &["--json"]));
    people.wait_for("is watching");
    programs.wait_for("\"watching\"");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    people.wait_for("is handing over");
    programs.wait_for("\"handing-over\"");
    daemon.kill();
    people.wait_for("is not running");
    programs.wait_for("\"not-running\"");

    let lines = people.lines();
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "no cursor is moved on a pipe:\n{}", lines.join("\n"));
    let headlines: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("spot-relay 0.1.0 ")).collect();
    assert_eq!((headlines[0], headlines[1]), ("is watching", "is handing over"), "{headlines:?}");
    // Each block but the first stands behind an empty line.
    let places = lines.iter().enumerate().skip(1).filter(|(_, line)| line.starts_with("spot-relay 0.1.0 "));
    assert!(places.map(|(place, _)| &lines[place - 1]).all(String::is_empty), "{}", lines.join("\n"));

    let reports: Vec<Value> =
        programs.lines().iter().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let without_ages = |report: &Value| {
        let mut report = report.clone();
        report["age_seconds"].take();
        report["running_seconds"].take();
        report["metadata"].take();
        for key in ["seconds", "seconds_to_deadline", "duties"] {
            report["handover"][key].take();
        }
        report
    };
    for pair in reports.windows(2) {
        assert_ne!(without_ages(&pair[0]), without_ages(&pair[1]), "told twice");
    }
}
