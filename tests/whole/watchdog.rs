//! systemd's watchdog, with the test in systemd's place. How long a process is let live without an answer is the pure core's
//! own test: here is what reaches the socket.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use spot_relay::sim::{Fault, FaultKind, Nth, Settings};

use crate::scenario::{PATIENCE, Scenario, target_group, world};

/// The socket, and a world whose daemon is told of it.
fn watched(name: &str) -> (UnixDatagram, Scenario) {
    let name = format!("spot-relay-watchdog-{}-{name}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    let mut group = target_group("web", &[61_080]);
    group.port = 61_080;
    let scenario = Scenario::new(Settings { target_groups: vec![group], ..world() });
    (socket, scenario.variable("NOTIFY_SOCKET", &format!("@{name}")))
}

/// How often the watchdog is fed in this time.
fn fed(socket: &UnixDatagram, within: Duration) -> usize {
    let until = Instant::now() + within;
    let mut count = 0;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).expect("a limit");
        let mut message = [0; 500];
        if let Ok(length) = socket.recv(&mut message) {
            count += usize::from(message.get(..length) == Some(b"WATCHDOG=1"));
        }
    }
    count
}

fn hang(scenario: &Scenario) {
    let kind = FaultKind::Hang;
    scenario.sim.fault(Fault { service: Some("metadata".to_owned()), action: "*".to_owned(), nth: Nth::All, kind });
}

#[test]
fn the_watchdog_is_fed_well_within_its_time_by_answers_that_are_404s() {
    let (socket, scenario) = watched("answers");
    let scenario = scenario.variable("WATCHDOG_USEC", "1500000");
    let _daemon = scenario.ready();
    fed(&socket, Duration::from_millis(100));
    let count = fed(&socket, Duration::from_secs(4));
    assert!((5..=9).contains(&count), "fed {count} times in 4 s");
}

#[test]
fn a_process_that_stands_still_feeds_nothing() {
    let (socket, scenario) = watched("still");
    let scenario = scenario.variable("WATCHDOG_USEC", "1500000");
    let daemon = scenario.ready();
    daemon.signal("-STOP");
    fed(&socket, Duration::from_millis(500));
    assert_eq!(fed(&socket, Duration::from_secs(2)), 0);
    daemon.signal("-CONT");
    assert!(fed(&socket, Duration::from_secs(2)) > 0);
}

#[test]
fn a_young_process_waits_for_metadata_that_hang_from_the_start() {
    let (socket, scenario) = watched("hung");
    let scenario = scenario.variable("WATCHDOG_USEC", "1500000");
    hang(&scenario);
    let mut daemon = scenario.start();
    daemon.wait_for_line("does not answer as it should");
    assert!(fed(&socket, Duration::from_secs(3)) >= 2);
    assert!(!daemon.has_ended() && daemon.lines_with("stops answering systemd").is_empty());
}

#[test]
fn a_handover_feeds_it_while_the_metadata_hang() {
    let (socket, scenario) = watched("handover");
    let scenario = scenario.variable("WATCHDOG_USEC", "1500000");
    let daemon = scenario.ready();
    let kind = FaultKind::Hang;
    scenario.sim.fault(Fault { service: None, action: "DescribeTargetHealth".to_owned(), nth: Nth::First(3), kind });
    scenario.sim.notice("terminate", Duration::from_secs(100));
    daemon.wait_for("noticed");
    hang(&scenario);
    let mut count = 0;
    let began = Instant::now();
    while !daemon.milestone_names().contains(&"handed-over".to_owned()) && began.elapsed() < PATIENCE {
        count += fed(&socket, Duration::from_millis(500));
    }
    let expected = began.elapsed().as_secs() / 2;
    assert!(count as u64 >= expected.max(1), "fed {count} times in {:?}", began.elapsed());
    scenario.assert_handed_over(&["web"], "while the metadata hang");
}

#[test]
fn nothing_is_fed_where_systemd_does_not_watch() {
    let (socket, scenario) = watched("unwatched");
    let _daemon = scenario.ready();
    assert_eq!(fed(&socket, Duration::from_secs(2)), 0);
}
