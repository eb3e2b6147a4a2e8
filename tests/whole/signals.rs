//! Every signal but the notice alone, the pairs of them, and how an instance comes into service by itself.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use spot_relay::sim::{FleetType, Owner, Settings};

use crate::scenario::{Daemon, SHORT, Scenario, drained_soon, eventually, listen, target_group, world};

pub(crate) fn owned_by(owner: Owner) -> Settings {
    Settings { owner, max_size: Some(9), ..world() }
}

fn group(termination_hook: bool) -> Owner {
    Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook, mixed_instances: false }
}

const HAND_OVER: &str =
    "[watch]\ninterval = \"100ms\"\nrebalance = \"hand-over\"\n[leave]\nsettle = \"200ms\"\nquiet-for = \"200ms\"\n";

fn count(daemon: &Daemon, milestone: &str) -> usize {
    daemon.milestone_names().iter().filter(|name| *name == milestone).count()
}

#[test]
fn a_recommendation_is_a_milestone_and_changes_nothing() {
    let scenario = Scenario::new(owned_by(group(false)));
    let daemon = scenario.ready();
    let before = scenario.world_without_successors();
    scenario.sim.rebalance();
    let line = daemon.wait_for("recommended");
    assert_eq!(line["instance_id"].as_str(), Some(scenario.sim.instance_id().as_str()));
    std::thread::sleep(Duration::from_secs(2));
    scenario.sim.end_rebalance();
    std::thread::sleep(Duration::from_secs(2));
    assert!(scenario.writes().is_empty() && scenario.mark().is_none());
    assert_eq!(scenario.world_without_successors(), before);
    assert_eq!(count(&daemon, "recommended"), 1);
}

/// The successor is launched and healthy before this instance leaves; the recommendation stands.
fn check_successor_first(owner: Owner) -> (Scenario, Daemon) {
    let settings = Settings { kill_at_deadline: false, ..owned_by(owner) };
    let scenario = Scenario::new(settings).config(HAND_OVER);
    let daemon = scenario.ready();
    scenario.sim.rebalance();
    daemon.wait_for("recommended");
    daemon.wait_for("handed-over");
    let names = daemon.milestone_names();
    let place = |name: &str| names.iter().position(|it| it == name).unwrap_or_else(|| panic!("{name} in {names:?}"));
    assert!(place("successor-healthy") < place("deregistered"), "{names:?}");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], "by recommendation");
    (scenario, daemon)
}

#[test]
fn a_recommendation_launches_into_the_group_first_and_leaves_it_smaller_by_one() {
    let (scenario, _daemon) = check_successor_first(group(false));
    scenario.assert_writes(&["LaunchInstances", "DeregisterTargets", "DetachInstances"]);
    let detach = scenario.aws_requests().into_iter().find(|request| request.action == "DetachInstances");
    let decrement = detach.and_then(|it| it.parameters.get("ShouldDecrementDesiredCapacity").cloned());
    assert_eq!(decrement.as_deref(), Some("true"));
}

#[test]
fn a_recommendation_raises_a_maintain_fleet_first() {
    let (scenario, _daemon) = check_successor_first(Owner::ec2_fleet(FleetType::Maintain));
    let world = scenario.sim.snapshot();
    assert_eq!(world["fleets"][0]["target"], 3, "back at its base");
}

#[test]
fn a_recommendation_launches_from_the_template_first() {
    check_successor_first(Owner::LaunchTemplate);
}

