//! Instances that live on although they were to go: withdrawn, stopped and started, hibernated and resumed. After each
//! story in which one goes back, the world is as before but for the successor.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use spot_relay::sim::{FleetType, Owner, Settings, TargetGroupSettings};

use crate::scenario::{Daemon, SHORT, Scenario, eventually, target_group, world};

fn owned_by(owner: Owner) -> Settings {
    // What a group registers, it registers on the target group's own port.
    let web = TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080]) };
    let api = TargetGroupSettings { attached: false, ..target_group("api", &[61_081, 61_082]) };
    let target_groups = vec![web, api];
    Settings { owner, target_groups, max_size: Some(9), kill_at_deadline: false, ..world() }
}

fn group(termination_hook: bool, capacity_rebalance: bool) -> Owner {
    Owner::AutoScalingGroup { capacity_rebalance, termination_hook, mixed_instances: false }
}

/// Our instance serves in both groups before anything happens.
fn settled(scenario: &Scenario) -> Value {
    let healthy = || ["web", "api"].iter().all(|group| is_healthy(scenario, group));
    eventually(|| healthy().then_some(())).expect("the world is as it should be");
    scenario.world_without_successors()
}

fn is_healthy(scenario: &Scenario, group: &str) -> bool {
    let ours = scenario.sim.instance_id();
    let targets = scenario.sim.targets(group);
    let mut ours = targets.iter().filter(|(id, _, _)| *id == ours).peekable();
    ours.peek().is_some() && ours.all(|(_, _, state)| state == "healthy")
}

/// As before, within a while: the world goes on by itself.
fn as_before(scenario: &Scenario, before: &Value, daemon: &Daemon) {
    let same = eventually(|| (scenario.world_without_the_excess() == *before).then_some(()));
    assert!(
        same.is_some(),
        "{before:#}\nis now\n{:#}\n{}",
        scenario.world_without_the_excess(),
        daemon.lines().join("\n")
    );
    eventually(|| (!daemon.has_flag("notice") && !daemon.has_flag("drained")).then_some(())).expect("no flag stands");
    assert_eq!(scenario.mark(), None);
}

/// Handed over, and withdrawn before the deadline.
fn withdrawn(owner: Owner, config: &str) -> (Scenario, Daemon, Value) {
    let scenario = Scenario::listing(owned_by(owner)).config(&format!("{SHORT}{config}"));
    let before = settled(&scenario);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert!(scenario.mark().is_some(), "it is marked as one that goes");
    assert!(daemon.has_flag("notice") && daemon.has_flag("drained"));
    scenario.sim.remove_notice();
    daemon.wait_for("survived");
    (scenario, daemon, before)
}

fn check_reinstated(owner: Owner) -> Scenario {
    let (scenario, daemon, before) = withdrawn(owner, "");
    daemon.wait_for("reinstated");
    as_before(&scenario, &before, &daemon);
    assert_eq!(scenario.sim.successors().len(), 1, "the successor stays");
    eventually(|| (daemon.record()["closed"] == "reinstated").then_some(())).expect("closed");
    assert_eq!(scenario.count("TerminateInstances"), 0);
    scenario
}

#[test]
fn a_survivor_of_a_group_is_attached_and_registered_again() {
    let scenario = check_reinstated(group(false, false));
    assert_eq!(scenario.count("AttachInstances"), 1);
}

#[test]
fn a_survivor_of_a_group_with_capacity_rebalancing_never_left_it() {
    let settings = Settings { rebalance_terminates: false, ..owned_by(group(false, true)) };
    let scenario = Scenario::listing(settings);
    let before = settled(&scenario);
    let daemon = scenario.ready();
    // To the reserve it looks on for the successors of fellow victims whose mark comes late.
    scenario.sim.notice("terminate", Duration::from_secs(25));
    daemon.wait_for("handed-over");
    scenario.sim.remove_notice();
    daemon.wait_for("reinstated");
    as_before(&scenario, &before, &daemon);
    assert_eq!(scenario.count("AttachInstances"), 0);
}

#[test]
fn a_survivor_of_a_maintain_fleet_leaves_its_capacity_as_it_was() {
    check_reinstated(Owner::ec2_fleet(FleetType::Maintain));
}

