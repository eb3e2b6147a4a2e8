//! Every permission in the policy, tried for real. Reads are made, EC2's writes are sent with DryRun, and the others in
//! a form without an effect: AWS authorises a call before it reads its subject. Nothing is changed. Permissions that
//! cannot be tried are reported.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use futures_util::future::join_all;

use super::finding::{Finding, Level};
use super::owner::PlanWithReads;
use crate::cli::policy;
use crate::cloud::autoscaling::LifecycleAction;
use crate::cloud::ec2::Ec2;
use crate::core::call::HookResult;
use crate::core::model::{
    AutoScalingGroup, InstanceId, Registration, SingleLaunch, Target, TargetGroupArn, TargetZone,
};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, FleetRequest, LEAVING_TAG, Plan};
use crate::core::policy::{OwnerNeeds, Policy, Subject};
use crate::core::retry::{Failure, FailureKind};
use crate::daemon::Parties;

/// An action, its resource, and IAM's answer.
struct Trial {
    action: &'static str,
    /// The resource, if the action is tried on several.
    on: Option<String>,
    verdict: Verdict,
}

enum Verdict {
    /// Allowed; the text says how this is known.
    Allowed(&'static str),
    Denied(String),
    Unknown(String),
}

type Trying<'a> = Pin<Box<dyn Future<Output = Vec<Trial>> + 'a>>;

const PASS_ROLE: &str = "iam:PassRole";
const DRY_RUN: &str = "tried with DryRun";
const HARMLESSLY: &str = "tried in a form that can do nothing, since AWS authorises before it looks";
/// A valid instance id that no instance ever has.
const NO_INSTANCE: &str = "i-00000000000000000";
/// The reason for actions that AWS calls with our role, and this program never does.
const BY_OTHERS: &str = "Auto Scaling calls it in this role's name, for LaunchInstances alone";

pub(super) async fn look(
    parties: &Parties,
    planned: Option<&PlanWithReads>,
    registrations: Option<&[Registration]>,
) -> Vec<Finding> {
    let plan = planned.map(|planned| &planned.plan);
    let on_the_way = planned.map(|planned| planned.on_the_way.clone()).unwrap_or_default();
    let held_by = planned.and_then(|planned| planned.held_by.clone());
    let registered_in: Vec<TargetGroupArn> =
        registrations.unwrap_or_default().iter().map(|registration| registration.target_group.clone()).collect();
    let needs = match plan {
        Some(plan) => policy::needs_of(parties, plan, &registered_in).await,
        None => OwnerNeeds::Nobody,
    };
    let scope = policy::arn_scope(parties).await;
    let target_groups = registered_in.iter().map(ToString::to_string).collect();
    let policy = Policy::of(&parties.config, &Subject { scope, needs, target_groups, on_the_way, held_by });
    let mut tries = dry_runs(parties, &policy, plan);
    tries.push(Box::pin(reads(parties, &policy, plan)));
    let registrations = registrations.unwrap_or_default();
    for registration in registrations {
        let on = (registrations.len() > 1).then(|| registration.name().to_owned());
        tries.extend(tries_of_group(parties, &policy, registration, on));
    }
    if let Some(Plan::Group { group, .. }) = plan {
        tries.extend(tries_of_owner(parties, &policy, group));
    }
    let mut trials: Vec<Trial> = join_all(tries).await.into_iter().flatten().collect();
    trials.extend(untried(&policy, &trials));
    trials.sort_by(|a, b| (a.action, &a.on).cmp(&(b.action, &b.on)));
    findings(trials, parties.config.arrive.register)
}

fn name(action: &str) -> &str {
    action.split_once(':').map_or(action, |(_, name)| name)
}

fn is_read(action: &str) -> bool {
    name(action).starts_with("Describe")
}

fn verdict(result: Result<(), Failure>, how: &'static str) -> Verdict {
    match result {
        Ok(()) => Verdict::Allowed(how),
        Err(failure) if failure.kind == FailureKind::Denied => Verdict::Denied(failure.to_string()),
        Err(failure) => Verdict::Unknown(failure.to_string()),
    }
}

/// Reports the reads. The look-ups made most of them; this makes the others.
async fn reads(parties: &Parties, policy: &Policy, plan: Option<&Plan>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for action in policy.actions().into_iter().filter(|action| is_read(action)) {
        if parties.aws.tally.is_allowed(name(action)).is_none() {
            read(parties, name(action), plan).await;
        }
        let verdict = match parties.aws.tally.is_allowed(name(action)) {
            Some(true) => Verdict::Allowed("the read was not denied"),
            Some(false) => Verdict::Denied("IAM does not allow the call".to_owned()),
            None => Verdict::Unknown("there was nothing to read, or no answer came".to_owned()),
        };
        trials.push(Trial { action, on: None, verdict });
    }
    trials
}

/// Makes one call of this action, only to learn IAM's answer.
async fn read(parties: &Parties, action: &str, plan: Option<&Plan>) {
    let Parties { aws, identity, .. } = parties;
    match (action, plan) {
        ("DescribeTags", _) => drop(aws.ec2.describe_tags(identity.instance_id.as_str()).await),
        ("DescribeSubnets", _) => drop(aws.ec2.describe_subnets(&[]).await),
        (
            "DescribeFleetInstances" | "DescribeSpotFleetInstances" | "DescribeSpotInstanceRequests",
            Some(Plan::Fleet { kind, fleet, .. }),
        ) => drop(aws.ec2.fleet_members(*kind, &fleet.id).await),
        ("DescribeInstanceTypes", _) => {
            drop(aws.ec2.describe_instance_types(BTreeSet::from([identity.instance_type.clone()])).await);
        }
        _ => {}
    }
}

fn trying<'a>(
    action: &'static str,
    on: Option<String>,
    call: impl Future<Output = Result<(), Failure>> + 'a,
) -> Trying<'a> {
    Box::pin(async move { vec![Trial { action, on, verdict: verdict(call.await, DRY_RUN) }] })
}

