//! The log of a daemon to which nothing happens: a line for each thing it found at its start, and then none.

use std::time::Duration;

use serde_json::Value;
use spot_relay::sim::{Settings, TargetGroupSettings};

use crate::scenario::{Daemon, SHORT, Scenario, eventually, target_group, world};
use crate::soak::held;

/// As many as a quiet hour's first minutes: with each of them everything that comes round has come round.
const LOOKS: usize = 120;
const LOOK: &str = "GET /latest/meta-data/spot/instance-action";

fn messages(daemon: &Daemon) -> Vec<String> {
    let parsed = |line: &String| serde_json::from_str::<Value>(line).ok()?["message"].as_str().map(str::to_owned);
    daemon.lines().iter().map(|line| parsed(line).unwrap_or_else(|| panic!("no log line: {line}"))).collect()
}

#[test]
fn a_start_says_each_thing_in_one_line_and_what_follows_is_silent() {
    // Tokens die and are renewed all the time, the status is written, metrics are served.
    let settings = Settings { token_ttl_cap: Some(Duration::from_secs(1)), ..world() };
    let config = format!("{SHORT}[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let scenario = Scenario::new(settings).config(&config).variable("RUST_LOG", "info");
    let daemon = scenario.start();
    daemon.wait_for_line("ready; on a notice");
    let count = |action: &str| scenario.sim.requests().iter().filter(|request| request.action == action).count();
    let (looks, written) = (count(LOOK), daemon.status()["written"].clone());
    let is_later = || count(LOOK) >= looks + LOOKS && daemon.status()["written"] != written;
    eventually(|| is_later().then_some(())).expect("it goes on looking, and writing its status");
    assert!(count("PUT /latest/api/token") > 5, "tokens were renewed");
    eventually(|| (held(&daemon).threads == 1).then_some(())).expect("it has one thread");

    let instance = scenario.sim.instance_id();
    let wanted = [
        format!("spot-relay {} watches http://127.0.0.1:", env!("CARGO_PKG_VERSION")),
        "metrics are served at http://127.0.0.1:".to_owned(),
        format!("instance {instance} (m5.large, eu-west-1a, spot)"),
        "owner: Auto Scaling group ".to_owned(),
        "registered in web (port ".to_owned(),
        "ready; on a notice: have group ".to_owned(),
    ];
    let said = messages(&daemon);
    for beginning in &wanted {
        let lines: Vec<&String> = said.iter().filter(|line| line.starts_with(beginning)).collect();
        assert_eq!(lines.len(), 1, "{beginning:?} once: {said:#?}");
    }
    assert_eq!(said.len(), wanted.len(), "and nothing else: {said:#?}");
}

/// A target group that this instance and its owner have nothing to do with.
fn another_group(name: &str) -> TargetGroupSettings {
    TargetGroupSettings { attached: false, ..target_group(name, &[]) }
}

#[test]
fn where_the_owner_names_target_groups_no_other_is_asked_at_start_or_at_a_recommendation() {
    let groups = vec![target_group("web", &[61_080]), another_group("others"), another_group("more")];
    let scenario = Scenario::new(Settings { target_groups: groups, ..world() });
    let daemon = scenario.ready();
    let asked = |scenario: &Scenario| scenario.count("DescribeTargetHealth");
    assert_eq!((scenario.count("DescribeTargetGroups"), asked(&scenario)), (1, 1));
    scenario.sim.rebalance();
    eventually(|| (asked(&scenario) >= 2).then_some(())).expect("the known group is asked again");
    std::thread::sleep(Duration::from_secs(2));
    // The known group's own facts are read again too: its load balancer may be another one by now.
    assert_eq!((scenario.count("DescribeTargetGroups"), asked(&scenario)), (2, 2));
    drop(daemon);
}