#[test]
fn a_fleet_that_has_no_more_than_its_target_again_terminates_excess_capacity_again_and_has_no_tag() {
    let settings = Settings { kill_at_deadline: true, ..owned_by(Owner::ec2_fleet(FleetType::Maintain)) };
    let scenario = Scenario::listing(settings).config(SHORT);
    let before = settled(&scenario)["fleets"].clone();
    let mut daemon = scenario.hand_over();
    scenario.sim.remove_notice();
    daemon.wait_for("reinstated");
    eventually(|| (daemon.record()["closed"] == "reinstated").then_some(())).expect("closed");
    assert_ne!(
        scenario.world_without_successors()["fleets"],
        before,
        "it keeps one more than its target, and notes it"
    );
    daemon.kill();
    let successor = scenario.sim.successors().pop().expect("a successor");
    scenario.sim.notice_for(&successor, "terminate", Duration::from_secs(1));
    let state = |world: &Value| {
        let instances = world["instances"].as_array()?.iter();
        instances.filter(|it| it["id"] == successor.as_str()).find_map(|it| it["state"].as_str().map(str::to_owned))
    };
    let is_gone = || state(&scenario.sim.snapshot()).as_deref() == Some("terminated");
    eventually(|| is_gone().then_some(())).expect("the successor is taken");
    let daemon = scenario.start();
    daemon.wait_for_line("it terminates excess capacity again");
    let last = scenario.aws_requests().into_iter().rfind(|request| request.action == "ModifyFleet").expect("a change");
    assert_eq!(last.parameters["ExcessCapacityTerminationPolicy"], "termination");
    assert_eq!(scenario.world_without_successors()["fleets"], before);
}

#[test]
fn a_survivor_of_a_spot_fleet_leaves_its_capacity_as_it_was() {
    check_reinstated(Owner::spot_fleet(FleetType::Maintain));
}

#[test]
fn a_survivor_of_an_instant_fleet_is_registered_again() {
    check_reinstated(Owner::ec2_fleet(FleetType::Instant));
}

#[test]
fn a_survivor_of_a_launch_template_is_registered_again() {
    check_reinstated(Owner::LaunchTemplate);
}

#[test]
fn a_survivor_that_nobody_owns_is_registered_again() {
    let scenario = Scenario::listing(owned_by(Owner::Nobody));
    let before = settled(&scenario);
    let daemon = scenario.hand_over();
    scenario.sim.remove_notice();
    daemon.wait_for("reinstated");
    as_before(&scenario, &before, &daemon);
}

#[test]
fn a_survivor_for_which_the_group_has_no_room_says_what_is_left_running() {
    let settings = Settings { max_size: Some(3), ..owned_by(group(false, false)) };
    let scenario = Scenario::listing(settings);
    settled(&scenario);
    let daemon = scenario.hand_over();
    scenario.sim.remove_notice();
    let line = daemon.wait_for_line("cannot go back into group");
    for part in ["MaxSize 3", "costs money", "attach-instances"] {
        assert!(line.contains(part), "{part:?} in {line}");
    }
    daemon.wait_for("reinstated");
    assert!(scenario.serves("web") && scenario.serves("api"), "it serves all the same");
    assert_eq!(scenario.mark(), None);
}

#[test]
fn a_group_that_terminates_the_instance_by_its_hook_is_no_place_to_come_back_to() {
    let scenario = Scenario::listing(owned_by(group(true, false)));
    settled(&scenario);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("deregistered");
    scenario.sim.remove_notice();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!daemon.milestone_names().contains(&"reinstated".to_owned()));
    assert!(!scenario.serves("web"), "{:?}", scenario.sim.targets("web"));
}

#[test]
fn stay_out_takes_the_mark_off_and_registers_nothing() {
    let (scenario, mut daemon, _) = withdrawn(Owner::LaunchTemplate, "[survive]\nthen = \"stay-out\"\n");
    eventually(|| scenario.mark().is_none().then_some(())).expect("unmarked");
    eventually(|| (daemon.record()["closed"] == "stayed-out").then_some(())).expect("closed");
    assert!(!scenario.serves("web") && !scenario.serves("api"));
    // Nor does the process after this one, which says what it would do at another notice.
    daemon.kill();
    let again = scenario.start();
    again.wait_for_line("ready; on a notice");
    assert!(!scenario.serves("web"), "{}", again.lines().join("\n"));
}

#[test]
fn terminate_ends_an_instance_that_has_handed_over() {
    let (scenario, _daemon, _) = withdrawn(Owner::LaunchTemplate, "[survive]\nthen = \"terminate\"\n");
    eventually(|| (scenario.count("TerminateInstances") == 1).then_some(())).expect("it ends itself");
    let ours = scenario.sim.instance_id();
    let requests = scenario.aws_requests();
    let call = requests.iter().find(|request| request.action == "TerminateInstances").expect("the call");
    assert_eq!(call.parameters.get("InstanceId.1"), Some(&ours), "and nobody else");
}

