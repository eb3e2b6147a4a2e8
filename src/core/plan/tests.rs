use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::core::config::{BalanceZones, TemplateChoice};
use crate::core::handover::tests::{identity_of, member as member_of_group};
use crate::core::model::{CapacityUnit, InstanceRequirements, InstantFleet};
use crate::core::model::{
    ExcessCapacity, FleetCapacity, FleetMember, FleetState, Instance, InstanceId, InstanceState, LaunchOverride,
    LifeCycle, LifecycleHook, Market,
};

fn identity() -> Identity {
    identity_of("i-us")
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

const TEMPLATE: (&str, &str) = ("aws:ec2launchtemplate:id", "lt-1");
const VERSION: (&str, &str) = ("aws:ec2launchtemplate:version", "7");

fn lt(id: &str, version: &str) -> Clue {
    Clue::LaunchTemplate(LaunchTemplate { id_or_name: id.into(), version: version.into() })
}

fn clue(pairs: &[(&str, &str)]) -> Clue {
    Clue::read(&tags(pairs), None, &Successor::default())
}

#[test]
fn the_tags_tell_the_owner_and_the_nearest_one_wins() {
    let group = ("aws:autoscaling:groupName", "shop-asg");
    assert_eq!(clue(&[group, TEMPLATE, VERSION]), Clue::AutoScalingGroup("shop-asg".into()));
    assert_eq!(clue(&[("aws:ec2:fleet-id", "fleet-1"), TEMPLATE]), Clue::Ec2Fleet("fleet-1".into()));
    assert_eq!(clue(&[("aws:ec2spot:fleet-request-id", "sfr-1"), TEMPLATE]), Clue::SpotFleet("sfr-1".into()));
    assert_eq!(clue(&[TEMPLATE, VERSION]), lt("lt-1", "7"));
    assert!(matches!(clue(&[("Name", "web")]), Clue::Nobody(_)));
}

#[test]
fn a_detached_member_has_no_owner_though_its_template_tag_remains() {
    for shown in ["Detached", "InService"] {
        let clue = Clue::read(&tags(&[TEMPLATE, VERSION]), Some(shown), &Successor::default());
        assert!(matches!(clue, Clue::Nobody(why) if why.contains("detached")), "{shown}");
    }
}

#[test]
fn a_successor_of_ours_has_the_owner_of_its_predecessor() {
    let ours = (PREDECESSOR_TAG, "i-before");
    let instant = ("aws:ec2:fleet-id", "fleet-of-one");
    assert_eq!(clue(&[ours, instant, TEMPLATE, VERSION]), lt("lt-1", "7"));
    assert_eq!(clue(&[ours, instant, (ORIGIN_FLEET_TAG, "fleet-9"), TEMPLATE]), Clue::Ec2Fleet("fleet-9".into()));
    assert_eq!(clue(&[ours, instant, (ORIGIN_FLEET_TAG, "sfr-9"), TEMPLATE]), Clue::SpotFleet("sfr-9".into()));
}

#[test]
fn the_configuration_chooses_the_owner_and_the_template() {
    let choose = |owner, launch_template| Successor { owner, launch_template, ..Successor::default() };
    let read = |choice: &Successor| Clue::read(&tags(&[("aws:ec2:fleet-id", "fleet-1"), TEMPLATE]), None, choice);
    assert!(matches!(read(&choose(OwnerChoice::None, None)), Clue::Nobody(_)));
    assert!(matches!(read(&choose(OwnerChoice::AutoScalingGroup, None)), Clue::Nobody(why) if why.contains("group")));
    let template = TemplateChoice { id_or_name: "web".into(), version: None };
    assert_eq!(read(&choose(OwnerChoice::LaunchTemplate, Some(template))), lt("web", "$Default"));
    assert_eq!(read(&choose(OwnerChoice::LaunchTemplate, None)), lt("lt-1", "$Default"));
}

fn group(capacity_rebalance: bool, hooks: usize) -> AutoScalingGroup {
    let hook = LifecycleHook { name: "drain".into(), heartbeat_timeout: std::time::Duration::from_secs(60) };
    AutoScalingGroup {
        name: "shop-asg".into(),
        capacity_rebalance,
        termination_hooks: vec![hook; hooks],
        max_size: 3,
        desired_capacity: 3,
        health_check_type: "EC2".into(),
        ..AutoScalingGroup::default()
    }
}

fn fleet(request_type: FleetType, replacement_strategy: Option<&str>) -> Fleet {
    Fleet {
        id: "fleet-1".into(),
        state: FleetState::Active,
        excess: ExcessCapacity::Terminates,
        request_type,
        replacement_strategy: replacement_strategy.map(str::to_owned),
        capacity: FleetCapacity { total: 4, spot: None, fulfilled: 4 },
        launch_configurations: vec![configuration(&[("m5.large", "eu-west-1a"), ("m5.large", "eu-west-1b")])],
        unit: Default::default(),
        specification_weights: BTreeMap::new(),
        target_groups: Vec::new(),
        tags: BTreeMap::new(),
    }
}

fn configuration(pools: &[(&str, &str)]) -> LaunchConfiguration {
    let pool = |(instance_type, zone): &(&str, &str)| LaunchOverride {
        instance_type: Some((*instance_type).to_owned()),
        availability_zone: Some((*zone).to_owned()),
        weight_hundredths: Some(50),
        ..LaunchOverride::default()
    };
    LaunchConfiguration {
        template: LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() },
        overrides: pools.iter().map(pool).collect(),
    }
}

