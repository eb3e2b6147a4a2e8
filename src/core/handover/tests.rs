//! The core alone, against a small model of AWS that loses calls, loses replies, is slow, and sees processes die.

pub(crate) mod aws;
mod drain;
mod fleet;
mod group;
mod interleavings;
mod last_look;
mod last_one;
mod launch;
mod look_ups;
mod owners;
mod run;
mod storm;
mod unfinished;
mod victims;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::core::call::{Answer, Call};
use crate::core::config::{Leave as LeaveSettings, When};
use crate::core::duty::{Attempts, Due, Duty, DutyId, DutyReport};
use crate::core::incident::{About, Earlier, Incident, Outcome, Registrations, Start, Takes};
use crate::core::model::*;
use crate::core::plan::{FleetKind, FleetRequest, GroupRequest, LEAVING_TAG, LaunchPlan, PREDECESSOR_TAG, Plan};
use crate::core::retry::{Failure, FailureKind};

use aws::{Aws, Exchange, Fate, Launch, Owner, time};
use launch::*;
use run::*;

pub(crate) const WEB: &str = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/0123";
pub(crate) const API: &str = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/api/4567";

/// The answer of DescribeTargetHealth about `targets`, if `rows` are those of the whole group. It has a row for each
/// target, in the group or not; without targets, all rows.
fn as_asked(rows: Vec<TargetHealth>, targets: &[Target]) -> Vec<TargetHealth> {
    let row = |target: &Target| rows.iter().find(|row| row.target == *target).cloned();
    let not_registered = |target: &Target| TargetHealth {
        target: target.clone(),
        state: TargetState::Unused,
        reason: Some("Target.NotRegistered".to_owned()),
    };
    let named = || targets.iter().map(|target| row(target).unwrap_or_else(|| not_registered(target))).collect();
    if targets.is_empty() { rows } else { named() }
}

/// The wall clock of AWS as a test begins; the model's clocks agree.
fn epoch() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// The instance has run for a while: what has never happened was not a moment ago.
const BOOTED_FOR: Duration = Duration::from_secs(3 * 3600);

pub(crate) fn at(milliseconds: u64) -> BootInstant {
    BootInstant::since_boot(BOOTED_FOR + Duration::from_millis(milliseconds))
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

/// A running instance of this name, launched a second after the epoch.
pub(crate) fn running(name: &str) -> Instance {
    Instance {
        instance_id: id(name),
        state: InstanceState::Running,
        instance_type: "m5.large".into(),
        availability_zone: "eu-west-1b".into(),
        private_ip: Some("10.0.2.9".into()),
        ipv6_address: None,
        addresses: Vec::new(),
        subnet_id: None,
        launch_time: Some(epoch() + Duration::from_secs(1)),
        tags: BTreeMap::new(),
        state_reason: None,
        vcpus: None,
        is_on_demand: false,
    }
}

pub(crate) fn identity_of(instance: &str) -> Identity {
    Identity {
        instance_id: id(instance),
        region: "eu-west-1".into(),
        availability_zone: "eu-west-1a".into(),
        instance_type: "m5.large".into(),
        private_ip: "10.0.0.1".into(),
        ipv6_addresses: Some(Vec::new()),
        account_id: "1".into(),
        vpc_id: Some("vpc-1".into()),
        subnet_id: None,
        life_cycle: LifeCycle::Spot,
    }
}

pub(crate) fn incident_of(instance: &str, action: Action, deadline: u64) -> Incident {
    let identity = identity_of(instance);
    let id = IncidentId { instance_id: id(instance), boot_id: "boot".into(), action: Some(action), number: 0 };
    let start = Start { identity, clocks: (epoch(), at(0)), successors_since: Some(epoch()), ..Start::default() };
    Incident { planned_before: true, ..Incident::new(id, Signal::Notice, at(deadline), start) }
}

pub(crate) fn registration(arn: &str, instance: &str, ports: &[u16]) -> Registration {
    let target = |port: &u16| Target { id: instance.into(), port: *port };
    Registration::new(TargetGroupArn::new(arn), TargetType::Instance, ports.iter().map(target).collect())
}

/// A member of a group, in this lifecycle state.
pub(crate) fn member(name: &str, state: &str) -> GroupMember {
    GroupMember {
        instance_id: id(name),
        availability_zone: "eu-west-1a".into(),
        lifecycle_state: state.into(),
        weight: None,
        loses_protection: false,
    }
}

/// A group without members, as it is now.
pub(crate) fn empty_group() -> GroupState {
    GroupState { target_groups: vec![TargetGroupArn::new(WEB)], ..GroupState::default() }
}

pub(crate) fn group(hooks: &[&str]) -> AutoScalingGroup {
    let hook = |name: &&str| LifecycleHook { name: (*name).into(), heartbeat_timeout: Duration::from_secs(60) };
    AutoScalingGroup {
        name: "shop-asg".into(),
        arn: "arn:asg".into(),
        termination_hooks: hooks.iter().map(hook).collect(),
        target_groups: vec![TargetGroupArn::new(WEB)],
        max_size: 9,
        desired_capacity: 3,
        health_check_type: "EC2".into(),
        availability_zones: vec!["eu-west-1a".into(), "eu-west-1b".into()],
        ..AutoScalingGroup::default()
    }
}

fn fleet(total: i32) -> Fleet {
    Fleet {
        id: "fleet-1".into(),
        state: FleetState::Active,
        excess: ExcessCapacity::Terminates,
        request_type: FleetType::Maintain,
        replacement_strategy: None,
        capacity: FleetCapacity { total, spot: None, fulfilled: total },
        launch_configurations: Vec::new(),
        unit: Default::default(),
        specification_weights: BTreeMap::new(),
        target_groups: Vec::new(),
        tags: BTreeMap::new(),
    }
}

fn launch_plan() -> Plan {
    let attempt = |zone: &str| InstantFleet {
        launch_configurations: vec![LaunchConfiguration {
            template: LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() },
            overrides: vec![LaunchOverride { availability_zone: Some(zone.into()), ..LaunchOverride::default() }],
        }],
        market: Market::Spot,
        tags: BTreeMap::from([(PREDECESSOR_TAG.into(), "i-victim".into())]),
    };
    let attempts = vec![attempt("eu-west-1b"), attempt("eu-west-1c"), attempt("eu-west-1a")];
    Plan::Launch(LaunchPlan { from: "launch template lt-1".into(), attempts, ..LaunchPlan::default() })
}

