//! Drills of the real binary: of every owner, refused, called off, killed, overtaken by a real notice. After each the world
//! is as before but for what was announced.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use spot_relay::sim::{FleetType, Owner, Settings, TargetGroupSettings};

use crate::scenario::{Daemon, SHORT, Scenario, eventually, target_group, world};

fn owned_by(owner: Owner) -> Settings {
    let web = TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080]) };
    let api = TargetGroupSettings { attached: false, ..target_group("api", &[61_081, 61_082]) };
    Settings { owner, target_groups: vec![web, api], max_size: Some(9), kill_at_deadline: false, ..world() }
}

fn group(termination_hook: bool, capacity_rebalance: bool) -> Owner {
    Owner::AutoScalingGroup { capacity_rebalance, termination_hook, mixed_instances: false }
}

fn owners() -> [(&'static str, Owner, usize); 9] {
    [
        ("a group", group(false, false), 1),
        ("a group with a termination hook", group(true, false), 1),
        ("a group with Capacity Rebalancing", group(false, true), 0),
        ("a maintain EC2 Fleet", Owner::ec2_fleet(FleetType::Maintain), 1),
        ("an instant EC2 Fleet", Owner::ec2_fleet(FleetType::Instant), 1),
        ("a maintain Spot Fleet", Owner::spot_fleet(FleetType::Maintain), 1),
        ("a Spot Fleet of type request", Owner::spot_fleet(FleetType::Request), 1),
        ("a launch template", Owner::LaunchTemplate, 1),
        ("nobody", Owner::Nobody, 0),
    ]
}

fn settled(scenario: &Scenario) -> Value {
    let ours = scenario.sim.instance_id();
    let is_healthy = |name: &str| {
        let targets = scenario.sim.targets(name);
        targets.iter().any(|(id, _, _)| *id == ours) && targets.iter().all(|(_, _, state)| state == "healthy")
    };
    eventually(|| (is_healthy("web") && is_healthy("api")).then_some(())).expect("the world is as it should be");
    scenario.world_without_successors()
}

fn as_before(scenario: &Scenario, before: &Value, drill: &Daemon) {
    let now = || scenario.world_without_the_excess();
    let same = eventually(|| (now() == *before).then_some(()));
    assert!(same.is_some(), "{before:#}\nis now\n{:#}\n{}", now(), drill.lines().join("\n"));
    eventually(|| (!drill.has_flag("notice") && !drill.has_flag("drained")).then_some(())).expect("no flag stands");
    assert_eq!(scenario.mark(), None);
}

/// The actions that `drill --dry-run` prints.
fn announced(lines: &[String]) -> BTreeSet<String> {
    let from = lines.iter().position(|line| line == "Calls that hand over").expect("the calls are printed");
    let is_action = |line: &&String| line.starts_with("  ") && !line.starts_with("   ");
    lines.iter().skip(from).filter(is_action).map(|line| line.trim().to_owned()).collect()
}

/// The actions that change something and reached the simulator.
fn received(scenario: &Scenario) -> BTreeSet<String> {
    scenario.aws_requests().into_iter().map(|it| it.action).filter(|action| !action.starts_with("Describe")).collect()
}

/// A dry run and the drill that it announced, and nothing but the successors is new.
fn is_complete(name: &str, scenario: &Scenario, successors: usize) -> Daemon {
    let before = settled(scenario);
    let mut dry = scenario.drill(&["--dry-run"]);
    assert_eq!(dry.wait().code(), Some(0), "{name}: {}", dry.lines().join("\n"));
    dry.wait_for_line("Calls that only look");
    assert_eq!(received(scenario), BTreeSet::new(), "{name}: a dry run writes nothing");
    assert_eq!(scenario.world_without_successors(), before, "{name}");
    let announced = announced(&dry.lines());
    let mut drill = scenario.drill(&["--yes"]);
    let code = drill.wait().code();
    drill.wait_for_line("Start the daemon again");
    assert_eq!(code, Some(0), "{name}: {}", drill.lines().join("\n"));
    as_before(scenario, &before, &drill);
    assert_eq!(scenario.sim.successors().len(), successors, "{name}");
    assert_eq!(announced, received(scenario), "{name}: announced, and received");
    let record = drill.record();
    assert_eq!(record["signal"], "drill", "{name}");
    assert_eq!(record["closed"], "reinstated", "{name}");
    drill.wait_for_line("The drill was complete");
    drill
}

#[test]
fn of_every_owner_is_complete_makes_the_calls_it_announced_and_leaves_the_world_as_it_was() {
    for (name, owner, successors) in owners() {
        is_complete(name, &Scenario::listing(owned_by(owner)), successors);
    }
}

#[test]
fn where_the_successor_comes_first_the_drill_waits_for_it_as_a_notice_does() {
    for (when, owner) in [
        ("successor-healthy", group(false, false)),
        ("auto", group(false, false)),
        ("auto", group(true, false)),
        ("auto", Owner::ec2_fleet(FleetType::Maintain)),
        ("auto", Owner::LaunchTemplate),
    ] {
        let (name, config) = (format!("{when}, {owner:?}"), format!("{SHORT}when = \"{when}\"\n"));
        let drill = is_complete(&name, &Scenario::listing(owned_by(owner)).config(&config), 1);
        let milestones = drill.milestone_names();
        let first = |milestone: &str| milestones.iter().position(|it| it == milestone);
        assert!(first("successor-healthy") < first("deregistered"), "{name}: {milestones:?}");
    }
}

#[test]
fn whose_output_nobody_reads_any_more_ends_with_its_outcome() {
    let scenario = Scenario::listing(owned_by(Owner::Nobody));
    let before = settled(&scenario);
    let mut command = scenario.command_of("drill");
    let mut drill = command.arg("--yes").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop((drill.stdout.take(), drill.stderr.take()));
    assert_eq!(drill.wait().expect("it ends").code(), Some(0));
    assert_eq!(scenario.world_without_successors(), before);
}

#[test]
fn tells_hooks_what_it_is() {
    let config = format!("{SHORT}[hooks]\nnotice = [\"/usr/bin/env\"]\n");
    let scenario = Scenario::listing(owned_by(Owner::Nobody)).config(&config);
    settled(&scenario);
    let mut drill = scenario.drill(&["--yes"]);
    assert_eq!(drill.wait().code(), Some(0), "{}", drill.lines().join("\n"));
    drill.wait_for_line("SPOT_RELAY_SIGNAL=drill");
    assert_eq!(drill.wait_for("noticed")["signal"], "drill");
}

#[test]
fn is_refused_where_nobody_else_serves_unless_it_is_forced() {
    let scenario = Scenario::listing(Settings { others: Vec::new(), ..owned_by(Owner::LaunchTemplate) });
    let before = settled(&scenario);
    let mut drill = scenario.drill(&["--yes"]);
    assert_eq!(drill.wait().code(), Some(1));
    drill.wait_for_line("web has no other healthy target");
    assert!(scenario.writes().is_empty() && scenario.mark().is_none());
    let mut forced = scenario.drill(&["--yes", "--force"]);
    assert_eq!(forced.wait().code(), Some(0), "{}", forced.lines().join("\n"));
    as_before(&scenario, &before, &forced);
}

/// Sets the leaving tag of another instance, as its own daemon does.
fn leaves_as_well(scenario: &Scenario, id: &str) {
    let address = scenario.sim.aws_endpoint().trim_start_matches("http://").to_owned();
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let body = format!(
        "Action=CreateTags&Version=2016-11-15&ResourceId.1={id}&Tag.1.Key=spot-relay%3Aleaving&Tag.1.Value=now"
    );
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-Amz-Date: {date}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/ec2/aws4_request\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).expect("the simulator");
    stream.write_all(request.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn is_refused_where_all_others_leave_as_well() {
    let scenario = Scenario::listing(owned_by(Owner::LaunchTemplate));
    settled(&scenario);
    let others: BTreeSet<String> = scenario.sim.targets("web").into_iter().map(|(id, _, _)| id).collect();
    for other in others.iter().filter(|id| **id != scenario.sim.instance_id()) {
        leaves_as_well(&scenario, other);
    }
    let mut drill = scenario.drill(&["--yes"]);
    assert_eq!(drill.wait().code(), Some(1), "{}", drill.lines().join("\n"));
    drill.wait_for_line("web has no other healthy target");
    assert!(scenario.mark().is_none(), "nothing has begun");
}

#[test]
fn is_refused_where_the_group_could_not_take_the_instance_back_and_partial_if_forced() {
    let scenario = Scenario::listing(Settings { max_size: Some(3), ..owned_by(group(false, false)) });
    settled(&scenario);
    let mut drill = scenario.drill(&["--yes"]);
    assert_eq!(drill.wait().code(), Some(1));
    drill.wait_for_line("MaxSize 3");
    assert!(scenario.writes().is_empty());
    let mut forced = scenario.drill(&["--yes", "--force"]);
    assert_eq!(forced.wait().code(), Some(1), "{}", forced.lines().join("\n"));
    forced.wait_for_line("could not be put back everywhere");
    assert!(scenario.serves("web") && scenario.serves("api"), "it serves all the same");
}

#[test]
fn is_refused_while_a_real_notice_stands() {
    let scenario = Scenario::listing(owned_by(Owner::LaunchTemplate));
    settled(&scenario);
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let mut drill = scenario.drill(&["--yes"]);
    assert_eq!(drill.wait().code(), Some(1));
    drill.wait_for_line("a real notice stands");
    assert!(scenario.writes().is_empty());
}

#[test]
fn is_not_begun_unasked() {
    let scenario = Scenario::listing(owned_by(Owner::LaunchTemplate));
    settled(&scenario);
    let mut drill = scenario.drill(&[]);
    assert_eq!(drill.wait().code(), Some(2));
    drill.wait_for_line("with --yes it is");
    assert!(scenario.writes().is_empty());
}

#[test]
fn asks_on_a_terminal_and_takes_nothing_but_yes() {
    for (answer, code, begins) in [("y\n", 1, false), ("yes\n", 0, true)] {
        let scenario = Scenario::listing(owned_by(Owner::Nobody));
        let before = settled(&scenario);
        let command = scenario.command_of("drill");
        let program: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        // script(1) makes a terminal of its own and is gone with the program.
        let mut script = Command::new("script");
        script.args(["-qec", &program.join(" "), "/dev/null"]).env_clear().env("TERM", "dumb");
        let path = std::env::var_os("PATH").unwrap_or_default();
        script.env("PATH", path).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script runs");
        let mut stdin = script.stdin.take().expect("its input");
        stdin.write_all(answer.as_bytes()).expect("the answer is typed");
        let output = script.wait_with_output().expect("it ends");
        drop(stdin);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Hand this instance over now? Type yes in full to go on:"), "{text}");
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(text.contains("Nothing was done:"), !begins, "{text}");
        assert_eq!(scenario.writes().is_empty(), !begins, "{text}");
        let same = eventually(|| (scenario.world_without_successors() == before).then_some(()));
        assert!(same.is_some(), "{text}");
    }
}

#[test]
fn ctrl_c_at_any_stage_puts_back_what_was_done() {
    for (owner, stage) in [
        (group(false, false), "noticed"),
        (group(false, false), "successor-running"),
        (Owner::ec2_fleet(FleetType::Maintain), "deregistered"),
        (Owner::ec2_fleet(FleetType::Maintain), "successor-requested"),
        (Owner::LaunchTemplate, "left"),
        (Owner::LaunchTemplate, "survived"),
    ] {
        let mut settings = owned_by(owner);
        // A successor that is found has been running for seconds: it must not be healthy in the same moment.
        settings.timings.healthy_after = Duration::from_secs(8);
        let scenario = Scenario::listing(settings);
        let before = settled(&scenario);
        let mut drill = scenario.drill(&["--yes"]);
        drill.wait_for(stage);
        drill.signal("-INT");
        let code = drill.wait().code();
        assert_eq!(code, Some(i32::from(stage != "survived")), "{stage}: {}", drill.lines().join("\n"));
        drill.wait_for_line("the drill is called off");
        as_before(&scenario, &before, &drill);
        assert_eq!(drill.record()["closed"], "reinstated", "{stage}");
    }
}

#[test]
fn a_terminal_that_goes_away_after_ctrl_c_lets_everything_be_put_back() {
    let scenario = Scenario::listing(owned_by(group(false, false)));
    let before = settled(&scenario);
    let mut drill = scenario.drill(&["--yes"]);
    drill.wait_for("left");
    drill.signal("-INT");
    drill.wait_for_line("the drill is called off");
    drill.signal("-HUP");
    drill.signal("-HUP");
    assert_eq!(drill.wait().code(), Some(1), "{}", drill.lines().join("\n"));
    as_before(&scenario, &before, &drill);
    assert_eq!(drill.record()["closed"], "reinstated");
}

#[test]
fn a_second_signal_ends_at_once_and_the_daemon_puts_the_rest_back() {
    // Nothing becomes healthy again for a while.
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.timings.healthy_after = Duration::from_secs(8);
    let scenario = Scenario::listing(settings);
    let before = settled(&scenario);
    let mut drill = scenario.drill(&["--yes"]);
    drill.wait_for("left");
    drill.signal("-TERM");
    drill.wait_for_line("the drill is called off");
    drill.signal("-TERM");
    assert_eq!(drill.wait().code(), Some(1));
    drill.wait_for_line("ended by a second signal before everything was put back");
    let daemon = scenario.start();
    daemon.wait_for("reinstated");
    as_before(&scenario, &before, &daemon);
}

#[test]
fn a_drill_that_is_killed_is_put_back_by_the_daemon_at_once() {
    for owner in [group(false, false), Owner::ec2_fleet(FleetType::Maintain), Owner::LaunchTemplate] {
        let scenario = Scenario::listing(owned_by(owner));
        let before = settled(&scenario);
        let mut drill = scenario.drill(&["--yes"]);
        drill.wait_for("left");
        eventually(|| std::fs::exists(scenario.directory().join("state/handover.json")).ok()?.then_some(()))
            .expect("a record");
        drill.kill();
        let daemon = scenario.start();
        let survived = daemon.wait_for("survived");
        assert!(survived["message"].as_str().is_some_and(|it| it.contains("the drill has ended before")), "{survived}");
        daemon.wait_for("reinstated");
        as_before(&scenario, &before, &daemon);
    }
}

#[test]
fn a_real_notice_in_the_middle_is_handed_over_in_earnest_with_its_own_two_minutes() {
    let mut settings = owned_by(group(false, false));
    // The drill would be over before a successor serves.
    settings.timings.healthy_after = Duration::from_secs(15);
    let scenario = Scenario::listing(settings);
    settled(&scenario);
    let mut drill = scenario.drill(&["--yes", "--within", "10s"]);
    drill.wait_for("left");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let handed_over = drill.wait_for("handed-over");
    assert_eq!(handed_over["signal"], "notice", "{handed_over}");
    assert_eq!(handed_over["outcome"], "complete", "{handed_over}");
    assert!(handed_over["seconds_left"].as_f64().is_some_and(|left| left > 60.0), "{handed_over}");
    scenario.assert_handed_over(&["web", "api"], "a notice in a drill");
    assert!(!drill.has_ended(), "it is this instance's daemon to the end");
    assert!(!drill.milestone_names().contains(&"reinstated".to_owned()));
}

#[test]
fn a_deadline_that_is_too_short_makes_it_partial_and_everything_is_put_back() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.timings.running_after = Duration::from_secs(40);
    let scenario = Scenario::listing(settings);
    let before = settled(&scenario);
    let mut drill = scenario.drill(&["--yes", "--within", "10s"]);
    assert_eq!(drill.wait().code(), Some(1), "{}", drill.lines().join("\n"));
    drill.wait_for_line("handed over in part, time is up");
    drill.wait_for_line("handed over in part; everything is put back");
    as_before(&scenario, &before, &drill);
}

#[test]
fn the_daemon_and_a_drill_exclude_each_other() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.timings.running_after = Duration::from_secs(5);
    let scenario = Scenario::listing(settings);
    settled(&scenario);
    let mut daemon = scenario.ready();
    let mut refused = scenario.drill(&["--yes"]);
    assert_eq!(refused.wait().code(), Some(1));
    let line = refused.wait_for_line("the daemon works for this instance");
    assert!(line.contains(&format!("process {}", daemon.pid())) && line.contains("systemctl stop"), "{line}");
    // To look is allowed.
    assert_eq!(scenario.drill(&["--dry-run"]).wait().code(), Some(0));
    daemon.kill();
    let mut drill = scenario.drill(&["--yes"]);
    drill.wait_for("noticed");
    let mut beside = scenario.start();
    assert_eq!(beside.wait().code(), Some(1));
    beside.wait_for_line("a drill is under way");
    assert_eq!(drill.wait().code(), Some(0), "{}", drill.lines().join("\n"));
}

#[test]
fn wrong_times_are_told() {
    let scenario = Scenario::new(world());
    for wrong in ["9s", "3m", "soon", ""] {
        let mut drill = scenario.drill(&["--within", wrong]);
        assert_eq!(drill.wait().code(), Some(2), "{wrong:?}");
        drill.wait_for_line("from 10 s to 120 s");
    }
}