fn plan(owner: &Owner) -> Plan {
    Plan::of(owner, &identity(), &Successor::default(), &Surroundings::default())
}

#[test]
fn an_owner_that_replaces_by_itself_is_never_asked() {
    let of = |capacity_rebalance, hooks| plan(&Owner::AutoScalingGroup(group(capacity_rebalance, hooks)));
    assert!(matches!(of(true, 1), Plan::Group { how: GroupRequest::Observe, .. }));
    assert!(matches!(of(false, 1), Plan::Group { how: GroupRequest::Terminate, .. }));
    assert!(matches!(of(false, 0), Plan::Group { how: GroupRequest::Detach, .. }));
    let maintained = |strategy| plan(&Owner::Ec2Fleet(fleet(FleetType::Maintain, strategy)));
    assert!(matches!(maintained(Some("launch")), Plan::Fleet { how: FleetRequest::Observe, .. }));
    assert!(matches!(maintained(None), Plan::Fleet { how: FleetRequest::Raise, .. }));
}

#[test]
fn a_fleet_that_does_not_replace_gets_an_instant_one_with_its_pools_and_its_name() {
    for request_type in [FleetType::Request, FleetType::Instant] {
        let Plan::Launch(launch) = plan(&Owner::SpotFleet(fleet(request_type, None))) else { panic!("a launch plan") };
        let first = &launch.attempts[0];
        assert_eq!(zones(first), ["eu-west-1b"]);
        assert_eq!(first.tags[ORIGIN_FLEET_TAG], "fleet-1");
        assert_eq!(first.tags[PREDECESSOR_TAG], "i-us");
        assert!(first.launch_configurations[0].overrides.iter().all(|pool| pool.weight_hundredths.is_none()));
    }
    let without_templates = Fleet { launch_configurations: Vec::new(), ..fleet(FleetType::Request, None) };
    assert!(matches!(plan(&Owner::SpotFleet(without_templates)), Plan::Nobody { .. }));
}

fn zones(attempt: &InstantFleet) -> Vec<String> {
    let pools = attempt.launch_configurations.iter().flat_map(|configuration| &configuration.overrides);
    pools.filter_map(|pool| pool.availability_zone.clone()).collect()
}

fn three_zones() -> Surroundings {
    Surroundings {
        zone_of_subnet: tags(&[("s-a", "eu-west-1a"), ("s-b", "eu-west-1b"), ("s-c", "eu-west-1c")]),
        running_by_zone: [("eu-west-1a", 0), ("eu-west-1b", 5), ("eu-west-1c", 2)]
            .map(|(z, n)| (z.to_owned(), n))
            .into(),
        ..Surroundings::default()
    }
}

