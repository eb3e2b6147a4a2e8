use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::core::config::{BalanceZones, TemplateChoice};
use crate::core::handover::tests::{identity_of, member as member_of_group};
use crate::core::model::{CapacityUnit, InstanceRequirements, InstantFleet};
use crate::core::model::{
    ExcessCapacity, FleetCapacity, FleetMember, FleetState, Instance, InstanceId, InstanceState, LaunchOverride,
    LifeCycle, LifecycleHook, Market,
};

mod attempts;
mod fleets;

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
    assert_eq!(clue(&[("aws:ec2:fleet-id", "fleet-1"), TEMPLATE]), Clue::Fleet(FleetKind::Ec2, "fleet-1".into()));
    assert_eq!(
        clue(&[("aws:ec2spot:fleet-request-id", "sfr-1"), TEMPLATE]),
        Clue::Fleet(FleetKind::Spot, "sfr-1".into())
    );
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
    assert_eq!(
        clue(&[ours, instant, (ORIGIN_FLEET_TAG, "fleet-9"), TEMPLATE]),
        Clue::Fleet(FleetKind::Ec2, "fleet-9".into())
    );
    assert_eq!(
        clue(&[ours, instant, (ORIGIN_FLEET_TAG, "sfr-9"), TEMPLATE]),
        Clue::Fleet(FleetKind::Spot, "sfr-9".into())
    );
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
    let maintained = |strategy| plan(&Owner::Fleet(FleetKind::Ec2, fleet(FleetType::Maintain, strategy)));
    assert!(matches!(maintained(Some("launch")), Plan::Fleet { how: FleetRequest::Observe, .. }));
    assert!(matches!(maintained(None), Plan::Fleet { how: FleetRequest::Raise, .. }));
}

#[test]
fn a_fleet_that_does_not_replace_gets_an_instant_one_with_its_pools_and_its_name() {
    for request_type in [FleetType::Request, FleetType::Instant] {
        let plan = plan(&Owner::Fleet(FleetKind::Spot, fleet(request_type, None)));
        assert_eq!((plan.owner_kind(), plan.owner_id()), ("ec2-fleet", Some("fleet-1")));
        let Plan::Launch(launch) = plan else { panic!("a launch plan") };
        let first = &launch.attempts[0];
        assert_eq!(zones(first), ["eu-west-1b"]);
        assert_eq!(first.tags[ORIGIN_FLEET_TAG], "fleet-1");
        assert_eq!(first.tags[PREDECESSOR_TAG], "i-us");
        assert!(first.launch_configurations[0].overrides.iter().all(|pool| pool.weight_hundredths.is_none()));
    }
    let without_templates = Fleet { launch_configurations: Vec::new(), ..fleet(FleetType::Request, None) };
    assert!(matches!(plan(&Owner::Fleet(FleetKind::Spot, without_templates)), Plan::Nobody { .. }));
}

fn zones(attempt: &InstantFleet) -> Vec<String> {
    let pools = attempt.launch_configurations.iter().flat_map(|configuration| &configuration.overrides);
    pools.filter_map(|pool| pool.availability_zone.clone()).collect()
}

#[test]
fn in_a_drill_nobody_terminates_this_instance_and_nobody_replaces_it_by_himself() {
    let drilled = |rebalances, hooks| plan(&Owner::AutoScalingGroup(group(rebalances, hooks))).for_drill();
    assert!(matches!(drilled(false, 1), Plan::Group { how: GroupRequest::Detach, .. }));
    assert!(matches!(drilled(false, 0), Plan::Group { how: GroupRequest::Detach, .. }));
    assert!(matches!(drilled(true, 1), Plan::Nobody { .. }));
    let replaces = plan(&Owner::Fleet(FleetKind::Ec2, fleet(FleetType::Maintain, Some("launch")))).for_drill();
    assert!(matches!(replaces, Plan::Nobody { .. }));
}

#[test]
fn the_tag_keeps_base_raised_and_the_policy_from_before() {
    for (text, terminates_excess, spot, is_back) in [
        ("4..6", false, None, false),
        ("4..6 termination", true, None, false),
        ("4..6 spot-0", false, Some(0), false),
        ("4..6 termination spot-2 back", true, Some(2), true),
    ] {
        let capacity = RaisedCapacity { base: 4, raised: 6, terminates_excess, spot, is_back };
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
    let fleet = Owner::Fleet(FleetKind::Ec2, fleet(FleetType::Maintain, Some("launch")));
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
