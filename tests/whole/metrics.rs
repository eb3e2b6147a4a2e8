//! The metrics as Prometheus gets them: a handover counted against what arrived at the simulator, and scrapers that hang.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use spot_relay::sim::{Fault, FaultKind, Nth, Settings};

use crate::scenario::{Daemon, PATIENCE, SHORT, Scenario, eventually, target_group, world};

const LISTEN: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

fn scenario(config: &str) -> Scenario {
    let mut group = target_group("web", &[61_080]);
    group.port = 61_080;
    Scenario::new(Settings { target_groups: vec![group], ..world() }).config(&format!("{SHORT}{config}"))
}

/// Where the daemon says that it serves.
pub(crate) fn address(daemon: &Daemon) -> String {
    let line = daemon.wait_for_line("metrics are served at http://");
    let (_, rest) = line.split_once("http://").expect("a URL");
    rest.split('/').next().expect("an address").to_owned()
}

fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

pub(crate) fn scrape(address: &str) -> String {
    let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    body
}

/// For `tests/run metrics`, which has Prometheus's own linter look at it.
fn keep(name: &str, scrape: &str) {
    if let Some(directory) = std::env::var_os("SCRAPES") {
        let path = std::path::Path::new(&directory).join(format!("{name}.txt"));
        std::fs::write(path, scrape).expect("the scrape is kept");
    }
}

fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(pair).collect()
}

/// Calls to AWS by action: as counted, and as they arrived.
fn counted(series: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut counted = BTreeMap::new();
    for (name, value) in series.iter().filter(|(_, value)| **value > 0.0) {
        if let Some(rest) = name.strip_prefix("spot_relay_aws_calls_total{action=\"") {
            *counted.entry(rest.split('"').next().expect("an action").to_owned()).or_default() += value;
        }
    }
    counted
}

fn arrived(scenario: &Scenario) -> BTreeMap<String, f64> {
    let mut arrived = BTreeMap::new();
    for request in scenario.aws_requests() {
        *arrived.entry(request.action).or_default() += 1.0;
    }
    arrived
}

/// Sockets on which the daemon listens.
fn listening(daemon: &Daemon) -> usize {
    let table = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let rows =
        table.iter().flat_map(|table| table.lines().skip(1)).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let listening: Vec<String> = rows.filter(|row| row[3] == "0A").map(|row| format!("socket:[{}]", row[9])).collect();
    let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its files");
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links.filter(|link| listening.iter().any(|socket| link.to_str() == Some(socket))).count()
}