#[test]
fn a_notice_after_a_handover_by_recommendation_launches_no_second_successor() {
    let (scenario, daemon) = check_successor_first(Owner::LaunchTemplate);
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("noticed");
    eventually(|| (scenario.count("DeregisterTargets") == 2).then_some(())).expect("all is gone through once more");
    eventually(|| (daemon.status()["state"] == "handed-over").then_some(())).expect("to its end");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(count(&daemon, "handed-over"), 1, "one interruption is handed over once: {}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], "after the notice");
    assert_eq!(scenario.sim.successors().len(), 1);
}

#[test]
fn a_notice_in_the_middle_of_a_handover_by_recommendation_goes_on_with_it() {
    for (owner, launches) in [(group(false), "LaunchInstances"), (Owner::LaunchTemplate, "CreateFleet")] {
        let mut settings = owned_by(owner);
        settings.timings.healthy_after = Duration::from_secs(4);
        let scenario = Scenario::new(settings).config(&format!("{HAND_OVER}when = \"at-once\"\n"));
        let daemon = scenario.ready();
        scenario.sim.rebalance();
        daemon.wait_for("successor-requested");
        assert!(scenario.serves("web"), "it serves on");
        scenario.sim.notice("terminate", Duration::from_secs(60));
        daemon.wait_for("noticed");
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        scenario.assert_handed_over(&["web"], launches);
        assert_eq!(scenario.count(launches), 1);
        let names = daemon.milestone_names();
        let place = |name: &str| names.iter().position(|it| it == name).expect("a milestone");
        assert!(place("deregistered") < place("successor-healthy"), "the notice is not waited out: {names:?}");
        assert_eq!(daemon.record()["signal"], "notice");
    }
}

#[test]
fn a_recommendation_without_a_successor_leaves_the_instance_in_service() {
    // Nobody who could, and a group that is full.
    for owner in [Owner::Nobody, group(false)] {
        let settings = Settings { max_size: Some(3), kill_at_deadline: false, ..owned_by(owner) };
        let scenario = Scenario::new(settings).config(HAND_OVER);
        let daemon = scenario.ready();
        let before = scenario.world_without_successors();
        scenario.sim.rebalance();
        let line = daemon.wait_for("handed-over");
        assert!(line["message"].as_str().is_some_and(|it| it.contains("stays in service")), "{line}");
        daemon.wait_for("survived");
        eventually(|| (scenario.world_without_successors() == before).then_some(())).expect("nothing is left behind");
        assert!(!scenario.writes().contains(&"DeregisterTargets".to_owned()), "{:?}", scenario.writes());
        // Once a boot.
        scenario.sim.end_rebalance();
        std::thread::sleep(Duration::from_secs(6));
        scenario.sim.rebalance();
        daemon.wait_for_line("once a boot");
        assert_eq!(count(&daemon, "handed-over"), 1);
    }
}

#[test]
fn a_recommendation_that_is_withdrawn_after_its_handover_is_undone() {
    let settings = Settings { kill_at_deadline: false, ..owned_by(Owner::LaunchTemplate) };
    let scenario = Scenario::new(settings).config(HAND_OVER);
    let daemon = scenario.ready();
    let healthy = || scenario.sim.targets("web").iter().all(|(_, _, state)| state == "healthy");
    eventually(|| healthy().then_some(())).expect("settled");
    let before = scenario.world_without_successors();
    scenario.sim.rebalance();
    daemon.wait_for("handed-over");
    scenario.sim.end_rebalance();
    daemon.wait_for("reinstated");
    eventually(|| (scenario.world_without_successors() == before).then_some(())).expect("as before");
}

#[test]
fn a_group_that_scales_in_is_left_its_hook_completed_and_nobody_asked_for_a_successor() {
    for termination_hook in [true, false] {
        let mut settings = drained_soon(owned_by(group(termination_hook)));
        settings.timings.terminates_after = Duration::from_secs(30);
        let scenario = Scenario::new(settings);
        let daemon = scenario.ready();
        scenario.sim.scale_in();
        let noticed = daemon.wait_for("noticed");
        assert_eq!(noticed["signal"], "lifecycle-state");
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        let mut expected = vec!["DeregisterTargets"];
        expected.extend(termination_hook.then_some("CompleteLifecycleAction"));
        assert_eq!(scenario.writes(), expected);
        assert!(scenario.sim.successors().is_empty());
        assert_eq!(scenario.mark(), None, "a group's own doing needs no mark");
    }
}

#[test]
fn lifecycle_false_leaves_the_group_to_itself() {
    let mut settings = owned_by(group(true));
    settings.timings.terminates_after = Duration::from_secs(30);
    let scenario = Scenario::new(settings).config("[watch]\ninterval = \"100ms\"\nlifecycle = false\n");
    let daemon = scenario.ready();
    scenario.sim.scale_in();
    std::thread::sleep(Duration::from_secs(2));
    assert!(scenario.writes().is_empty() && daemon.milestones().is_empty());
}

#[test]
fn a_notice_and_a_group_that_terminates_are_one_handover_in_either_order() {
    for notice_first in [true, false] {
        let mut settings = drained_soon(owned_by(group(true)));
        settings.timings.terminates_after = Duration::from_secs(60);
        settings.rebalance_terminates = false;
        settings.owner =
            Owner::AutoScalingGroup { capacity_rebalance: true, termination_hook: true, mixed_instances: false };
        let scenario = Scenario::new(settings);
        let daemon = scenario.ready();
        if notice_first {
            scenario.sim.notice("terminate", Duration::from_secs(120));
            daemon.wait_for("noticed");
            scenario.sim.scale_in();
        } else {
            scenario.sim.scale_in();
            daemon.wait_for("noticed");
            scenario.sim.notice("terminate", Duration::from_secs(120));
        }
        daemon.wait_for("handed-over");
        eventually(|| (scenario.count("CompleteLifecycleAction") == 1).then_some(()))
            .unwrap_or_else(|| panic!("the hook is completed, once:\n{}", daemon.lines().join("\n")));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!scenario.serves("web"));
        assert!(scenario.count("TerminateInstanceInAutoScalingGroup") == 0 && scenario.count("DetachInstances") == 0);
        assert!(scenario.sim.successors().len() <= 1, "{:?}", scenario.sim.successors());
    }
}

