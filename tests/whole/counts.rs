//! The number of calls that a start and a handover cost where nothing goes wrong: a thousand instances pay it together.

use std::collections::BTreeMap;
use std::time::Duration;

use spot_relay::core::plan::BASE_CAPACITY_TAG;
use spot_relay::sim::{FleetType, Other, Owner, Settings, TargetGroupSettings};

use crate::scenario::{AT_ONCE, SHORT, Scenario, eventually, target_group, world};

/// The group registers on the port of its members.
fn owned_by(owner: Owner) -> Settings {
    let web = TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080]) };
    Settings { owner, target_groups: vec![web], max_size: Some(9), ..world() }
}

/// The calls by action, from this one on.
fn calls(scenario: &Scenario, from: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in scenario.aws_requests().into_iter().skip(from) {
        *counts.entry(request.action).or_default() += 1;
    }
    counts
}

#[test]
fn a_start_costs_no_more_than_these() {
    let group = ["DescribeAutoScalingGroups", "DescribeLifecycleHooks"];
    let template = ["DescribeInstances", "DescribeLaunchTemplateVersions", "DescribeSpotInstanceRequests"];
    let members = ["DescribeInstances", "DescribeSpotInstanceRequests"];
    let ec2_fleet = [["DescribeFleets", "DescribeFleetInstances"], members].concat();
    let spot_fleet = [["DescribeSpotFleetRequests", "DescribeSpotFleetInstances"], members].concat();
    for (owner, of_owner) in [
        (Owner::auto_scaling_group(), group.as_slice()),
        (Owner::ec2_fleet(FleetType::Maintain), &ec2_fleet),
        (Owner::spot_fleet(FleetType::Maintain), &spot_fleet),
        (Owner::LaunchTemplate, &template),
        // Tags of an owner that the metadata does not show EC2 may.
        (Owner::Nobody, &["DescribeTags"]),
    ] {
        let scenario = Scenario::listing(owned_by(owner.clone()));
        let daemon = scenario.ready();
        let of_groups = ["DescribeTargetGroupAttributes", "DescribeTargetGroups", "DescribeTargetHealth"];
        let each_once = of_owner.iter().chain(&of_groups).map(|action| ((*action).to_owned(), 1));
        let expected: BTreeMap<String, usize> = each_once.collect();
        assert_eq!(calls(&scenario, 0), expected, "{owner:?}");
        drop(daemon);
    }
}

#[test]
fn reads_of_a_raise_that_iam_allows_are_asked_for_once_and_not_beside_a_look_at_what_a_raise_left() {
    let reads = ["DescribeFleetInstances", "DescribeInstances", "DescribeSpotInstanceRequests"];
    for note in [None, Some("3..4")] {
        let mut settings = owned_by(Owner::ec2_fleet(FleetType::Maintain));
        settings.fleet.tags = note.map(|note| (BASE_CAPACITY_TAG.to_owned(), note.to_owned())).into_iter().collect();
        let scenario = Scenario::listing(settings);
        let daemon = scenario.ready();
        assert_eq!(reads.map(|action| scenario.count(action)), [1, 1, 1], "{note:?}");
        assert_eq!(scenario.count("DeleteTags"), note.iter().len(), "{note:?} speaks of nothing");
        scenario.sim.rebalance();
        eventually(|| (scenario.count("DescribeTargetHealth") >= 2).then_some(())).expect("another round");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(reads.map(|action| scenario.count(action)), [1, 1, 1], "{note:?}, another round");
        drop(daemon);
    }
}

#[test]
fn a_read_of_a_raise_that_iam_denies_is_asked_for_again() {
    let denied = vec!["ec2:DescribeSpotInstanceRequests".to_owned()];
    let settings = Settings { denied, ..owned_by(Owner::ec2_fleet(FleetType::Maintain)) };
    let scenario = Scenario::listing(settings);
    let _daemon = scenario.ready();
    scenario.sim.rebalance();
    eventually(|| (scenario.count("DescribeSpotInstanceRequests") >= 2).then_some(())).expect("it is asked again");
    assert_eq!(scenario.count("DescribeFleetInstances"), 1);
}

/// One of twenty-six.
fn among_many(owner: Owner) -> Settings {
    let others = (0..25).map(|_| Other::new("m5.large", "eu-west-1b")).collect();
    Settings { others, max_size: Some(90), ..owned_by(owner) }
}