/// Tries EC2's writes with DryRun, each as the daemon would send it.
fn dry_runs<'a>(parties: &'a Parties, policy: &Policy, plan: Option<&'a Plan>) -> Vec<Trying<'a>> {
    let (ec2, us) = (&parties.aws.ec2, &parties.identity.instance_id);
    let tag_both =
        |resource: &'a str, key: &'static str, on: Option<String>| {
            [
                trying("ec2:CreateTags", on.clone(), async move {
                    ec2.create_tags_dry_run(resource, &[(key, "check")]).await
                }),
                trying("ec2:DeleteTags", on, async move { ec2.delete_tags_dry_run(resource, &[key]).await }),
            ]
        };
    let mut tries: Vec<Trying<'a>> = tag_both(us.as_str(), LEAVING_TAG, None).into();
    if let Some(Plan::Fleet { fleet, how: FleetRequest::Raise, kind }) = plan {
        tries.extend(tag_both(&fleet.id, BASE_CAPACITY_TAG, Some(fleet.id.clone())));
        if *kind == FleetKind::Ec2 {
            let change = fleet.with_total(fleet.capacity.total, fleet.capacity.spot);
            tries.push(trying("ec2:ModifyFleet", None, ec2.modify_fleet_dry_run(&fleet.id, change)));
        }
    }
    if policy.actions().contains("ec2:TerminateInstances") {
        tries.push(trying("ec2:TerminateInstances", None, ec2.terminate_instances_dry_run(us)));
    }
    if let Some(Plan::Launch(launch)) = plan
        && let (Some(attempt), Some(wanted)) = (launch.attempt(0), launch.single(0, &parties.identity.instance_type))
    {
        tries.push(trying("ec2:CreateFleet", None, ec2.create_fleet_dry_run(attempt)));
        let passes = policy.actions().contains(PASS_ROLE);
        tries.push(Box::pin(async move { launching(ec2, &wanted, passes).await }));
    }
    tries
}

/// Tries RunInstances. EC2 asks IAM for it, and for passing the template's role, also when a fleet launches.
async fn launching(ec2: &Ec2, wanted: &SingleLaunch, passes: bool) -> Vec<Trial> {
    let answer = ec2.run_instances_dry_run(wanted).await;
    let of = |action, verdict| Trial { action, on: None, verdict };
    let not_reached = || Verdict::Unknown("EC2 refused the launch before it asked for this".to_owned());
    let mut trials = match answer {
        Err(failure) if failure.kind == FailureKind::Denied && failure.message.contains(PASS_ROLE) => {
            vec![of("ec2:RunInstances", not_reached()), of(PASS_ROLE, Verdict::Denied(failure.to_string()))]
        }
        Err(failure) => vec![of("ec2:RunInstances", verdict(Err(failure), "")), of(PASS_ROLE, not_reached())],
        Ok(()) => ["ec2:RunInstances", PASS_ROLE].map(|it| of(it, verdict(Ok(()), DRY_RUN))).into(),
    };
    trials.retain(|trial| trial.action != PASS_ROLE || passes);
    trials
}

