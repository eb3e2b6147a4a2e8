//! The main job with every owner: out of the target groups, one successor, seen in service.

use std::time::Duration;

use serde_json::Value;
use spot_relay::sim::{Fault, FaultKind, FleetType, Nth, Owner, Pool, Settings, TargetGroupSettings, TargetType};

use crate::scenario::{SHORT, Scenario, drained_soon, eventually, target_group, world};

const TARGET_PORT: u16 = 61_080;

fn owned_by(owner: Owner) -> Settings {
    Settings { owner, target_groups: vec![target_group("web", &[TARGET_PORT])], ..world() }
}

fn instant() -> Owner {
    Owner::ec2_fleet(FleetType::Instant)
}

const WHOLE: [&str; 9] = [
    "noticed",
    "deregistered",
    "left",
    "quiet",
    "successor-requested",
    "successor-running",
    "successor-registered",
    "successor-healthy",
    "handed-over",
];

/// Hands over and checks everything that holds for each owner that launches a successor.
fn check(owner: Owner, expected_writes: &[&str]) -> Scenario {
    let scenario = Scenario::new(owned_by(owner));
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let milestones = daemon.milestone_names();
    for milestone in WHOLE {
        assert!(milestones.contains(&milestone.to_owned()), "{milestone} in {milestones:?}");
    }
    scenario.assert_writes(expected_writes);
    scenario.assert_handed_over(&["web"], "complete");
    let successor = scenario.sim.successors().remove(0);
    let serves =
        |(id, port, state): &(String, u16, String)| *id == successor && *port == TARGET_PORT && state == "healthy";
    let targets = scenario.sim.targets("web");
    assert!(targets.iter().any(serves), "the successor {successor} serves on our port: {targets:?}");
    scenario
}

/// The defaults but for their times.
#[test]
fn by_default_the_successor_is_healthy_before_this_instance_leaves() {
    let observed = Owner::Ec2Fleet { type_: FleetType::Maintain, replacement_strategy: Some("launch".to_owned()) };
    for owner in [
        Owner::LaunchTemplate,
        instant(),
        Owner::ec2_fleet(FleetType::Maintain),
        Owner::spot_fleet(FleetType::Maintain),
        observed,
        Owner::auto_scaling_group(),
    ] {
        let mut settings = owned_by(owner.clone());
        settings.target_groups[0].port = TARGET_PORT;
        let scenario = Scenario::new(settings).config(SHORT);
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        let names = daemon.milestone_names();
        let place = |name: &str| names.iter().position(|it| it == name).expect("a milestone");
        assert!(place("successor-healthy") < place("deregistered"), "{owner:?}: {names:?}");
        scenario.assert_handed_over(&["web"], "the successor first");
    }
}

#[test]
fn by_default_a_group_that_is_denied_a_launch_is_left_at_once_and_nobody_to_launch_means_at_once() {
    let denied =
        Settings { denied: vec!["autoscaling:LaunchInstances".to_owned()], ..owned_by(Owner::auto_scaling_group()) };
    for settings in [denied, owned_by(Owner::Nobody)] {
        let owner = settings.owner.clone();
        let scenario = Scenario::new(settings).config(SHORT);
        let daemon = scenario.ready();
        scenario.sim.notice("terminate", Duration::from_secs(120));
        let (noticed, left) = (daemon.wait_for("noticed"), daemon.wait_for("deregistered"));
        let seconds_left = |milestone: &Value| milestone["seconds_left"].as_f64().expect("seconds");
        assert!(seconds_left(&noticed) - seconds_left(&left) < 5.0, "{owner:?}: {noticed} {left}");
    }
}

/// "A call may return an empty page with a token": <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html>
#[test]
fn listings_whose_first_page_is_empty_are_read_on() {
    for owner in [
        Owner::LaunchTemplate,
        Owner::ec2_fleet(FleetType::Maintain),
        Owner::spot_fleet(FleetType::Maintain),
        Owner::auto_scaling_group(),
    ] {
        let mut settings = Settings { tags_in_metadata: false, ..owned_by(owner.clone()) };
        settings.target_groups[0].port = TARGET_PORT;
        settings.first_pages_are_empty = true;
        let scenario = Scenario::new(settings).config(SHORT);
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{owner:?}: {}", daemon.lines().join("\n"));
        scenario.assert_handed_over(&["web"], "read on");
    }
}