fn found(found: Vec<Registration>) -> Answer {
    Answer::Registrations { found, unclear: Vec::new(), missing: Vec::new(), untold: None }
}

fn registrations(victim: &str) -> Vec<Registration> {
    vec![registration(WEB, victim, &[80]), registration(API, victim, &[8080, 8081])]
}

const VICTIM: [(&str, u64, u64); 1] = [("i-victim", 1_000, 121_000)];

fn at_once() -> HandoverSettings {
    HandoverSettings {
        leave: LeaveSettings { when: When::AtOnce, ..LeaveSettings::default() },
        ..HandoverSettings::default()
    }
}

fn detach() -> Plan {
    Plan::Group { group: group(&[]), how: GroupRequest::Detach }
}

pub(crate) fn raise() -> Plan {
    raise_of(3)
}

/// The story of one victim when everything goes well.
fn check(when: When, owner: Owner, plan: Plan, expected_writes: &[&str], expected_milestones: &[&str]) -> Run {
    let mut run = Run::new(owner, &VICTIM, plan, Vec::new());
    run.settings.leave.when = when;
    let run = run.run(&[]);
    assert_eq!(run.aws.writes, expected_writes);
    let saw: BTreeSet<String> = run.saw().into_iter().collect();
    for milestone in expected_milestones {
        assert!(saw.contains(*milestone), "{milestone} in {saw:?}");
    }
    assert!(run.outcome(0).complete, "{:#?}", run.outcome(0));
    assert_eq!(run.targets_of("i-victim"), 0);
    assert_eq!(run.aws.launches.len(), 1, "one successor");
    run
}

const EVERYTHING: [&str; 11] = [
    "noticed",
    "deregistered web",
    "deregistered api",
    "left web",
    "left api",
    "quiet",
    "successor-requested",
    "successor-running",
    "successor-registered web",
    "successor-healthy web",
    "handed-over",
];

fn raise_of(total: i32) -> Plan {
    Plan::Fleet { kind: FleetKind::Ec2, fleet: fleet(total), how: FleetRequest::Raise }
}

/// Health of so many other targets that their tags are not asked for.
fn many_serve() -> Answer {
    let target = |number: u32| Target { id: format!("i-serving{number}"), port: 80 };
    let row = |number| TargetHealth { target: target(number), state: TargetState::Healthy, reason: None };
    Answer::Health((0..11).map(row).collect())
}

/// How many target groups are left once each look at who serves is answered: many do.
fn leaves_after_a_look(handover: &mut Handover, now: u64, due: Vec<Due>) -> usize {
    for due in due.into_iter().filter(|due| matches!(due.duty, DutyId::OtherTargets(_))) {
        handover.answered(at(now + 20), due.duty, many_serve());
    }
    handover.due(at(now + 20)).iter().filter(|due| matches!(due.call, Call::DeregisterTargets { .. })).count()
}

/// As many cases as CI runs, each time the same ones: what chance finds is no reason for a red CI that nobody caused.
/// `PROPTEST_CASES` asks for so many others; with `PROPTEST_RNG_SEED`, for the same ones again.
pub(crate) fn chance(committed: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let fresh = ProptestConfig { failure_persistence: None, max_shrink_iters: 10_000, ..ProptestConfig::default() };
    match asked {
        Some(cases) => ProptestConfig { cases, ..fresh },
        None => ProptestConfig { cases: committed, rng_seed: RngSeed::Fixed(20_261_125), ..fresh },
    }
}