#[test]
fn terminate_does_not_end_an_instance_that_has_not_handed_over() {
    let config = format!("{SHORT}when = \"at-once\"\n[survive]\nthen = \"terminate\"\n");
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.no_capacity = serde_json::from_str("[{}]").expect("every pool");
    let scenario = Scenario::listing(settings).config(&config);
    let before = settled(&scenario);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("left");
    scenario.sim.remove_notice();
    let survived = daemon.wait_for("survived");
    assert!(survived["message"].as_str().is_some_and(|it| it.contains("does not terminate itself")), "{survived}");
    daemon.wait_for("reinstated");
    as_before(&scenario, &before, &daemon);
    assert_eq!(scenario.count("TerminateInstances"), 0);
}

#[test]
fn a_notice_withdrawn_in_the_middle_is_undone() {
    for owner in [group(false, false), Owner::ec2_fleet(FleetType::Maintain), Owner::LaunchTemplate] {
        let mut settings = owned_by(owner);
        // No successor becomes healthy in this story: the handover is far from its end when four seconds have made the
        // withdrawal sure.
        settings.timings.healthy_after = Duration::from_secs(15);
        let scenario = Scenario::listing(settings);
        let before = settled(&scenario);
        let daemon = scenario.ready();
        scenario.sim.notice("terminate", Duration::from_secs(120));
        daemon.wait_for("deregistered");
        scenario.sim.remove_notice();
        daemon.wait_for("survived");
        daemon.wait_for("reinstated");
        as_before(&scenario, &before, &daemon);
        assert!(!daemon.milestone_names().contains(&"handed-over".to_owned()), "it was withdrawn before its end");
    }
}

#[test]
fn an_instance_alive_two_minutes_after_its_deadline_goes_back_though_the_notice_stands() {
    let scenario = Scenario::listing(owned_by(Owner::LaunchTemplate));
    let before = settled(&scenario);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(12));
    daemon.wait_for("handed-over");
    // AWS withdraws, and leaves the notice where it is, its time passing.
    scenario.sim.withdraw_notice();
    std::thread::sleep(Duration::from_secs(110));
    assert!(!daemon.milestone_names().contains(&"survived".to_owned()), "not before two minutes");
    let survived = daemon.wait_for("survived");
    assert!(survived["message"].as_str().is_some_and(|it| it.contains("two minutes after")), "{survived}");
    daemon.wait_for("reinstated");
    as_before(&scenario, &before, &daemon);
    std::thread::sleep(Duration::from_secs(1));
    let begun = daemon.milestone_names().iter().filter(|it| *it == "noticed").count();
    assert_eq!(begun, 1, "the notice that stands is not taken for another one");
}

#[test]
fn the_process_after_a_crash_finds_the_notice_withdrawn_and_puts_everything_back() {
    let scenario = Scenario::listing(owned_by(Owner::ec2_fleet(FleetType::Maintain)));
    let before = settled(&scenario);
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("deregistered");
    eventually(|| (scenario.count("ModifyFleet") > 0).then_some(())).expect("raised");
    daemon.kill();
    scenario.sim.remove_notice();
    let again = scenario.start();
    again.wait_for("reinstated");
    as_before(&scenario, &before, &again);
}

fn record_path(scenario: &Scenario) -> PathBuf {
    scenario.directory().join("state/handover.json")
}

/// As if the machine had booted since.
fn boot_again(scenario: &Scenario) {
    let text = std::fs::read_to_string(record_path(scenario)).expect("the record");
    let mut record: Value = serde_json::from_str(&text).expect("a record");
    record["incident"]["boot_id"] = "the boot before".into();
    std::fs::write(record_path(scenario), record.to_string()).expect("written");
}

/// Hands over by a notice that stops the instance, stops it, and boots it again. Returns the daemon of the second boot.
fn stopped_and_started_again(scenario: &Scenario) -> Daemon {
    let mut daemon = scenario.ready();
    scenario.sim.notice("stop", Duration::from_secs(15));
    daemon.wait_for("handed-over");
    daemon.record();
    daemon.kill();
    std::thread::sleep(Duration::from_secs(15));
    scenario.sim.start_again();
    boot_again(scenario);
    scenario.start()
}