#[test]
fn an_auto_scaling_group_is_left_by_detaching() {
    // The group registers on its own group's port.
    let mut settings = owned_by(Owner::auto_scaling_group());
    settings.target_groups[0].port = TARGET_PORT;
    let scenario = Scenario::new(settings);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(daemon.milestone_names().last().map(String::as_str), Some("handed-over"));
    scenario.assert_writes(&["DeregisterTargets", "DetachInstances"]);
    scenario.assert_handed_over(&["web"], "detached");
    let detach = scenario.aws_requests().into_iter().find(|request| request.action == "DetachInstances");
    assert_eq!(detach.expect("a detach").parameters["ShouldDecrementDesiredCapacity"], "false");
}

#[test]
fn a_termination_hook_runs_and_is_completed_once_quiet() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let mut settings = drained_soon(owned_by(owner));
    settings.target_groups[0].port = TARGET_PORT;
    let scenario = Scenario::new(settings);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_writes(&["DeregisterTargets", "TerminateInstanceInAutoScalingGroup", "CompleteLifecycleAction"]);
    scenario.assert_handed_over(&["web"], "terminated");
}

#[test]
fn capacity_rebalancing_is_observed_and_not_asked() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: true, termination_hook: false, mixed_instances: false };
    let mut settings = owned_by(owner);
    settings.target_groups[0].port = TARGET_PORT;
    settings.rebalance_terminates = false;
    let scenario = Scenario::new(settings);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(scenario.writes(), ["DeregisterTargets"]);
    scenario.assert_handed_over(&["web"], "observed");
}

#[test]
fn a_maintain_ec2_fleet_is_raised_and_put_back_and_its_successor_registered() {
    let scenario = check(
        Owner::ec2_fleet(FleetType::Maintain),
        &["DeregisterTargets", "CreateTags", "ModifyFleet", "ModifyFleet", "CreateTags", "RegisterTargets"],
    );
    let put_back = scenario.aws_requests().into_iter().rfind(|request| request.action == "ModifyFleet");
    let put_back = put_back.expect("put back").parameters;
    assert_eq!(put_back["ExcessCapacityTerminationPolicy"], "no-termination");
    assert_eq!(put_back["TargetCapacitySpecification.TotalTargetCapacity"], "3");
}

#[test]
fn a_maintain_spot_fleet_is_raised_and_put_back() {
    let mut settings = owned_by(Owner::spot_fleet(FleetType::Maintain));
    settings.target_groups[0].attached = false;
    let scenario = Scenario::new(settings);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let modify = "ModifySpotFleetRequest";
    scenario.assert_writes(&["DeregisterTargets", "CreateTags", modify, modify, "CreateTags", "RegisterTargets"]);
    scenario.assert_handed_over(&["web"], "raised");
}

#[test]
fn a_spot_fleet_that_registers_by_itself_is_left_to_it() {
    let mut settings = owned_by(Owner::spot_fleet(FleetType::Maintain));
    settings.target_groups[0].port = TARGET_PORT;
    let scenario = Scenario::new(settings);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(scenario.count("RegisterTargets"), 0);
    scenario.assert_handed_over(&["web"], "raised");
}

#[test]
fn a_fleet_with_a_replacement_strategy_is_observed_and_its_successor_registered() {
    let owner = Owner::Ec2Fleet { type_: FleetType::Maintain, replacement_strategy: Some("launch".to_owned()) };
    let scenario = Scenario::new(owned_by(owner));
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_writes(&["DeregisterTargets", "RegisterTargets"]);
    scenario.assert_handed_over(&["web"], "observed");
}

#[test]
fn fleets_that_do_not_replace_get_an_instant_fleet_with_their_own_configurations() {
    for owner in [instant(), Owner::ec2_fleet(FleetType::Request), Owner::spot_fleet(FleetType::Request)] {
        let mut settings = owned_by(owner);
        settings.target_groups[0].attached = false;
        let scenario = Scenario::new(settings);
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        scenario.assert_writes(&["CreateFleet", "DeregisterTargets", "RegisterTargets"]);
        scenario.assert_handed_over(&["web"], "instant fleet");
    }
}

#[test]
fn a_launch_template_launches_the_successor_with_the_tag_of_its_predecessor() {
    let scenario = check(Owner::LaunchTemplate, &["DeregisterTargets", "CreateFleet", "RegisterTargets"]);
    let create = scenario.aws_requests().into_iter().find(|request| request.action == "CreateFleet");
    let create = create.expect("a fleet").parameters;
    assert_eq!(create["Type"], "instant");
    assert_eq!(create["TargetCapacitySpecification.TotalTargetCapacity"], "1");
    assert_eq!(create["SpotOptions.AllocationStrategy"], "price-capacity-optimized");
    assert!(create["ClientToken"].len() <= 64);
    let ours = scenario.sim.instance_id();
    assert!(create.values().any(|value| *value == ours), "tagged with its predecessor: {create:?}");
}