fn template_attempts(choice: &Successor, surroundings: &Surroundings) -> Vec<InstantFleet> {
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    match Plan::of(&owner, &identity(), choice, surroundings) {
        Plan::Launch(launch) => launch.attempts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_zone_with_the_fewest_members_comes_first_and_the_reclaimed_pool_last() {
    let attempts = template_attempts(&Successor::default(), &three_zones());
    let tried: Vec<Vec<String>> = attempts.iter().map(zones).collect();
    let all = vec!["eu-west-1a", "eu-west-1b", "eu-west-1c"];
    assert_eq!(tried, [vec!["eu-west-1c"], vec!["eu-west-1b", "eu-west-1c"], all]);
    assert!(attempts.iter().all(|attempt| attempt.market == Market::Spot));
}

#[test]
fn on_demand_comes_last_and_only_if_allowed() {
    let choice = Successor { on_demand_fallback: true, ..Successor::default() };
    let attempts = template_attempts(&choice, &three_zones());
    assert_eq!(attempts.len(), 4);
    assert_eq!(attempts.last().map(|attempt| attempt.market), Some(Market::OnDemand));
}

#[test]
fn without_balance_all_other_pools_come_first() {
    let choice = Successor { balance_zones: BalanceZones(false), ..Successor::default() };
    let attempts = template_attempts(&choice, &three_zones());
    assert_eq!(zones(&attempts[0]), ["eu-west-1b", "eu-west-1c"]);
}

#[test]
fn another_type_in_the_same_zone_is_another_pool() {
    let choice = Successor { instance_types: vec!["m5.large".into(), "m6i.large".into()], ..Successor::default() };
    let one_zone = Surroundings { zone_of_subnet: tags(&[("s-a", "eu-west-1a")]), ..Surroundings::default() };
    let attempts = template_attempts(&choice, &one_zone);
    let types = |attempt: &InstantFleet| {
        let pools = attempt.launch_configurations[0].overrides.iter();
        pools.filter_map(|pool| pool.instance_type.clone()).collect::<Vec<_>>()
    };
    assert_eq!(types(&attempts[0]), ["m6i.large"]);
    assert_eq!(types(&attempts[1]), ["m5.large", "m6i.large"]);
}

#[test]
fn an_override_without_a_type_lends_its_weight_where_it_is_the_only_one() {
    let weight = |pools: &[(Option<&str>, u32)]| {
        let pool = |(instance_type, weight): &(Option<&str>, u32)| LaunchOverride {
            instance_type: instance_type.map(str::to_owned),
            weight_hundredths: Some(*weight),
            ..LaunchOverride::default()
        };
        let template = LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() };
        let overrides = pools.iter().map(pool).collect();
        let launch_configurations = vec![LaunchConfiguration { template, overrides }];
        raised::weight_hundredths(&Fleet { launch_configurations, ..fleet(FleetType::Maintain, None) }, "m5.large")
    };
    assert_eq!(weight(&[(None, 400)]), 400);
    assert_eq!(weight(&[(None, 400), (None, 200)]), 100, "nobody knows which");
    assert_eq!(weight(&[(None, 400), (Some("m5.large"), 200)]), 200);
    assert_eq!(weight(&[(Some("c5.large"), 400)]), 100);
}

#[test]
fn a_spot_part_is_one_only_beside_the_other_part() {
    assert_eq!(FleetCapacity::spot_part(10, Some(0), Some(0)), None, "the default type decides");
    assert_eq!(FleetCapacity::spot_part(10, Some(7), Some(3)), Some(7));
    assert_eq!(FleetCapacity::spot_part(10, Some(10), None), Some(10));
    assert_eq!(FleetCapacity::spot_part(10, Some(0), Some(10)), Some(0));
    assert_eq!(FleetCapacity::spot_part(10, None, None), None);
}

#[test]
fn a_subnet_of_unknown_zone_stays_a_pool_and_one_that_is_gone_spoils_no_other() {
    let subnets = |around: &Surroundings| -> Vec<Vec<(Option<String>, Option<String>)>> {
        let attempts = template_attempts(&Successor::default(), around).into_iter();
        let pools = attempts.map(|attempt| attempt.launch_configurations.into_iter().flat_map(|it| it.overrides));
        pools.map(|pools| pools.map(|pool| (pool.subnet_id, pool.instance_type)).collect()).collect()
    };
    let pool = |subnet: &str| vec![(Some(subnet.to_owned()), Some("m5.large".to_owned()))];
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let denied = Surroundings { subnets_without_zone: named(&["s-1", "s-2"]), ..Surroundings::default() };
    assert_eq!(subnets(&denied), [pool("s-1"), pool("s-2")], "in turn: they may lie in one zone");
    let good = tags(&[("s-b", "eu-west-1b")]);
    let one_gone =
        Surroundings { zone_of_subnet: good, unknown_subnets: named(&["s-gone"]), ..Surroundings::default() };
    assert_eq!(subnets(&one_gone), [pool("s-b")]);
    let all_gone = Surroundings { unknown_subnets: named(&["s-gone"]), ..Surroundings::default() };
    assert_eq!(subnets(&all_gone), [pool("s-gone")], "nowhere else, without a word");
    let template = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let plan = Plan::of(&template, &identity(), &Successor::default(), &one_gone);
    assert!(plan.remarks().iter().any(|remark| remark.contains("AWS knows no s-gone")), "{:?}", plan.remarks());
}

#[test]
fn the_only_pool_is_tried_though_it_is_being_reclaimed() {
    let one_zone = Surroundings { zone_of_subnet: tags(&[("s-a", "eu-west-1a")]), ..Surroundings::default() };
    assert_eq!(template_attempts(&Successor::default(), &one_zone).len(), 1);
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let said =
        |surroundings: &Surroundings| Plan::of(&owner, &identity(), &Successor::default(), surroundings).to_string();
    assert!(said(&one_zone).contains("worst place"));
    assert!(!said(&three_zones()).contains("worst place"));
    let other_zone = Surroundings { zone_of_subnet: tags(&[("s-b", "eu-west-1b")]), ..Surroundings::default() };
    assert!(!said(&other_zone).contains("worst place"));
    assert_eq!(template_attempts(&Successor::default(), &Surroundings::default()).len(), 1);
}

#[test]
fn no_attempt_names_a_pool_twice_and_the_subnets_of_a_zone_take_turns() {
    let choice = Successor {
        on_demand_fallback: true,
        instance_types: vec!["m5.large".into(), "m5.large".into()],
        ..Successor::default()
    };
    let crowded = Surroundings {
        zone_of_subnet: tags(&[
            ("s-a", "eu-west-1a"),
            ("s-b1", "eu-west-1b"),
            ("s-b2", "eu-west-1b"),
            ("s-b3", "eu-west-1b"),
        ]),
        ..Surroundings::default()
    };
    let attempts = template_attempts(&choice, &crowded);
    let mut used = std::collections::BTreeSet::new();
    for attempt in &attempts {
        let mut zones = zones(attempt);
        used.extend(attempt.launch_configurations[0].overrides.iter().filter_map(|pool| pool.subnet_id.clone()));
        zones.sort();
        let count = zones.len();
        zones.dedup();
        assert_eq!(zones.len(), count, "{attempt:?}");
    }
    assert_eq!(used.len(), 4, "every subnet has its turn: {attempts:#?}");
    let zones = crowded_zones(&crowded.zone_of_subnet);
    assert_eq!(zones.into_iter().collect::<Vec<_>>(), [("eu-west-1b", vec!["s-b1", "s-b2", "s-b3"])]);
}

#[test]
fn a_fleets_override_with_several_subnets_is_made_into_one_for_each() {
    let mut owner = fleet(FleetType::Request, None);
    owner.launch_configurations[0].overrides = vec![LaunchOverride {
        instance_type: Some("m5.large".into()),
        subnet_id: Some("s-b, s-c".into()),
        ..LaunchOverride::default()
    }];
    let Plan::Launch(launch) = Plan::of(&Owner::Ec2Fleet(owner), &identity(), &Successor::default(), &three_zones())
    else {
        panic!("a launch plan")
    };
    for attempt in &launch.attempts {
        assert!(
            attempt.launch_configurations[0].overrides.iter().all(|pool| !pool
                .subnet_id
                .as_ref()
                .unwrap()
                .contains(','))
        );
    }
}

#[test]
fn a_template_that_names_its_subnet_in_an_interface_gets_none() {
    let traits =
        TemplateTraits { own_subnet: Some(OwnSubnet { zone: Some("eu-west-1b".into()) }), ..TemplateTraits::default() };
    let choice = Successor { subnets: vec!["s-c".into()], ..Successor::default() };
    let attempts = template_attempts(&choice, &Surroundings { traits: traits.clone(), ..three_zones() });
    assert!(!attempts.is_empty());
    for attempt in &attempts {
        let pools = &attempt.launch_configurations[0].overrides;
        assert!(pools.iter().all(|pool| pool.subnet_id.is_none() && pool.availability_zone.is_none()), "{pools:?}");
    }
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let plan = Plan::of(&owner, &identity(), &choice, &Surroundings { traits, ..three_zones() });
    assert!(!plan.to_string().contains("worst place"), "{plan}");
    let Plan::Launch(launch) = plan else { panic!("a launch plan") };
    assert!(launch.remarks[0].contains("[successor] subnets are not used"), "{:?}", launch.remarks);
}

#[test]
fn what_is_unwise_about_a_launch_is_told() {
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let remarks = |around: Surroundings| Plan::of(&owner, &identity(), &Successor::default(), &around).remarks();
    let traits = TemplateTraits { names_interface: true, ..TemplateTraits::default() };
    let named = remarks(Surroundings { traits, ..three_zones() });
    assert!(matches!(named.as_slice(), [one] if one.contains("NetworkInterfaceId")), "{named:?}");
    let replaced_too = Some("fleet-1 replaces it too".to_owned());
    assert_eq!(remarks(Surroundings { replaced_too, ..three_zones() }), ["fleet-1 replaces it too"]);
}

#[test]
fn beside_a_launch_template_that_is_named_the_owner_of_the_tags_may_replace_too() {
    let choice = |owner| Successor { owner, ..Successor::default() };
    let of = |pairs: &[(&str, &str)], owner| Clue::beside_the_template(&tags(pairs), &choice(owner));
    let fleet = [(FLEET_TAG, "fleet-1"), ("aws:ec2launchtemplate:id", "lt-1")];
    assert_eq!(of(&fleet, OwnerChoice::LaunchTemplate), Some(Clue::Ec2Fleet("fleet-1".into())));
    assert_eq!(of(&fleet, OwnerChoice::Discover), None);
    assert_eq!(of(&fleet[1..], OwnerChoice::LaunchTemplate), None);
    let successor = [fleet[0], (PREDECESSOR_TAG, "i-before")];
    assert_eq!(of(&successor, OwnerChoice::LaunchTemplate), None, "its instant fleet replaces nobody");
}

#[test]
fn each_round_of_single_launches_takes_another_pool() {
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let choice = Successor { balance_zones: BalanceZones(false), ..Successor::default() };
    let Plan::Launch(launch) = Plan::of(&owner, &identity(), &choice, &three_zones()) else { panic!("a launch plan") };
    let rounds = launch.attempts.len() as u32;
    let subnets: Vec<_> =
        (0..3).map(|round| launch.single(round * rounds, "m5.large").unwrap().subnet_id.unwrap()).collect();
    assert_eq!(subnets, ["s-b", "s-c", "s-b"]);
}

fn now() -> jiff::Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

fn seconds_ago(seconds: i64) -> jiff::Timestamp {
    now() - jiff::SignedDuration::from_secs(seconds)
}

fn running(id: &str) -> Instance {
    Instance {
        instance_id: InstanceId::new(id),
        state: InstanceState::Running,
        instance_type: "m5.large".into(),
        availability_zone: "eu-west-1a".into(),
        private_ip: None,
        ipv6_address: None,
        addresses: Vec::new(),
        subnet_id: None,
        launch_time: None,
        tags: BTreeMap::new(),
        state_reason: None,
        vcpus: None,
        is_on_demand: false,
    }
}

fn member(id: &str, instance_type: &str, under_notice: bool) -> FleetMember {
    FleetMember {
        instance_id: InstanceId::new(id),
        instance_type: instance_type.into(),
        memory_mib: None,
        instance: Some(running(id)),
        taken_since: under_notice.then(|| seconds_ago(60)),
    }
}

#[test]
fn a_member_is_under_notice_while_it_runs_and_its_request_said_so_lately_or_it_is_marked() {
    let taken = |seconds| FleetMember { taken_since: Some(seconds_ago(seconds)), ..member("i-b", "m5.large", false) };
    let in_state = |state, of: FleetMember| FleetMember { instance: Some(Instance { state, ..running("i-b") }), ..of };
    let marked = |mark: &str| FleetMember {
        instance: Some(Instance { tags: tags(&[(LEAVING_TAG, mark)]), ..running("i-b") }),
        ..member("i-b", "m5.large", false)
    };
    assert!(!is_under_notice(&member("i-b", "m5.large", false), now()));
    assert!(is_under_notice(&taken(0), now()) && is_under_notice(&taken(179), now()));
    assert!(!is_under_notice(&taken(200), now()), "an interruption that was called off");
    assert!(!is_under_notice(&in_state(InstanceState::ShuttingDown, taken(125)), now()), "dead, and still listed");
    assert!(is_under_notice(&FleetMember { instance: None, ..taken(5) }, now()), "EC2 does not know it at the moment");
    assert!(is_under_notice(&marked("when a successor serves"), now()));
    assert!(is_under_notice(&marked("2026-01-01T12:01:30Z"), now()));
    assert!(!is_under_notice(&marked("2026-01-01T11:30:00Z"), now()), "a mark that nobody took off");
    assert_eq!(goes_at(&taken(20)), Some(seconds_ago(-100)));
    assert_eq!(goes_at(&marked("2026-01-01T12:01:30Z")), Some(seconds_ago(-90)));
}

#[test]
fn this_instance_counts_as_under_notice_before_its_request_says_so() {
    let mut fleet = fleet(FleetType::Maintain, None);
    fleet.launch_configurations = Vec::new();
    let members =
        [member("i-us", "m5.large", false), member("i-b", "m5.large", true), member("i-c", "m5.large", false)];
    assert_eq!(units_under_notice(&fleet, &members, &identity(), now()), 2);
}

#[test]
fn members_count_by_their_weights() {
    let fleet = fleet(FleetType::Maintain, None);
    let members = [member("i-us", "m5.large", true), member("i-b", "m5.large", true), member("i-c", "c5.large", true)];
    // Two halves and one without a weight.
    assert_eq!(units_under_notice(&fleet, &members, &identity(), now()), 2);
}

#[test]
fn in_a_fleet_of_vcpus_a_member_counts_for_its_own_unless_its_type_has_a_weight() {
    let of = |id: &str, instance_type: &str, vcpus: u32| FleetMember {
        instance: Some(Instance { vcpus: Some(vcpus), ..running(id) }),
        ..member(id, instance_type, true)
    };
    let members = [of("i-us", "c5.large", 2), of("i-b", "c5.xlarge", 4)];
    let counted = |unit: CapacityUnit| {
        let fleet = Fleet { unit, launch_configurations: Vec::new(), ..fleet(FleetType::Maintain, None) };
        let us = Identity { instance_type: "c5.large".into(), ..identity() };
        units_under_notice(&fleet, &members, &us, now())
    };
    assert_eq!((counted(CapacityUnit::Instances), counted(CapacityUnit::Vcpus)), (2, 6));
    let weighted = Fleet { unit: CapacityUnit::Vcpus, ..fleet(FleetType::Maintain, None) };
    assert_eq!(units_under_notice(&weighted, &[of("i-us", "m5.large", 2)], &identity(), now()), 1, "by its weight");
}

#[test]
fn in_a_fleet_of_memory_a_member_counts_for_that_of_its_type_and_a_large_fleet_is_counted_too() {
    let unit = CapacityUnit::MemoryMib;
    let fleet = Fleet { unit, launch_configurations: Vec::new(), ..fleet(FleetType::Maintain, None) };
    let of = |id: &str, memory_mib| FleetMember { memory_mib, ..member(id, "m5.large", true) };
    let counted = |members: &[FleetMember]| units_under_notice(&fleet, members, &identity(), now());
    assert_eq!(counted(&[of("i-us", Some(8_192)), of("i-b", Some(16_384)), of("i-c", None)]), 24_577);
    let large = std::iter::once("i-us".to_owned()).chain((1..80).map(|number| format!("i-{number}")));
    let large: Vec<FleetMember> = large.map(|id| of(&id, Some(786_432))).collect();
    assert_eq!(counted(&large), 80 * 786_432);
}

#[test]
fn a_fleets_units_are_not_taken_for_instances() {
    let of = |unit, fulfilled, pool: LaunchOverride| {
        let template = LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() };
        let launch_configurations = vec![LaunchConfiguration { template, overrides: vec![pool] }];
        let capacity = FleetCapacity { total: fulfilled, spot: None, fulfilled };
        let fleet = Fleet { unit, capacity, launch_configurations, ..fleet(FleetType::Maintain, None) };
        fleet.instances_at_most()
    };
    let requiring = |vcpus, memory| {
        let requirements = InstanceRequirements {
            vcpu_count: (Some(vcpus), None),
            memory_mib: (Some(memory), None),
            ..Default::default()
        };
        LaunchOverride { requirements: Some(requirements), ..LaunchOverride::default() }
    };
    let weighing = |hundredths| LaunchOverride { weight_hundredths: Some(hundredths), ..LaunchOverride::default() };
    assert_eq!(of(CapacityUnit::Instances, 3, LaunchOverride::default()), 3);
    assert_eq!(of(CapacityUnit::Instances, 30, weighing(800)), 3);
    assert_eq!(of(CapacityUnit::Instances, 3, weighing(50)), 6);
    assert_eq!(of(CapacityUnit::Vcpus, 12, requiring(2, 0)), 6);
    assert_eq!(of(CapacityUnit::MemoryMib, 32_768, requiring(1, 8_192)), 4);
    assert_eq!(of(CapacityUnit::MemoryMib, 32_768, requiring(1, 0)), 64, "none is smaller than half a GiB");
}