fn event(code: &str, state: &str, in_seconds: i64) -> String {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(in_seconds);
    let time = time.strftime("%-d %b %Y %H:%M:%S GMT");
    format!(
        r#"[{{"Code": "{code}", "State": "{state}", "EventId": "instance-event-0a", "NotBefore": "{time}",
             "NotAfter": "", "Description": "scheduled"}}]"#
    )
}

#[test]
fn a_scheduled_event_is_reported_once_and_again_when_it_is_off() {
    let scenario = Scenario::new(owned_by(group(false)));
    scenario.sim.scheduled_events(&event("system-reboot", "active", 3600));
    let daemon = scenario.ready();
    let line = daemon.wait_for_line("has scheduled system-reboot");
    assert!(line.contains("instance-event-0a") && line.contains("WARN"), "{line}");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(daemon.lines_with("has scheduled").len(), 1);
    scenario.sim.scheduled_events(&event("system-reboot", "canceled", 3600));
    daemon.wait_for_line("has ended or was cancelled");
    assert!(scenario.writes().is_empty());
}

const EVENTS: &str = "[watch]\ninterval = \"100ms\"\nscheduled-events = \"hand-over\"\n[leave]\nsettle = \"200ms\"\nquiet-for = \"200ms\"\n";

#[test]
fn a_scheduled_event_that_is_near_is_handed_over_for_and_undone_when_it_is_cancelled() {
    let settings = Settings { kill_at_deadline: false, ..owned_by(Owner::LaunchTemplate) };
    let scenario = Scenario::new(settings).config(EVENTS);
    let daemon = scenario.ready();
    let healthy = || scenario.sim.targets("web").iter().all(|(_, _, state)| state == "healthy");
    eventually(|| healthy().then_some(())).expect("settled");
    let before = scenario.world_without_successors();
    scenario.sim.scheduled_events(&event("instance-retirement", "active", 300));
    let noticed = daemon.wait_for("noticed");
    assert_eq!(noticed["signal"], "scheduled-event");
    let left = noticed["seconds_left"].as_f64().expect("a deadline");
    assert!((200.0..=300.0).contains(&left), "{left}");
    daemon.wait_for("handed-over");
    let names = daemon.milestone_names();
    let place = |name: &str| names.iter().position(|it| it == name).expect("a milestone");
    assert!(place("successor-healthy") < place("deregistered"), "there is time: {names:?}");
    scenario.assert_handed_over(&["web"], "before the event");
    scenario.sim.scheduled_events(&event("instance-retirement", "canceled", 300));
    daemon.wait_for("reinstated");
    eventually(|| (scenario.world_without_successors() == before).then_some(())).expect("as before");
}

#[test]
fn a_scheduled_event_that_is_far_is_waited_for() {
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(EVENTS);
    scenario.sim.scheduled_events(&event("system-maintenance", "active", 3600));
    let daemon = scenario.ready();
    daemon.wait_for_line("hands over shortly before");
    std::thread::sleep(Duration::from_secs(2));
    assert!(scenario.writes().is_empty() && scenario.serves("web"));
}