#[test]
fn a_handover_is_counted_as_it_arrived_at_aws() {
    let scenario = scenario(&format!("{LISTEN}[hooks]\nnotice = [\"/bin/true\"]\ndrained = [\"/bin/false\"]\n"));
    let daemon = scenario.ready();
    let address = address(&daemon);
    let before = scrape(&address);
    keep("before", &before);
    let before = series(&before);
    for name in [
        "spot_relay_notices_total",
        "spot_relay_milestones_total{milestone=\"handed-over\"}",
        "spot_relay_aws_calls_total{action=\"DeregisterTargets\",result=\"ok\"}",
        "spot_relay_retries_total{duty=\"leave\"}",
        "spot_relay_hooks_total{hook=\"notice\",result=\"ok\"}",
        "spot_relay_webhook_posts_total{result=\"ok\"}",
    ] {
        assert_eq!(before[name], 0.0, "{name}");
    }
    assert!(before["spot_relay_handover_left_seconds"].is_nan());
    assert_eq!(before["spot_relay_registered_targets"], 1.0);
    assert_eq!(before["spot_relay_owner{owner=\"auto-scaling-group\"}"], 1.0);
    assert!(before["spot_relay_metadata_last_good_look_age_seconds"] < 5.0);
    scenario.sim.fault(Fault {
        service: None,
        action: "DetachInstances".to_owned(),
        nth: Nth::First(1),
        kind: FaultKind::Status { status: 503, code: "ServiceUnavailable".to_owned(), message: "made".to_owned() },
    });
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    let same = || (counted(&series(&scrape(&address))) == arrived(&scenario)).then_some(());
    eventually(same).unwrap_or_else(|| {
        panic!("counted {:?}, arrived {:?}", counted(&series(&scrape(&address))), arrived(&scenario));
    });
    let after = scrape(&address);
    keep("after", &after);
    let after = series(&after);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "no series comes or goes");
    for (name, expected) in [
        ("spot_relay_notices_total", 1.0),
        ("spot_relay_aws_calls_total{action=\"DetachInstances\",result=\"fault\"}", 1.0),
        ("spot_relay_aws_calls_total{action=\"DeregisterTargets\",result=\"ok\"}", 1.0),
        ("spot_relay_retries_total{duty=\"ask\"}", 1.0),
        ("spot_relay_hooks_total{hook=\"notice\",result=\"ok\"}", 1.0),
        ("spot_relay_hooks_total{hook=\"drained\",result=\"failed\"}", 1.0),
        ("spot_relay_handover_milestone_seconds{milestone=\"noticed\"}", 0.0),
    ] {
        assert_eq!(after[name], expected, "{name}");
    }
    let ended = |outcome: &str| after[&format!("spot_relay_handovers_total{{outcome=\"{outcome}\"}}")];
    assert_eq!((ended("complete"), ended("partial")), (0.0, 1.0), "its hook failed");
    for milestone in ["noticed", "deregistered", "left", "quiet", "successor-requested", "handed-over"] {
        let told = daemon.milestone_names().iter().filter(|name| *name == milestone).count();
        assert_eq!(
            after[&format!("spot_relay_milestones_total{{milestone=\"{milestone}\"}}")],
            told as f64,
            "{milestone}"
        );
        assert!(after[&format!("spot_relay_handover_milestone_seconds{{milestone=\"{milestone}\"}}")] < 60.0);
    }
    let told = daemon.wait_for("handed-over")["seconds_left"].as_f64().expect("a number");
    assert!((after["spot_relay_handover_left_seconds"] - told).abs() < 0.1);
}

#[test]
fn nothing_listens_by_default() {
    let scenario = scenario("");
    assert_eq!(listening(&scenario.ready()), 0);
    let served = self::scenario(LISTEN);
    let daemon = served.ready();
    address(&daemon);
    assert_eq!(listening(&daemon), 1);
}

#[test]
fn another_path_is_a_404_and_another_method_a_405() {
    let scenario = scenario(LISTEN);
    let daemon = scenario.start();
    let address = address(&daemon);
    let status = |request: &str| ask(&address, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).0;
    assert!(status("GET /").starts_with("HTTP/1.1 404 "));
    let refused = status("DELETE /metrics");
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.to_lowercase().contains("allow: get, head"), "{refused}");
    assert!(status("HEAD /metrics").starts_with("HTTP/1.1 200 "));
}

#[test]
fn scrapers_that_hang_hold_nothing_up_and_are_let_go() {
    let scenario = scenario(LISTEN);
    let daemon = scenario.ready();
    let address = address(&daemon);
    let hanging: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(&address).expect("the port is open")).collect();
    for mut stream in hanging.iter().take(6) {
        stream.write_all(b"GET /metrics HTT").expect("it is read");
    }
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    scenario.assert_handed_over(&["web"], "with scrapers that hang");
    let began = Instant::now();
    scrape(&address);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(hanging);
}

#[test]
fn a_port_that_is_taken_is_said_once_and_served_when_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let scenario = scenario(&format!("[metrics]\nlisten = \"{address}\"\n"));
    let daemon = scenario.ready();
    let line = daemon.wait_for_line("metrics cannot be served at");
    assert!(line.contains("in use"), "{line}");
    drop(taken);
    daemon.wait_for_line("metrics are served at");
    scrape(&address.to_string());
    assert_eq!(daemon.lines_with("metrics cannot be served at").len(), 1);
}