/// Tries a call without an effect. If AWS rejects it, or accepts it and does nothing, the call was authorised.
fn harmless<'a>(
    policy: &Policy,
    action: &'static str,
    on: Option<String>,
    call: impl Future<Output = Result<(), Failure>> + 'a,
) -> Option<Trying<'a>> {
    policy.actions().contains(action).then(|| -> Trying<'a> {
        Box::pin(async move {
            let verdict = match call.await {
                Err(failure) if failure.kind == FailureKind::Rejected => Verdict::Allowed(HARMLESSLY),
                result => verdict(result, HARMLESSLY),
            };
            vec![Trial { action, on, verdict }]
        })
    })
}

/// Tries to deregister this instance on a port where it is not registered, which does nothing. It also tries to
/// register an instance that cannot exist, which fails.
fn tries_of_group<'a>(
    parties: &'a Parties,
    policy: &Policy,
    registration: &'a Registration,
    on: Option<String>,
) -> impl Iterator<Item = Trying<'a>> {
    let (elb, group) = (&parties.aws.elb, &registration.target_group);
    let ports = registration.ports();
    let free = (1..=u16::MAX).rev().find(|port| !ports.contains(port)).unwrap_or(u16::MAX);
    let ours = registration.targets.first().map(|target| Target { port: free, ..target.clone() });
    let nobody = Target { id: NO_INSTANCE.to_owned(), port: free };
    let deregister = ours.and_then(|ours| {
        harmless(policy, "elasticloadbalancing:DeregisterTargets", on.clone(), async move {
            elb.deregister_targets(group, &[ours], &registration.zone).await
        })
    });
    let register = harmless(policy, "elasticloadbalancing:RegisterTargets", on, async move {
        elb.register_targets(group, &[nobody], &TargetZone::Implied).await
    });
    deregister.into_iter().chain(register)
}

/// Tries the actions that name their group, with an instance that cannot exist.
fn tries_of_owner<'a>(
    parties: &'a Parties,
    policy: &Policy,
    group: &'a AutoScalingGroup,
) -> impl Iterator<Item = Trying<'a>> {
    let (groups, group_name) = (&parties.aws.autoscaling, &group.name);
    let hook = group.termination_hooks.first().map_or("none", |hook| &hook.name);
    let nobody = || InstanceId::new(NO_INSTANCE);
    let tries = [
        harmless(policy, "autoscaling:DetachInstances", None, async move {
            groups.detach_instances(group_name, &nobody(), false).await
        }),
        harmless(policy, "autoscaling:AttachInstances", None, async move {
            groups.attach_instances(group_name, &nobody()).await
        }),
        harmless(policy, "autoscaling:CompleteLifecycleAction", None, async move {
            let action = LifecycleAction { group: group_name, hook, instance_id: &nobody() };
            groups.complete_lifecycle_action(action, HookResult::Continue).await
        }),
        harmless(policy, "autoscaling:RecordLifecycleActionHeartbeat", None, async move {
            let action = LifecycleAction { group: group_name, hook, instance_id: &nobody() };
            groups.record_lifecycle_action_heartbeat(action).await
        }),
    ];
    tries.into_iter().flatten()
}

/// The actions that cannot be tried without an effect, and why.
fn untried(policy: &Policy, trials: &[Trial]) -> Vec<Trial> {
    let tried = |action: &str| trials.iter().any(|trial| trial.action == action);
    let why = |action: &str| match action {
        "autoscaling:TerminateInstanceInAutoScalingGroup" => "it names no group, only an instance",
        "autoscaling:LaunchInstances" => "any call of it launches",
        "ec2:ModifySpotFleetRequest" => "it has no DryRun, and any call of it changes the fleet",
        action if action.starts_with("kms:") || action.starts_with("ssm:") => "EC2 asks for it at a launch alone",
        _ if policy.actions().contains("autoscaling:LaunchInstances") => BY_OTHERS,
        _ => "there is nothing to try it on",
    };
    let missing = policy.actions().into_iter().filter(|action| !tried(action));
    missing.map(|action| Trial { action, on: None, verdict: Verdict::Unknown(why(action).to_owned()) }).collect()
}