#[test]
fn nobody_is_said_at_start_and_at_the_end_and_the_instance_drains_all_the_same() {
    let scenario = Scenario::new(owned_by(Owner::Nobody));
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    for said in ["launch no successor", "find out who launches a successor", "successor: nobody launches one"] {
        assert!(!daemon.lines_with(said).is_empty(), "{said}: {}", daemon.lines().join("\n"));
    }
    assert_eq!(scenario.writes(), ["DeregisterTargets"]);
    assert!(!scenario.serves("web"));
    assert!(scenario.sim.successors().is_empty());
}

#[test]
fn every_port_of_every_group_goes_in_one_call_a_group_once_the_owner_is_asked_and_each_group_is_looked_at() {
    let by_address =
        TargetGroupSettings { kind: TargetType::Ip, attached: false, ..target_group("by-address", &[61_083]) };
    let settings = Settings {
        target_groups: vec![target_group("web", &[61_080]), target_group("api", &[61_081, 61_082]), by_address],
        ..world()
    };
    let scenario = Scenario::listing(settings);
    let daemon = scenario.hand_over();
    for group in ["web", "api", "by-address"] {
        assert!(!scenario.serves(group), "{group}");
    }
    let requests = scenario.aws_requests();
    let asked = requests.iter().position(|request| request.action == "DetachInstances").expect("the owner is asked");
    let first = requests.iter().position(|request| request.action == "DeregisterTargets").expect("deregistrations");
    let looks = requests[..first].iter().rev().take_while(|request| !request.action.starts_with("DescribeTargetGroup"));
    let looks = looks.filter(|request| request.action == "DescribeTargetHealth").count();
    assert!(asked < first && looks >= 3, "{:?}", scenario.writes());
    assert_eq!(scenario.count("DeregisterTargets"), 3);
    let ports =
        |request: &spot_relay::sim::Request| request.parameters.keys().filter(|key| key.ends_with(".Port")).count();
    let mut named: Vec<usize> =
        requests.iter().filter(|request| request.action == "DeregisterTargets").map(ports).collect();
    named.sort_unstable();
    assert_eq!(named, [1, 1, 2]);
    drop(daemon);
}

#[test]
fn only_the_listed_target_groups_are_asked() {
    let settings =
        Settings { target_groups: vec![target_group("web", &[61_080]), target_group("api", &[61_081])], ..world() };
    let scenario = Scenario::new(settings);
    let config = format!("target-groups = [\"api\"]\n{}", crate::scenario::SHORT);
    let scenario = scenario.config(&config);
    let daemon = scenario.hand_over();
    assert!(!scenario.serves("api"));
    assert_eq!(scenario.count("DeregisterTargets"), 1);
    let web = scenario.sim.snapshot().to_string();
    assert!(web.contains("web"));
    let asked_for_web = scenario.aws_requests().into_iter().any(|request| {
        request.action == "DescribeTargetHealth" && request.parameters["TargetGroupArn"].contains("/web/")
    });
    assert!(!asked_for_web);
    drop(daemon);
}

#[test]
fn a_listed_target_group_that_is_not_there_is_named() {
    let config = format!("target-groups = [\"web\", \"wbe\"]\n{}", crate::scenario::SHORT);
    let scenario = Scenario::new(owned_by(Owner::Nobody)).config(&config);
    let daemon = scenario.start();
    daemon.wait_for_line("names wbe, and there is no such target group");
    scenario.sim.notice("terminate", Duration::from_secs(12));
    daemon.wait_for("handed-over");
    assert!(!scenario.serves("web"), "the other one is left all the same");
    assert!(!daemon.is_complete(), "a name that nobody knows leaves the handover incomplete");
    assert!(!daemon.lines_with("not done: leave wbe").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn the_zone_with_the_fewest_members_gets_the_successor_and_not_the_reclaimed_pool() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.others = vec![
        spot_relay::sim::Other::new("m5.large", "eu-west-1b"),
        spot_relay::sim::Other::new("m5.large", "eu-west-1b"),
        spot_relay::sim::Other::new("m5.large", "eu-west-1c"),
    ];
    let subnets = subnets_by_zone(&settings);
    let list: Vec<String> = subnets.iter().map(|subnet| format!("\"{subnet}\"")).collect();
    let config = format!("{}[successor]\nsubnets = [{}]\n", crate::scenario::SHORT, list.join(", "));
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.hand_over();
    let running = daemon.wait_for("successor-running");
    assert!(running["message"].as_str().is_some_and(|text| text.contains("eu-west-1c")), "{running}");
}

#[test]
fn without_capacity_the_other_zones_and_then_on_demand_are_tried_each_under_its_own_token() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.no_capacity = vec![Pool {
        instance_type: "*".to_owned(),
        zone: "*".to_owned(),
        life_cycle: Some(spot_relay::sim::LifeCycle::Spot),
    }];
    let subnets = subnets_by_zone(&settings);
    let list: Vec<String> = subnets.iter().map(|subnet| format!("\"{subnet}\"")).collect();
    let config =
        format!("{}[successor]\non-demand-fallback = true\nsubnets = [{}]\n", crate::scenario::SHORT, list.join(", "));
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let tokens: Vec<String> = scenario
        .aws_requests()
        .into_iter()
        .filter(|request| request.action == "CreateFleet")
        .map(|request| request.parameters["ClientToken"].clone())
        .collect();
    assert!(tokens.len() >= 3, "{tokens:?}");
    let distinct: std::collections::BTreeSet<&String> = tokens.iter().collect();
    assert_eq!(distinct.len(), tokens.len());
    scenario.assert_handed_over(&["web"], "on demand");
}