#[test]
fn whoever_finds_the_tag_and_nobody_under_notice_puts_the_fleet_right() {
    let tagged = |total, excess, value: &str| Fleet {
        capacity: FleetCapacity { total, spot: None, fulfilled: 0 },
        tags: tags(&[(BASE_CAPACITY_TAG, value)]),
        launch_configurations: Vec::new(),
        excess,
        ..fleet(FleetType::Maintain, None)
    };
    let living = |count: usize| vec![member("i-us", "m5.large", false); count];
    let (terminates, stays) = (ExcessCapacity::Terminates, ExcessCapacity::Stays);
    let right = |base, terminates_excess, untag| Leftover::Now(PutRight { base, terminates_excess, untag });
    let leftover = |fleet: &Fleet, members: &[FleetMember]| leftover(fleet, members, now());
    assert_eq!(leftover(&tagged(5, stays, "4..6"), &living(5)), right(Some(4), false, true), "by an older version");
    assert_eq!(leftover(&tagged(4, stays, "4..6"), &living(4)), right(None, false, true));
    assert_eq!(leftover(&tagged(8, stays, "4..6"), &living(8)), right(None, false, true), "somebody set it since");
    assert_eq!(leftover(&tagged(5, stays, "4..6 termination"), &living(4)), right(Some(4), true, true));
    let word = "its policy comes back when no member exceeds the target";
    assert_eq!(leftover(&tagged(5, stays, "4..6 termination"), &living(5)), right(Some(4), false, false), "{word}");
    let surplus = Leftover::Surplus { living: 5, target: 4 };
    assert_eq!(leftover(&tagged(4, stays, "4..6 termination"), &living(5)), surplus, "{word}");
    assert_eq!(leftover(&tagged(4, stays, "4..6 termination"), &living(4)), right(None, true, true));
    assert_eq!(leftover(&tagged(4, terminates, "4..6 termination"), &living(5)), right(None, false, true), "by hand");
    assert_eq!(leftover(&tagged(5, stays, "4..6"), &[member("i-b", "m5.large", true)]), Leftover::Later);
    for (value, spot) in [("4..6", 1), ("4..6 spot-2", 2)] {
        let mixed = tagged(5, stays, value);
        let mixed = Fleet { capacity: FleetCapacity { spot: Some(2), ..mixed.capacity }, ..mixed };
        let Leftover::Now(right) = leftover(&mixed, &living(4)) else { panic!("{value}") };
        assert_eq!(right.changes(&mixed)[0].0, mixed.with_total(4, Some(spot)), "{value}");
    }
    let ended = Fleet { state: FleetState::Ended("deleted_running".into()), ..tagged(5, stays, "4..6 termination") };
    assert_eq!(leftover(&ended, &living(5)), right(None, false, true));
    let modifying = Fleet { state: FleetState::Modifying, ..tagged(5, stays, "4..6") };
    assert_eq!(leftover(&modifying, &living(5)), Leftover::Later);
    assert_eq!(leftover(&fleet(FleetType::Maintain, None), &living(4)), Leftover::Nothing);
}