fn findings(trials: Vec<Trial>, arrives: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut untried: Vec<String> = Vec::new();
    for Trial { action, on, verdict } in trials {
        let of_fleet = on.is_some();
        let subject = on.map_or_else(|| action.to_owned(), |on| format!("{action} on {on}"));
        match verdict {
            Verdict::Allowed(how) => findings.push(Finding::ok("permission", format!("allowed: {how}")).of(subject)),
            Verdict::Denied(message) => findings.push(denied(consequence(action, of_fleet, arrives), subject, message)),
            Verdict::Unknown(reason) => untried.push(format!("{subject} ({reason})")),
        }
    }
    if !untried.is_empty() {
        let found = format!("cannot be tried: {}", untried.join(", "));
        findings.push(
            Finding::warn("permission-untried", found)
                .meaning("only a notice shows whether they are allowed")
                .remedy("compare with spot-relay policy, or try them all: spot-relay drill"),
        );
    }
    findings
}

fn denied((level, meaning): (Level, &'static str), subject: String, message: String) -> Finding {
    let found = format!("denied: {message}");
    let finding =
        if level == Level::Fail { Finding::fail("permission", found) } else { Finding::warn("permission", found) };
    finding.of(subject).meaning(meaning).remedy("allow it: spot-relay policy prints what, for this instance's role")
}

/// The consequence for a handover if this action is denied. `of_fleet`: its tags are the fleet's. `arrives`: this
/// instance registers itself.
fn consequence(action: &str, of_fleet: bool, arrives: bool) -> (Level, &'static str) {
    match name(action) {
        "DeregisterTargets" => {
            (Level::Fail, "this instance stays in its target groups to its end, and requests are cut")
        }
        "RegisterTargets" => {
            (Level::Fail, "this instance cannot come back into its target groups, and no successor is registered")
        }
        "DescribeTargetGroups" if arrives => (Level::Fail, "this instance is registered by nobody when it starts"),
        "DescribeTargetGroups" => (
            Level::Warn,
            "a target group that neither the owner nor target-groups names is not found, and a named one is waited for as behind \
             a Network Load Balancer",
        ),
        "DescribeTargetGroupAttributes" => {
            (Level::Warn, "the deregistration delay is not known, and 300 s are assumed")
        }
        "CreateTags" if of_fleet => {
            (Level::Fail, "the fleet is not raised, and replaces this instance once it is gone")
        }
        "DeleteTags" if of_fleet => (
            Level::Warn,
            "the tag spot-relay:base-capacity stays on the fleet, and a handover tries to take it off to its end",
        ),
        "CreateTags" => (
            Level::Warn,
            "without the tag spot-relay:leaving instances that go together do not know of each other: all may leave at once, \
             before a successor serves",
        ),
        "DeleteTags" => {
            (Level::Warn, "an instance that lives on keeps the tag spot-relay:leaving, and is taken for one that goes")
        }
        "DescribeLifecycleHooks" => {
            (Level::Warn, "the group counts as one without termination hooks: this instance is detached, and none runs")
        }
        "DescribeSpotInstanceRequests" => (
            Level::Warn,
            "whether a Spot request launches again is told by the launch template alone, and a fleet's members by their tags",
        ),
        "DescribeLaunchTemplateVersions" => {
            (Level::Warn, "the successor is launched from the template all the same, by the configuration alone")
        }
        "DescribeLoadBalancers" => (Level::Warn, "the successor may go to a zone that no load balancer serves"),
        "DescribeTags" => (Level::Warn, "ec2:DescribeInstances tells the owner instead, after one call in vain"),
        "DescribeSubnets" => (Level::Warn, "the successor's zone cannot be chosen well"),
        "DescribeInstanceTypes" => (
            Level::Warn,
            "the fleet counts memory, and is raised by one MiB for each member that goes: it may launch too few",
        ),
        "LaunchInstances" => (Level::Warn, "no successor is launched first: this instance leaves at once"),
        "AttachInstances" => (Level::Warn, "an instance that survives stays outside of its group"),
        "RecordLifecycleActionHeartbeat" => (Level::Warn, "the hook may time out before this instance is quiet"),
        "TerminateInstances" => (Level::Warn, "an instance that survives is paid for beside its successor"),
        _ => (Level::Fail, "a handover is not complete without it"),
    }
}