#[test]
fn one_of_many_that_start_together_asks_for_no_more_than_a_notice_needs() {
    for (owner, of_owner) in [
        (Owner::auto_scaling_group(), ["DescribeAutoScalingGroups"].as_slice()),
        (Owner::ec2_fleet(FleetType::Maintain), &["DescribeFleets"]),
        (
            Owner::LaunchTemplate,
            &["DescribeInstances", "DescribeLaunchTemplateVersions", "DescribeSpotInstanceRequests"],
        ),
    ] {
        let scenario = Scenario::listing(among_many(owner.clone()));
        let daemon = scenario.ready();
        let expected =
            of_owner.iter().chain(&["DescribeTargetGroups"]).map(|action| ((*action).to_owned(), 1)).collect();
        assert_eq!(calls(&scenario, 0), expected, "{owner:?}");
        let log = || daemon.lines().join("\n");
        assert!(
            log().contains("target health is asked within five minutes") || log().contains("hooks and target health"),
            "{}",
            log()
        );
        scenario.sim.notice("terminate", Duration::from_secs(120));
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{owner:?}: {}", log());
    }
}

#[test]
fn one_of_many_that_has_to_scan_asks_for_nothing_but_owner_and_registrations() {
    let scenario = Scenario::new(among_many(Owner::LaunchTemplate));
    let daemon = scenario.ready();
    let expected = [
        "DescribeInstances",
        "DescribeLaunchTemplateVersions",
        "DescribeSpotInstanceRequests",
        "DescribeTargetGroups",
        "DescribeTargetHealth",
    ];
    assert_eq!(calls(&scenario, 0), expected.map(|action| (action.to_owned(), 1)).into());
    assert!(!daemon.lines_with("deregistration delay not asked for yet").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn a_large_group_puts_off_what_nothing_depends_on_yet() {
    let scenario = Scenario::new(among_many(Owner::auto_scaling_group()));
    let daemon = scenario.ready();
    assert_eq!(scenario.count("DescribeLifecycleHooks") + scenario.count("DescribeTargetHealth"), 0);
    assert!(!daemon.lines_with("deregistration delay not asked for yet").is_empty(), "{}", daemon.lines().join("\n"));
    // Another round asks for it, and for nothing that is known.
    scenario.sim.rebalance();
    eventually(|| (scenario.count("DescribeTargetGroups") >= 2).then_some(())).expect("another round");
    assert_eq!(scenario.count("DescribeTargetGroupAttributes"), 0, "others may have been recommended to go as well");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
}

#[test]
fn hooks_that_were_put_off_are_known_before_a_large_group_is_asked() {
    let hooked = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let scenario = Scenario::new(among_many(hooked)).config(AT_ONCE);
    let daemon = scenario.ready();
    assert_eq!(scenario.count("DescribeLifecycleHooks"), 0);
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("successor-requested");
    let log = || daemon.lines().join("\n");
    assert_eq!(scenario.count("TerminateInstanceInAutoScalingGroup"), 1, "{}", log());
    assert_eq!(scenario.count("DetachInstances"), 0, "{}", log());
}

#[test]
fn a_handover_costs_these_writes_and_few_reads() {
    for (owner, config, writes) in [
        (Owner::LaunchTemplate, AT_ONCE, vec!["CreateFleet", "CreateTags", "DeregisterTargets", "RegisterTargets"]),
        (Owner::auto_scaling_group(), AT_ONCE, vec!["CreateTags", "DeregisterTargets", "DetachInstances"]),
        (
            Owner::auto_scaling_group(),
            SHORT,
            vec!["CreateTags", "DeregisterTargets", "DetachInstances", "LaunchInstances"],
        ),
        (
            Owner::ec2_fleet(FleetType::Maintain),
            AT_ONCE,
            vec!["CreateTags", "CreateTags", "CreateTags", "DeregisterTargets", "ModifyFleet", "ModifyFleet"],
        ),
    ] {
        let mut settings = owned_by(owner.clone());
        let is_fleet = matches!(owner, Owner::Ec2Fleet { .. });
        settings.target_groups[0].attached = !is_fleet;
        let scenario = Scenario::listing(settings).config(config);
        let daemon = scenario.ready();
        let before = scenario.aws_requests().len();
        scenario.sim.notice("terminate", Duration::from_secs(120));
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        let (reads, made): (Vec<_>, Vec<_>) =
            calls(&scenario, before).into_iter().partition(|(action, _)| action.starts_with("Describe"));
        let mut expected = BTreeMap::new();
        writes.into_iter().for_each(|action| *expected.entry(action.to_owned()).or_default() += 1);
        if is_fleet {
            expected.insert("RegisterTargets".to_owned(), 1);
        }
        assert_eq!(made.into_iter().collect::<BTreeMap<_, _>>(), expected, "{owner:?}");
        let count: usize = reads.iter().map(|(_, count)| count).sum();
        // A fleet that is so quick is counted once more, when all that were noticed with this instance show.
        assert!(count <= if is_fleet { 18 } else { 16 }, "{owner:?}: {reads:?}");
    }
}