#[test]
fn a_survivor_puts_right_what_no_other_victim_does_whatever_its_own_request_says() {
    let raised = |state| Fleet {
        capacity: FleetCapacity { total: 5, spot: None, fulfilled: 0 },
        tags: tags(&[(BASE_CAPACITY_TAG, "4..6")]),
        launch_configurations: Vec::new(),
        state,
        ..fleet(FleetType::Maintain, None)
    };
    let us = || member("i-us", "m5.large", true);
    let ours = InstanceId::new("i-us");
    let left = |fleet: &Fleet, members: Vec<FleetMember>| leftover_of_survivor(fleet, members, &ours, now());
    let right = Leftover::Now(PutRight { base: Some(4), terminates_excess: false, untag: true });
    assert_eq!(left(&raised(FleetState::Active), vec![us()]), right);
    let another = vec![us(), member("i-b", "m5.large", true)];
    assert_eq!(left(&raised(FleetState::Active), another), Leftover::Nothing, "the other's to put back");
    assert_eq!(left(&raised(FleetState::Modifying), vec![us()]), Leftover::Later);
    let untagged = |state| Fleet { tags: BTreeMap::new(), ..raised(state) };
    assert_eq!(left(&untagged(FleetState::Modifying), Vec::new()), Leftover::Later, "the last change goes on");
    assert_eq!(left(&untagged(FleetState::Active), Vec::new()), Leftover::Nothing);
}

