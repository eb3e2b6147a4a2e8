//! Fleets with several victims, and what AWS may make of a fleet meanwhile.

use std::time::Duration;

use serde_json::Value;
use spot_relay::sim::{Fault, FaultKind, FleetSettings, FleetType, Nth, Other, Owner, Settings, TargetUnit};

use crate::scenario::{SHORT, Scenario, target_group, world};

const TARGET_PORT: u16 = 61_081;

fn owned_by(owner: Owner) -> Settings {
    let mut web = target_group("web", &[TARGET_PORT]);
    web.attached = false;
    Settings { owner, target_groups: vec![web], ..world() }
}

fn maintain() -> Owner {
    Owner::ec2_fleet(FleetType::Maintain)
}

fn fellows(scenario: &Scenario) -> Vec<String> {
    let ours = scenario.sim.instance_id();
    let targets = scenario.sim.targets("web").into_iter().map(|(id, _, _)| id);
    targets.filter(|id| *id != ours).collect()
}

fn fleet(scenario: &Scenario) -> Value {
    scenario.sim.snapshot()["fleets"][0].clone()
}

/// Every one is registered on our port and healthy.
fn assert_all_serve(scenario: &Scenario, count: usize) {
    let (successors, targets) = (scenario.sim.successors(), scenario.sim.targets("web"));
    assert_eq!(successors.len(), count, "{:?}", scenario.writes());
    for successor in successors {
        let serves =
            |(id, port, state): &(String, u16, String)| *id == successor && *port == TARGET_PORT && state == "healthy";
        assert!(targets.iter().any(serves), "{successor} serves: {targets:?}");
    }
}

#[test]
fn every_victim_s_successor_is_registered_whoever_sees_it() {
    for owner in [maintain(), Owner::spot_fleet(FleetType::Maintain)] {
        let scenario = Scenario::new(owned_by(owner));
        let daemon = scenario.ready();
        // This one runs no daemon: its request alone tells that it goes.
        scenario.sim.notice_for(&fellows(&scenario)[0], "terminate", Duration::from_secs(120));
        scenario.sim.notice("terminate", Duration::from_secs(120));
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        assert_all_serve(&scenario, 2);
        assert_eq!(fleet(&scenario)["target"], 3);
    }
}

#[test]
fn a_group_that_rebalances_has_the_successors_of_all_its_victims_registered_where_it_does_not() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: true, termination_hook: false, mixed_instances: false };
    let scenario = Scenario::new(Settings { rebalance_terminates: false, max_size: Some(9), ..owned_by(owner) });
    let daemon = scenario.ready();
    // To the reserve it looks on for the successors of fellow victims whose mark comes late.
    scenario.sim.notice("terminate", Duration::from_secs(25));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_all_serve(&scenario, 1);
}

#[test]
fn a_fleet_that_replaces_at_the_notice_is_not_raised() {
    let scenario = Scenario::new(Settings { replaces_at_notice: true, ..owned_by(maintain()) });
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(scenario.count("ModifyFleet"), 0, "{:?}", scenario.writes());
    assert_all_serve(&scenario, 1);
}

#[test]
fn a_change_that_does_not_show_yet_is_not_taken_for_put_back() {
    for owner in [maintain(), Owner::spot_fleet(FleetType::Maintain)] {
        let mut settings = owned_by(owner);
        settings.timings.modifying_for = Duration::from_secs(4);
        let scenario = Scenario::new(settings);
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        assert_eq!(fleet(&scenario)["target"], 3, "{:?}", scenario.writes());
        assert_all_serve(&scenario, 1);
    }
}

