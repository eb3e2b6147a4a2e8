//! Every permission that the policy names, tried truly: reads by reading, EC2's writes with DryRun, the others by asking IAM
//! where that is allowed. Nothing is written, and what cannot be tried is said.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use tokio::task::JoinSet;

use super::aws::Asked;
use super::finding::{Finding, Level};
use crate::cloud::LIMIT;
use crate::core::model::{FleetChange, InstantFleet, Registration, TargetGroupArn};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, FleetRequest, LEAVING_TAG, Plan};
use crate::core::policy::{Means, Place, Policy, Subject};
use crate::core::retry::{Failure, FailureKind};

/// An action, on what, and what IAM says of it.
struct Trial {
    action: &'static str,
    /// Where one action is tried on several.
    on: Option<String>,
    verdict: Verdict,
}

enum Verdict {
    /// And how that is known.
    Allowed(&'static str),
    Denied(String),
    Unknown(String),
}

type Trying = Pin<Box<dyn Future<Output = Vec<Trial>> + Send>>;

const PASS_ROLE: &str = "iam:PassRole";

pub(super) async fn look(asked: &Asked, plan: Option<&Plan>, registrations: Option<&[Registration]>) -> Vec<Finding> {
    let registered_in: Vec<TargetGroupArn> =
        registrations.unwrap_or_default().iter().map(|registration| registration.target_group.clone()).collect();
    let means = plan.map_or(Means::Nobody, |plan| Means::of_plan(plan, &registered_in, &asked.config));
    let place = Place::new(&asked.aws.region, &asked.identity.account_id);
    let target_groups = registered_in.iter().map(ToString::to_string).collect();
    let policy = Policy::of(&asked.config, &Subject { place: place.clone(), means, target_groups });
    let mut tries = JoinSet::new();
    for trying in dry_runs(asked, &policy, plan) {
        tries.spawn(trying);
    }
    tries.spawn(reads(asked.clone(), policy.clone(), plan.cloned()));
    tries.spawn(by_simulation(asked.clone(), policy.clone(), place));
    let mut trials: Vec<Trial> = Vec::new();
    while let Some(done) = tries.join_next().await {
        trials.extend(done.unwrap_or_default());
    }
    trials.sort_by(|a, b| (a.action, &a.on).cmp(&(b.action, &b.on)));
    findings(trials)
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

/// Most were made by the look-ups; the others are made here.
async fn reads(asked: Asked, policy: Policy, plan: Option<Plan>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for action in policy.actions().into_iter().filter(|action| is_read(action)) {
        if asked.heard.is_allowed(name(action)).is_none() {
            read(&asked, name(action), plan.as_ref()).await;
        }
        let verdict = match asked.heard.is_allowed(name(action)) {
            Some(true) => Verdict::Allowed("it was read"),
            Some(false) => Verdict::Denied("IAM allows no such call".to_owned()),
            None => Verdict::Unknown("there was nothing to read with it, or no answer".to_owned()),
        };
        trials.push(Trial { action, on: None, verdict });
    }
    trials
}

/// One call of this action, for what IAM says of it.
async fn read(asked: &Asked, action: &str, plan: Option<&Plan>) {
    let Asked { aws, identity, .. } = asked;
    match (action, plan) {
        ("DescribeTags", _) => drop(aws.instances.describe_tags(identity.instance_id.as_str(), LIMIT).await),
        ("DescribeSubnets", _) => drop(aws.instances.describe_subnets(&[], LIMIT).await),
        (
            "DescribeFleetInstances" | "DescribeSpotInstanceRequests",
            Some(Plan::Fleet { kind: FleetKind::Ec2, fleet, .. }),
        ) => {
            drop(aws.ec2_fleet.fleet_members(&fleet.id, LIMIT).await);
        }
        (_, Some(Plan::Fleet { kind: FleetKind::Spot, fleet, .. })) if action.contains("Spot") => {
            drop(aws.spot_fleet.spot_fleet_members(&fleet.id, LIMIT).await);
        }
        _ => {}
    }
}

fn trying(
    action: &'static str,
    on: Option<String>,
    call: impl Future<Output = Result<(), Failure>> + Send + 'static,
) -> Trying {
    Box::pin(async move { vec![Trial { action, on, verdict: verdict(call.await, "tried with DryRun") }] })
}

/// EC2's writes, each as the daemon would make it.
fn dry_runs(asked: &Asked, policy: &Policy, plan: Option<&Plan>) -> Vec<Trying> {
    let Asked { aws, identity, .. } = asked;
    let us = identity.instance_id.clone();
    let fleet = match plan {
        Some(Plan::Fleet { fleet, how: FleetRequest::Raise, kind }) => Some((*kind, fleet.clone())),
        _ => None,
    };
    let mut tries: Vec<Trying> = tag_both(asked, us.to_string(), LEAVING_TAG, None);
    if let Some((kind, fleet)) = fleet {
        tries.extend(tag_both(asked, fleet.id.clone(), BASE_CAPACITY_TAG, Some(fleet.id.clone())));
        if kind == FleetKind::Ec2 {
            let (aws, capacity) = (aws.clone(), fleet.capacity);
            tries.push(trying("ec2:ModifyFleet", None, async move {
                let change = FleetChange { total: Some(capacity.total), spot: capacity.spot, excess: None };
                aws.ec2_fleet.modify_fleet_dry_run(&fleet.id, change, LIMIT).await
            }));
        }
    }
    if policy.actions().contains("ec2:TerminateInstances") {
        let aws = aws.clone();
        let call = async move { aws.instances.terminate_instances_dry_run(&us, LIMIT).await };
        tries.push(trying("ec2:TerminateInstances", None, call));
    }
    if let Some(Plan::Launch(launch)) = plan
        && let Some(attempt) = launch.attempts.first()
    {
        let (of_fleet, of_launch) = (aws.clone(), aws.clone());
        let (fleet, wanted) = (attempt.clone(), attempt.clone());
        tries.push(trying("ec2:CreateFleet", None, async move {
            of_fleet.launch_templates.create_fleet_dry_run(&fleet, LIMIT).await
        }));
        let passes = policy.actions().contains(PASS_ROLE);
        tries.push(Box::pin(async move { launching(&of_launch, &wanted, passes).await }));
    }
    tries
}

fn tag_both(asked: &Asked, resource: String, key: &'static str, on: Option<String>) -> Vec<Trying> {
    let (creating, deleting) = (asked.aws.clone(), asked.aws.clone());
    let other = resource.clone();
    vec![
        trying("ec2:CreateTags", on.clone(), async move {
            creating.instances.create_tags_dry_run(&resource, &[(key, "check")], LIMIT).await
        }),
        trying(
            "ec2:DeleteTags",
            on,
            async move { deleting.instances.delete_tags_dry_run(&other, &[key], LIMIT).await },
        ),
    ]
}

/// RunInstances is never called; EC2 asks IAM for it, and for the template's role, when a fleet launches.
async fn launching(aws: &crate::cloud::Aws, wanted: &InstantFleet, passes: bool) -> Vec<Trial> {
    let answer = aws.launch_templates.run_instances_dry_run(wanted, LIMIT).await;
    let of = |action, verdict| Trial { action, on: None, verdict };
    let not_reached = || Verdict::Unknown("EC2 did not come so far".to_owned());
    let mut trials = match answer {
        Err(failure) if failure.kind == FailureKind::Denied && failure.message.contains(PASS_ROLE) => {
            vec![of("ec2:RunInstances", not_reached()), of(PASS_ROLE, Verdict::Denied(failure.to_string()))]
        }
        Err(failure) => vec![of("ec2:RunInstances", verdict(Err(failure), "")), of(PASS_ROLE, not_reached())],
        Ok(()) => ["ec2:RunInstances", PASS_ROLE].map(|it| of(it, verdict(Ok(()), "tried with DryRun"))).into(),
    };
    trials.retain(|trial| trial.action != PASS_ROLE || passes);
    trials
}

/// What can be told without doing it by IAM alone. The role is asked for by its name: its path is not told.
async fn by_simulation(asked: Asked, policy: Policy, place: Place) -> Vec<Trial> {
    let has_dry_run = |action: &str| action.starts_with("ec2:") && action != "ec2:ModifySpotFleetRequest";
    let role = asked.imds.role().await.ok().flatten();
    let mut trials = Vec::new();
    for statement in &policy.statement {
        let actions = statement.action.iter().copied();
        let actions: Vec<&'static str> =
            actions.filter(|action| !is_read(action) && !has_dry_run(action) && *action != PASS_ROLE).collect();
        if actions.is_empty() {
            continue;
        }
        let answer = match &role {
            None => Err(Failure::unanswered("there is no instance profile's role to ask IAM about")),
            Some(role) => {
                let role = place.role(role);
                asked.aws.iam.simulate_principal_policy(&role, &actions, &statement.resource, LIMIT).await
            }
        };
        trials.extend(actions.into_iter().map(|action| Trial {
            action,
            on: None,
            verdict: simulated(&answer, action),
        }));
    }
    trials
}

fn simulated(answer: &Result<BTreeMap<String, bool>, Failure>, action: &str) -> Verdict {
    match answer.as_ref().map(|allowed| allowed.get(action)) {
        Ok(Some(true)) => Verdict::Allowed("IAM says so"),
        Ok(Some(false)) => Verdict::Denied("IAM says that it would be denied".to_owned()),
        Ok(None) => Verdict::Unknown("IAM says nothing of it".to_owned()),
        Err(failure) => Verdict::Unknown(failure.to_string()),
    }
}

fn findings(trials: Vec<Trial>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut untried, mut why) = (Vec::new(), None);
    for Trial { action, on, verdict } in trials {
        let subject = on.map_or_else(|| action.to_owned(), |on| format!("{action} on {on}"));
        match verdict {
            Verdict::Allowed(how) => findings.push(Finding::ok("permission", format!("allowed: {how}")).of(subject)),
            Verdict::Denied(message) => findings.push(denied(action, subject, message)),
            Verdict::Unknown(reason) => {
                untried.push(subject);
                why.get_or_insert(reason);
            }
        }
    }
    if !untried.is_empty() {
        let found = format!("cannot be tried without doing it: {}", untried.join(", "));
        findings.push(
            Finding::warn("permission-untried", found)
                .means(format!("whether they are allowed shows at the notice only ({})", why.unwrap_or_default()))
                .remedy("allow iam:SimulatePrincipalPolicy on this role while you check, or try them for once: spot-relay drill"),
        );
    }
    findings
}

fn denied(action: &str, subject: String, message: String) -> Finding {
    let (level, means) = consequence(action);
    let found = format!("denied: {message}");
    let finding =
        if level == Level::Fail { Finding::fail("permission", found) } else { Finding::warn("permission", found) };
    finding.of(subject).means(means).remedy("allow it: spot-relay policy prints what, for this instance's role")
}

/// What a handover is without this action.
fn consequence(action: &str) -> (Level, &'static str) {
    match name(action) {
        "DeregisterTargets" => (Level::Fail, "this instance stays in its target groups to its end: requests are cut"),
        "RegisterTargets" => (Level::Fail, "no target group is come back to, and a successor is not registered"),
        "DescribeTargetGroupAttributes" => (Level::Warn, "the deregistration delay is not known, and taken for 300 s"),
        "CreateTags" | "DeleteTags" => (Level::Warn, "nothing tells other tools that this instance goes, or lives on"),
        "DescribeSubnets" => (Level::Warn, "the successor's zone cannot be chosen well"),
        "LaunchInstances" => (Level::Warn, "no successor is launched first: this instance leaves at once"),
        "AttachInstances" => (Level::Warn, "an instance that lives on after all stays outside of its group"),
        "RecordLifecycleActionHeartbeat" => (Level::Warn, "the hook may time out before this instance is quiet"),
        "TerminateInstances" => (Level::Warn, "an instance that lives on is paid for beside its successor"),
        _ => (Level::Fail, "a handover is not complete without it"),
    }
}