#[test]
fn in_a_drill_nobody_terminates_this_instance_and_nobody_replaces_it_by_himself() {
    let drilled = |rebalances, hooks| plan(&Owner::AutoScalingGroup(group(rebalances, hooks))).for_drill();
    assert!(matches!(drilled(false, 1), Plan::Group { how: GroupRequest::Detach, .. }));
    assert!(matches!(drilled(false, 0), Plan::Group { how: GroupRequest::Detach, .. }));
    assert!(matches!(drilled(true, 1), Plan::Nobody { .. }));
    let replaces = plan(&Owner::Ec2Fleet(fleet(FleetType::Maintain, Some("launch")))).for_drill();
    assert!(matches!(replaces, Plan::Nobody { .. }));
}

#[test]
fn the_tag_keeps_base_raised_and_the_policy_from_before() {
    for (text, terminates_excess, spot) in [
        ("4..6", false, None),
        ("4..6 termination", true, None),
        ("4..6 spot-0", false, Some(0)),
        ("4..6 termination spot-2", true, Some(2)),
    ] {
        let capacity = RaisedCapacity { base: 4, raised: 6, terminates_excess, spot };
        assert_eq!(RaisedCapacity::read(&tags(&[(BASE_CAPACITY_TAG, text)])), Some(capacity));
        assert_eq!(capacity.to_string(), text);
    }
    assert_eq!(RaisedCapacity::read(&tags(&[(BASE_CAPACITY_TAG, "by hand")])), None);
}