#[test]
fn a_notice_that_leaves_no_time_raises_nothing() {
    let scenario = Scenario::new(owned_by(maintain()));
    // A daemon that starts late: one that watched would not believe such a date.
    scenario.sim.notice("terminate", Duration::from_secs(7));
    let daemon = scenario.start();
    daemon.wait_for("handed-over");
    assert_eq!(scenario.count("ModifyFleet"), 0, "{:?}", scenario.writes());
    assert_eq!(fleet(&scenario)["target"], 3);
    assert!(!daemon.lines_with("not done: capacity of ").is_empty(), "{}", daemon.lines().join("\n"));
    assert!(!daemon.lines_with("too little time is left").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn a_fleet_that_has_ended_owns_nothing_and_the_template_launches_the_successor() {
    for (owner, state) in [
        (maintain(), "deleted_running"),
        (maintain(), "failed"),
        (Owner::spot_fleet(FleetType::Maintain), "cancelled_running"),
        (Owner::spot_fleet(FleetType::Maintain), "failed"),
    ] {
        let scenario = Scenario::listing(owned_by(owner));
        scenario.sim.fleet_ends(state);
        let daemon = scenario.ready();
        assert!(!daemon.lines_with(&format!("is {state} and launches nothing any more")).is_empty(), "{state}");
        scenario.sim.notice("terminate", Duration::from_secs(120));
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        scenario.assert_writes(&["CreateFleet", "DeregisterTargets", "RegisterTargets"]);
        scenario.assert_handed_over(&["web"], state);
    }
}

#[test]
fn what_a_raise_needs_and_iam_denies_is_told_at_the_start_and_at_the_end() {
    for (denied, is_raised) in [("DescribeSpotInstanceRequests", true), ("DescribeFleetInstances", false)] {
        let settings = Settings { denied: vec![format!("ec2:{denied}")], ..owned_by(maintain()) };
        let scenario = Scenario::new(settings);
        let daemon = scenario.ready();
        let told = daemon.lines_with(&format!("ec2:{denied} is denied for"));
        assert_eq!(told.len(), 1, "{}", daemon.lines().join("\n"));
        scenario.sim.notice("terminate", Duration::from_secs(if is_raised { 120 } else { 15 }));
        daemon.wait_for("handed-over");
        assert_eq!(daemon.is_complete(), is_raised, "{}", daemon.lines().join("\n"));
        assert_eq!(scenario.sim.successors().len(), usize::from(is_raised));
        let reason =
            if is_raised { "by their tags alone" } else { "not raised: failed, last with UnauthorizedOperation" };
        let outcome = daemon.record().to_string();
        assert!(outcome.contains(reason), "{outcome}");
    }
}

/// Three members of 8 GiB and 16 GiB of memory, ours one of 8 GiB.
fn counting_memory(owner: Owner) -> Settings {
    let others = vec![Other::new("m5.large", "eu-west-1b"), Other::new("m5.xlarge", "eu-west-1c")];
    let fleet = FleetSettings { unit: TargetUnit::MemoryMib, ..FleetSettings::default() };
    Settings { others, fleet, ..owned_by(owner) }
}

/// The totals that were written, in order.
fn totals(scenario: &Scenario) -> Vec<i64> {
    let written = |name: &str| {
        let requests = scenario.aws_requests().into_iter();
        requests.filter_map(|it| it.parameters.get(name)?.parse().ok()).collect::<Vec<i64>>()
    };
    [written("TargetCapacitySpecification.TotalTargetCapacity"), written("TargetCapacity")].concat()
}

#[test]
fn a_fleet_that_counts_memory_is_raised_by_the_memory_of_those_that_go() {
    for owner in [maintain(), Owner::spot_fleet(FleetType::Maintain)] {
        let scenario = Scenario::new(counting_memory(owner));
        let daemon = scenario.ready();
        let asked = scenario.count("DescribeInstanceTypes");
        assert_eq!(asked, 1, "before any notice");
        // This one runs no daemon, and has as much memory as two.
        let world = scenario.sim.snapshot();
        let large = world["instances"].as_array().into_iter().flatten().find(|one| one["type"] == "m5.xlarge");
        let large = large.and_then(|one| one["id"].as_str()).expect("a large one").to_owned();
        scenario.sim.notice_for(&large, "terminate", Duration::from_secs(120));
        scenario.sim.notice("terminate", Duration::from_secs(120));
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        assert_eq!(totals(&scenario), [32_768 + 8_192 + 16_384, 32_768], "{:?}", scenario.writes());
        assert_all_serve(&scenario, 3);
        assert_eq!(fleet(&scenario)["target"], 32_768);
        assert_eq!(scenario.count("DescribeInstanceTypes"), asked, "all types were known");
    }
}

#[test]
fn a_type_that_is_new_at_the_notice_is_asked_for_then_and_once() {
    let scenario = Scenario::new(counting_memory(maintain()));
    // A daemon that starts under a notice knows nothing.
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let daemon = scenario.start();
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(totals(&scenario), [32_768 + 8_192, 32_768], "{:?}", scenario.writes());
    // A look-up and the first count may ask in the same moment.
    assert!(scenario.count("DescribeInstanceTypes") <= 2, "{:?}", scenario.writes());
}

#[test]
fn memory_that_iam_does_not_let_it_read_is_told_at_the_start_and_the_fleet_is_raised_by_what_is_known() {
    let settings = Settings { denied: vec!["ec2:DescribeInstanceTypes".to_owned()], ..counting_memory(maintain()) };
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    let told = daemon.lines_with("ec2:DescribeInstanceTypes is denied for");
    assert_eq!(told.len(), 1, "{}", daemon.lines().join("\n"));
    let asked = scenario.count("DescribeInstanceTypes");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(totals(&scenario), [32_768 + 1, 32_768], "{:?}", scenario.writes());
    assert_eq!(scenario.count("DescribeInstanceTypes"), asked, "IAM has answered");
}

#[test]
fn memory_that_aws_does_not_answer_about_is_waited_for_once() {
    let scenario = Scenario::new(counting_memory(maintain()));
    let action = "DescribeInstanceTypes".to_owned();
    scenario.sim.fault(Fault { service: None, action, nth: Nth::All, kind: FaultKind::Hang });
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let daemon = scenario.start();
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(totals(&scenario), [32_768 + 1, 32_768], "{:?}", scenario.writes());
    // A look-up and the first count may ask in the same moment.
    assert!(scenario.count("DescribeInstanceTypes") <= 2, "{:?}", scenario.writes());
}

/// Ours of weight 2, another of weight 2 and one of weight 4.
fn of_launch_specifications(type_: FleetType) -> Settings {
    let weights = [("m5.large", "2"), ("m5.xlarge", "4")].map(|(name, weight)| (name.to_owned(), weight.to_owned()));
    let fleet = FleetSettings { launch_specifications: true, weights: weights.into(), ..FleetSettings::default() };
    let others = vec![Other::new("m5.large", "eu-west-1b"), Other::new("m5.xlarge", "eu-west-1c")];
    Settings { fleet, others, ..owned_by(Owner::spot_fleet(type_)) }
}

#[test]
fn a_spot_fleet_of_launch_specifications_is_raised_by_their_weights() {
    let scenario = Scenario::new(of_launch_specifications(FleetType::Maintain));
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(totals(&scenario), [10, 8], "{:?}", scenario.writes());
    assert_all_serve(&scenario, 1);
}

#[test]
fn from_launch_specifications_nobody_else_can_launch_and_the_start_says_so_and_what_helps() {
    let scenario = Scenario::new(of_launch_specifications(FleetType::Request));
    let daemon = scenario.hand_over();
    let told = daemon.lines_with("of type request replaces nothing and launches from launch specifications");
    assert!(told.iter().any(|line| line.contains("name a launch template under [successor]")), "{told:?}");
    assert_eq!(scenario.writes(), ["DeregisterTargets"]);
    assert!(scenario.sim.successors().is_empty());

    let config = format!("{SHORT}[successor]\nlaunch-template = \"web\"\n");
    let scenario = Scenario::new(of_launch_specifications(FleetType::Request)).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_writes(&["CreateFleet", "DeregisterTargets", "RegisterTargets"]);
    assert_all_serve(&scenario, 1);
}