/// An application that answers one status to everything.
fn application(status: &'static str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/healthz", listener.local_addr().expect("its address"));
    let sockets = listener.try_clone().expect("a listener");
    std::thread::spawn(move || {
        for mut stream in sockets.incoming().map_while(Result::ok) {
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked);
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (listener, url)
}

fn arriving(ready: &str) -> Scenario {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.target_groups = vec![target_group("web", &[]), target_group("api", &[])];
    settings.target_groups[1].port = 61_090;
    // The application's: a port on which nobody listens is not known to be quiet.
    [61_080, 61_090].into_iter().for_each(listen);
    let config =
        format!("target-groups = [\"web:61080\", \"api\"]\n{SHORT}[arrive]\nregister = true\nready = \"{ready}\"\n");
    Scenario::new(settings).config(&config)
}

#[test]
fn an_instance_registers_itself_once_the_application_is_ready() {
    let (_application, url) = application("200 OK");
    let scenario = arriving(&url);
    let daemon = scenario.start();
    daemon.wait_for("arrived");
    let ours = scenario.sim.instance_id();
    let of = |group: &str| {
        let targets = scenario.sim.targets(group).into_iter().filter(|(id, _, _)| *id == ours);
        targets.map(|(_, port, state)| (port, state)).collect::<Vec<_>>()
    };
    assert_eq!(of("web"), [(61_080, "healthy".to_owned())], "the port that is listed");
    assert_eq!(of("api"), [(61_090, "healthy".to_owned())], "the group's own port");
    // And a notice takes it out again.
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    assert!(!scenario.serves("web") && !scenario.serves("api"));
}

#[test]
fn an_application_that_is_not_ready_is_asked_every_second_and_nothing_is_registered() {
    let (_application, url) = application("503 Service Unavailable");
    let scenario = arriving(&url);
    let daemon = scenario.start();
    let line = daemon.wait_for_line("waiting until the application is ready");
    assert!(line.contains("HTTP 503"), "{line}");
    std::thread::sleep(Duration::from_secs(3));
    assert!(scenario.writes().is_empty());
    assert_eq!(daemon.lines_with("waiting until").len(), 1, "said once");
}

#[test]
fn nothing_arrives_while_a_notice_stands() {
    let scenario = arriving("");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let daemon = scenario.start();
    daemon.wait_for("noticed");
    std::thread::sleep(Duration::from_secs(2));
    // The groups that are named count as left by a process before, and a successor is registered in them.
    let ours = scenario.sim.instance_id();
    let holds = |group: &str| scenario.sim.targets(group).iter().any(|(id, _, _)| *id == ours);
    assert!(!holds("web") && !holds("api"), "{:?}", scenario.writes());
}

#[test]
fn a_notice_in_the_middle_of_an_arrival_leaves_what_was_registered() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.target_groups = vec![target_group("web", &[])];
    settings.timings.healthy_after = Duration::from_secs(30);
    let config = format!("target-groups = [\"web:61080\"]\n{SHORT}[arrive]\nregister = true\n");
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.start();
    eventually(|| scenario.serves("web").then_some(())).expect("registered");
    scenario.sim.notice("terminate", Duration::from_secs(60));
    daemon.wait_for("deregistered");
    daemon.wait_for("left");
    assert!(!scenario.serves("web"));
    assert_eq!(count(&daemon, "arrived"), 0);
}

#[test]
fn an_arrival_is_the_same_at_every_start() {
    let scenario = arriving("");
    let mut daemon = scenario.start();
    daemon.wait_for("arrived");
    let before = scenario.world_without_successors();
    daemon.kill();
    let again = scenario.start();
    again.wait_for("arrived");
    assert_eq!(scenario.world_without_successors(), before);
}

#[test]
fn a_successor_registers_itself_though_its_predecessor_died_before_it_could() {
    // The predecessor: killed as soon as its successor is launched.
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.target_groups[0].ports = vec![61_080];
    let scenario = Scenario::new(settings);
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("successor-requested");
    daemon.kill();
    let successor = eventually(|| scenario.sim.successors().pop()).expect("a successor");
    let config = format!("target-groups = [\"web:61080\"]\n{SHORT}[arrive]\nregister = true\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let metadata = runtime.block_on(scenario.sim.metadata_for(&successor)).expect("its metadata");
    let its = Scenario::of(&scenario.sim, metadata).config(&config);
    let its_daemon = its.start();
    its_daemon.wait_for("arrived");
    let healthy = |(id, port, state): &(String, u16, String)| *id == successor && *port == 61_080 && state == "healthy";
    assert!(scenario.sim.targets("web").iter().any(healthy), "{:?}", scenario.sim.targets("web"));
}

#[test]
fn hooks_are_told_everything_and_hold_nothing_up() {
    let directory = std::env::temp_dir().join(format!("spot-relay-hooks-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let script =
        |name: &str| format!("[\"/bin/sh\", \"-c\", \"env > {}/{name}; echo told {name}\"]", directory.display());
    let config = format!("{SHORT}[hooks]\nnotice = {}\ndrained = {}\n", script("notice"), script("drained"));
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    daemon.wait_for_line("told notice");
    daemon.wait_for_line("told drained");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("the hook ran");
    let variable = |text: &str, name: &str| {
        let prefix = format!("SPOT_RELAY_{name}=");
        let line =
            text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.to_owned()
    };
    let (notice, drained) = (read("notice"), read("drained"));
    let ours = scenario.sim.instance_id();
    for (name, value) in [
        ("SIGNAL", "notice"),
        ("ACTION", "terminate"),
        ("INSTANCE_ID", ours.as_str()),
        ("INSTANCE_TYPE", "m5.large"),
        ("AVAILABILITY_ZONE", "eu-west-1a"),
        ("REGION", "eu-west-1"),
        ("OWNER", "launch-template"),
        ("SUCCESSOR_ID", ""),
        ("OUTCOME", "partial"),
    ] {
        assert_eq!(variable(&notice, name), value, "{name}");
    }
    assert!(variable(&notice, "OWNER_ID").starts_with("lt-"));
    assert!(variable(&notice, "TARGET_GROUPS").contains(":targetgroup/web/"));
    assert!(variable(&notice, "DEADLINE").parse::<jiff::Timestamp>().is_ok());
    let left: u64 = variable(&drained, "SECONDS_LEFT").parse().expect("seconds");
    assert!((60..=120).contains(&left), "{left}");
    assert_eq!(variable(&drained, "SUCCESSOR_ID"), scenario.sim.successors()[0]);
    let _ = std::fs::remove_dir_all(&directory);
}

#[test]
fn a_hook_that_fails_or_hangs_is_told_and_delays_nothing_else() {
    let config = format!(
        "{SHORT}[hooks]\nnotice = [\"/bin/sh\", \"-c\", \"exit 3\"]\ndrained = [\"/bin/sleep\", \"600\"]\ntimeout = \"2s\"\n"
    );
    let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(&config);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let outcome = daemon.wait_for("handed-over");
    assert_eq!(outcome["outcome"], "partial");
    let message = outcome["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("hook notice") && message.contains("status 3"), "{message}");
    assert!(message.contains("hook drained") && message.contains("2.0 s"), "{message}");
    assert!(
        outcome["seconds_left"].as_f64().is_some_and(|left| left > 90.0),
        "the deadline is not waited for: {outcome}"
    );
    scenario.assert_handed_over(&["web"], "all the same");
}

#[test]
fn a_termination_hook_waits_for_the_command_that_drains() {
    let marker = std::env::temp_dir().join(format!("spot-relay-drained-{}", std::process::id()));
    let config = format!("{SHORT}[hooks]\ndrained = [\"/bin/sh\", \"-c\", \"sleep 2; touch {}\"]\n", marker.display());
    let scenario = Scenario::new(drained_soon(owned_by(group(true)))).config(&config);
    let seen = marker.clone();
    let order = std::sync::Arc::new(std::sync::Mutex::new(None));
    let sink = order.clone();
    scenario.sim.on_request(move |request, _| {
        if request.action == "CompleteLifecycleAction" {
            sink.lock().expect("a lock").get_or_insert(seen.exists());
        }
    });
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    assert_eq!(*order.lock().expect("a lock"), Some(true), "completed after the command");
    let _ = std::fs::remove_file(marker);
}