#[test]
fn owners_that_replace_by_themselves_do_so_at_the_spot_signals_of_spot_instances_alone() {
    let on_demand = Identity { life_cycle: LifeCycle::OnDemand, ..identity() };
    let how = |group: &AutoScalingGroup, identity: &Identity, signal| GroupRequest::of(group, identity, signal);
    for (hooks, asked) in [(0, GroupRequest::Detach), (1, GroupRequest::Terminate)] {
        let rebalancing = group(true, hooks);
        assert_eq!(how(&rebalancing, &identity(), Signal::Notice), GroupRequest::Observe);
        assert_eq!(how(&rebalancing, &identity(), Signal::RebalanceRecommendation), GroupRequest::Observe);
        assert_eq!(how(&rebalancing, &identity(), Signal::ScheduledEvent), asked);
        assert_eq!(how(&rebalancing, &on_demand, Signal::ScheduledEvent), asked);
        assert_eq!(how(&rebalancing, &on_demand, Signal::Notice), asked);
    }
    let fleet = Owner::Ec2Fleet(fleet(FleetType::Maintain, Some("launch")));
    let raises = |plan: Plan| matches!(plan, Plan::Fleet { how: FleetRequest::Raise, .. });
    assert!(!raises(plan(&fleet)));
    assert!(raises(plan(&fleet).at(&identity(), Signal::ScheduledEvent)));
    assert!(raises(Plan::of(&fleet, &on_demand, &Successor::default(), &Surroundings::default())));
}