/// The subnets of the world's three zones, as a throw-away world of the same settings tells.
fn subnets_by_zone(settings: &Settings) -> Vec<String> {
    let scenario = Scenario::new(settings.clone());
    let snapshot = scenario.sim.snapshot().to_string();
    let mut subnets: Vec<String> =
        snapshot.split('"').filter(|part| part.starts_with("subnet-")).map(str::to_owned).collect();
    subnets.sort();
    subnets.dedup();
    assert!(subnets.len() >= 3, "{snapshot}");
    subnets
}

#[test]
fn a_successor_that_dies_is_replaced_by_the_next_attempt() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.timings.running_after = Duration::from_secs(2);
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    let first = eventually(|| scenario.sim.successors().into_iter().next()).expect("a first successor");
    scenario.sim.notice_for(&first, "terminate", Duration::from_millis(100));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(scenario.sim.successors().len(), 2);
    let healthy = daemon.wait_for("successor-healthy");
    assert_ne!(healthy["successor_id"], first.as_str());
}

#[test]
fn serving_on_launches_into_the_group_and_leaves_when_the_successor_is_healthy() {
    let mut settings = owned_by(Owner::auto_scaling_group());
    settings.target_groups[0].port = TARGET_PORT;
    settings.max_size = Some(9);
    let config = format!("{}when = \"successor-healthy\"\n", crate::scenario::SHORT);
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_writes(&["LaunchInstances", "DeregisterTargets", "DetachInstances"]);
    let detach = scenario.aws_requests().into_iter().find(|request| request.action == "DetachInstances");
    assert_eq!(detach.expect("a detach").parameters["ShouldDecrementDesiredCapacity"], "true");
    let milestones = daemon.milestone_names();
    let place = |name: &str| milestones.iter().position(|milestone| milestone == name);
    assert!(place("successor-healthy") < place("deregistered"), "{milestones:?}");
    scenario.assert_handed_over(&["web"], "served on");
}

#[test]
fn a_group_at_its_maximum_is_left_at_once() {
    let mut settings = owned_by(Owner::auto_scaling_group());
    settings.target_groups[0].port = TARGET_PORT;
    settings.max_size = Some(3);
    let config = format!("{}when = \"successor-healthy\"\n", crate::scenario::SHORT);
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let writes = scenario.writes();
    assert_eq!(writes.iter().filter(|action| *action == "DetachInstances").count(), 1);
    let detach = scenario.aws_requests().into_iter().find(|request| request.action == "DetachInstances");
    assert_eq!(detach.expect("a detach").parameters["ShouldDecrementDesiredCapacity"], "false");
    scenario.assert_handed_over(&["web"], "fell back");
}

#[test]
fn two_victims_of_one_fleet_end_at_its_base_with_a_successor_each() {
    let mut settings = owned_by(Owner::ec2_fleet(FleetType::Maintain));
    settings.timings.launch_after = Duration::from_secs(1);
    let scenario = Scenario::new(settings);
    let second = scenario.sim.snapshot()["instances"]
        .as_array()
        .and_then(|instances| {
            instances.iter().filter_map(|it| it["id"].as_str()).find(|id| *id != scenario.sim.instance_id())
        })
        .expect("a fellow")
        .to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let metadata = runtime.block_on(scenario.sim.metadata_for(&second)).expect("its metadata");
    let other = Scenario::of(&scenario.sim, metadata);
    // The second metadata is served by this test's own runtime.
    let _serving = std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    let (ours, theirs) = (scenario.ready(), other.ready());
    scenario.sim.notice("terminate", Duration::from_secs(30));
    scenario.sim.notice_for(&second, "terminate", Duration::from_secs(30));
    ours.wait_for("handed-over");
    theirs.wait_for("handed-over");
    assert!(ours.is_complete(), "{}", ours.lines().join("\n"));
    assert!(theirs.is_complete(), "{}", theirs.lines().join("\n"));
    std::thread::sleep(Duration::from_secs(35).saturating_sub(Duration::from_secs(3)));
    assert_eq!(scenario.sim.successors().len(), 2, "a successor each, also after both have gone");
    let fleet = &scenario.sim.snapshot()["fleets"][0];
    assert!(fleet.to_string().contains("3"), "{fleet}");
}