#[test]
fn an_instance_that_was_stopped_and_starts_again_goes_back_once_it_is_ready() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let config = format!("{SHORT}[arrive]\nready = \"tcp://{address}\"\n");
    let settings = Settings { kill_at_deadline: true, ..owned_by(Owner::LaunchTemplate) };
    let scenario = Scenario::listing(settings).config(&config);
    let before = settled(&scenario);
    let again = stopped_and_started_again(&scenario);
    again.wait_for("survived");
    again.wait_for_line("waiting until the application is ready");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!scenario.serves("web"), "not before it is ready");
    let _listener = std::net::TcpListener::bind(address).expect("the same port");
    again.wait_for("reinstated");
    as_before(&scenario, &before, &again);
    eventually(|| (again.record()["closed"] == "reinstated").then_some(())).expect("closed");
}

#[test]
fn a_hibernated_instance_that_resumes_goes_back_with_new_connections() {
    let scenario = Scenario::listing(owned_by(Owner::LaunchTemplate));
    let before = settled(&scenario);
    let daemon = scenario.ready();
    scenario.sim.notice("hibernate", Duration::from_secs(10));
    daemon.wait_for("deregistered");
    // The process stands still as a hibernated one does: its deadline passes, its connections and tokens die.
    daemon.signal("-STOP");
    std::thread::sleep(Duration::from_secs(13));
    scenario.sim.withdraw_notice();
    scenario.sim.expire_tokens();
    daemon.signal("-CONT");
    daemon.wait_for_line("stood still");
    let survived = daemon.wait_for("survived");
    assert!(survived["message"].as_str().is_some_and(|it| it.contains("resumed")), "{survived}");
    daemon.wait_for("reinstated");
    as_before(&scenario, &before, &daemon);
}

#[test]
fn a_record_baked_into_an_image_reinstates_nobody() {
    let scenario = Scenario::listing(owned_by(Owner::LaunchTemplate));
    let mut daemon = scenario.hand_over();
    daemon.record();
    daemon.kill();
    let text = std::fs::read_to_string(record_path(&scenario)).expect("the record");
    let ours = scenario.sim.instance_id();
    std::fs::write(record_path(&scenario), text.replace(&ours, "i-0baked")).expect("written");
    scenario.sim.remove_notice();
    let again = scenario.start();
    again.wait_for_line("is of instance i-0baked, and ignored");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!scenario.serves("web"), "{}", again.lines().join("\n"));
}

#[test]
fn a_registration_in_an_ip_group_comes_back_under_the_address() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.target_groups = vec![
        target_group("web", &[61_080]),
        TargetGroupSettings {
            kind: spot_relay::sim::TargetType::Ip,
            // Behind an Application Load Balancer AWS takes a draining address back only after it.
            deregistration_delay: Duration::from_secs(8),
            ..target_group("api", &[61_081])
        },
    ];
    let scenario = Scenario::listing(settings);
    let targets = |scenario: &Scenario| {
        let mut targets = scenario.sim.targets("api");
        let successors = scenario.sim.snapshot();
        let of = |one: &Value| one["first"] == false;
        let new: Vec<String> = successors["instances"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|one| of(one))
            .filter_map(|one| one["private_ip"].as_str().map(str::to_owned))
            .collect();
        targets.retain(|(id, _, _)| !new.contains(id));
        targets.sort();
        targets
    };
    eventually(|| targets(&scenario).iter().all(|(_, _, state)| state == "healthy").then_some(())).expect("settled");
    let before = targets(&scenario);
    let daemon = scenario.hand_over();
    scenario.sim.remove_notice();
    daemon.wait_for_line("waiting until api has drained this instance's address");
    daemon.wait_for("reinstated");
    eventually(|| (targets(&scenario) == before).then_some(())).expect("as before");
}

#[test]
fn one_whose_spot_request_starts_it_again_is_alone_in_its_place_and_does_not_end_itself() {
    let settings = Settings { kill_at_deadline: true, persistent_request: true, ..owned_by(Owner::LaunchTemplate) };
    let config = format!("{SHORT}when = \"at-once\"\n[survive]\nthen = \"terminate\"\n");
    let scenario = Scenario::listing(settings).config(&config);
    let before = settled(&scenario);
    let again = stopped_and_started_again(&scenario);
    again.wait_for("reinstated");
    as_before(&scenario, &before, &again);
    assert_eq!((scenario.count("CreateFleet"), scenario.count("TerminateInstances")), (0, 0));
    assert_eq!(scenario.sim.successors(), Vec::<String>::new(), "the request starts this instance, and no other");
}