#[test]
fn a_member_that_the_group_does_not_count_has_no_successor() {
    let mut group = group(false, 0);
    group.members = vec![member_of_group("i-us", "InService")];
    let in_service = plan(&Owner::AutoScalingGroup(group));
    assert!(in_service.has_successor());
    for state in ["Standby", "Warmed:Running", "Warmed:Stopped"] {
        let plan = in_service.clone().with_member_state(&identity().instance_id, state);
        let plan = plan.at(&identity(), Signal::Notice);
        assert!(!plan.has_successor(), "{state}: {plan}");
    }
}

#[test]
fn the_state_that_the_metadata_shows_is_where_the_member_goes_and_not_where_it_is() {
    for (seen, shown, state) in [
        ("Pending", "InService", "Pending"),
        ("Pending:Wait", "InService", "Pending:Wait"),
        ("Standby", "InService", "Pending"),
        ("Warmed:Stopped", "InService", "Pending"),
        ("InService", "InService", "InService"),
        ("InService", "Standby", "Standby"),
        ("Pending:Wait", "Terminated", "Terminated"),
    ] {
        let mut member = member_of_group("i-us", seen);
        member.moves_to(shown);
        assert_eq!(member.lifecycle_state, state, "seen in {seen}, the metadata shows {shown}");
    }
}

#[test]
fn launch_instances_is_called_only_where_something_launches_first() {
    use crate::core::config::{Config, Rebalance, ScheduledEvents, When};
    let asks = |when, rebalance, scheduled_events, how| {
        let mut config = Config::default();
        config.leave.when = when;
        config.watch.rebalance = rebalance;
        config.watch.scheduled_events = scheduled_events;
        asks_launch_instances(&config, how)
    };
    let (detach, observe) = (GroupRequest::Detach, GroupRequest::Observe);
    assert!(!asks(When::AtOnce, Rebalance::Prepare, ScheduledEvents::Report, detach));
    assert!(asks(When::SuccessorHealthy, Rebalance::Prepare, ScheduledEvents::Report, detach));
    assert!(asks(When::AtOnce, Rebalance::HandOver, ScheduledEvents::Report, detach));
    assert!(asks(When::AtOnce, Rebalance::Prepare, ScheduledEvents::HandOver, detach));
    assert!(!asks(When::SuccessorHealthy, Rebalance::HandOver, ScheduledEvents::Report, observe));
    assert!(asks(When::AtOnce, Rebalance::Prepare, ScheduledEvents::HandOver, observe));
}

#[test]
fn a_lifecycle_state_that_is_none_of_aws_s_is_no_answer() {
    let read = |state| Clue::read(&tags(&[TEMPLATE]), Some(state), &Successor::default());
    for state in ["InService", "Detached", "Terminated", "Warmed:Running"] {
        assert!(matches!(read(state), Clue::Nobody(why) if why.contains("detached")), "{state}");
    }
    for odd in ["Quux", "<html>Terminated</html>", "Terminated <br>", ""] {
        assert!(matches!(read(odd), Clue::LaunchTemplate(_)), "{odd}");
    }
}