/// Every action a handover calls stands on the page of permissions, as `service:Action`.
#[test]
fn the_page_of_permissions_names_every_action_that_is_called() {
    let permissions = crate::documents::page("permissions.md");
    let hooked = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    for owner in [
        Owner::auto_scaling_group(),
        hooked,
        Owner::ec2_fleet(FleetType::Maintain),
        Owner::ec2_fleet(FleetType::Instant),
        Owner::spot_fleet(FleetType::Maintain),
        Owner::spot_fleet(FleetType::Request),
        Owner::LaunchTemplate,
        Owner::Nobody,
    ] {
        let mut settings = drained_soon(owned_by(owner));
        settings.tags_in_metadata = false;
        settings.heartbeat_timeout = Duration::from_secs(2);
        let scenario = Scenario::new(settings);
        let _daemon = scenario.hand_over();
        for request in scenario.aws_requests() {
            let action = format!("`{}:{}`", request.service, request.action);
            assert!(permissions.contains(&action), "{action}");
        }
    }
}

#[test]
fn heartbeats_keep_the_hook_waiting_while_requests_are_open() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let mut settings = drained_soon(owned_by(owner));
    settings.target_groups[0].port = TARGET_PORT;
    settings.heartbeat_timeout = Duration::from_secs(2);
    let config = "[watch]\ninterval = \"100ms\"\n[leave]\nsettle = \"5s\"\nquiet-for = \"5s\"\n";
    let scenario = Scenario::new(settings).config(config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert!(scenario.count("RecordLifecycleActionHeartbeat") >= 3, "{:?}", scenario.writes());
    assert_eq!(scenario.writes().last().map(String::as_str), Some("CompleteLifecycleAction"));
    scenario.assert_handed_over(&["web"], "kept waiting");
}

#[test]
fn nine_noticed_together_get_nine_successors_though_aws_throttles() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    settings.others = (0..8).map(|_| spot_relay::sim::Other::new("m5.large", "eu-west-1b")).collect();
    settings.rates = Some(spot_relay::sim::Rates::default());
    let world = Scenario::new(settings);
    let instances = world.sim.snapshot();
    let ids: Vec<String> = instances["instances"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|instance| instance["id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), 9);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let victims: Vec<Scenario> = ids
        .iter()
        .map(|id| Scenario::of(&world.sim, runtime.block_on(world.sim.metadata_for(id)).expect("its metadata")))
        .collect();
    // Their metadata is served by this test's own runtime.
    let _serving = std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    let daemons: Vec<_> = victims.iter().map(Scenario::ready).collect();
    for id in &ids {
        world.sim.notice_for(id, "terminate", Duration::from_secs(110));
    }
    for daemon in &daemons {
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    }
    assert_eq!(world.sim.successors().len(), 9);
    let serving = world.sim.targets("web").into_iter().filter(|(_, _, state)| state == "healthy").count();
    assert_eq!(serving, 9, "{:?}", world.sim.targets("web"));
}

/// Another metadata service than AWS's may know some paths alone, and answer the others with any status.
#[test]
fn a_metadata_service_that_refuses_the_path_of_the_lifecycle_state_costs_no_successor() {
    for status in [400, 403, 500] {
        let scenario = Scenario::new(owned_by(Owner::LaunchTemplate)).config(SHORT);
        let (code, message) = ("Refused".to_owned(), "no".to_owned());
        let action = "autoscaling/target-lifecycle-state".to_owned();
        let kind = FaultKind::Status { status, code, message };
        scenario.sim.fault(Fault { service: None, action, nth: Nth::All, kind });
        let daemon = scenario.start();
        daemon.wait_for_line("owner: launch template");
        scenario.sim.notice("terminate", Duration::from_secs(30));
        assert!(daemon.is_complete(), "{status}: {}", daemon.lines().join("\n"));
        assert_eq!(scenario.sim.successors().len(), 1, "{status}");
    }
}
