//! The smallest IAM policy: each action that this program calls for a configuration and an owner, on as few resources
//! as IAM lets one name.
//!
//! Pure: what is not known is a wildcard or a placeholder that grants nothing. Invariant: an action stands here exactly
//! if a run can call it, or if IAM asks for it at another one's call ([`IN_PASSING`]). The whole-program tests compare
//! the policy with the calls, both ways. AWS's service authorization reference tells which actions can be limited to
//! which resources: <https://docs.aws.amazon.com/service-authorization/latest/reference/>.

mod arn_scope;
mod launch_source;
mod launching;
mod owner_needs;
mod statement;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::core::config::{Config, TargetGroups, Then};
use crate::core::model::TargetGroupArn;
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, LEAVING_TAG, Plan};

pub use arn_scope::ArnScope;
pub use launch_source::{LaunchSource, PassedRole, TemplateNames};
pub use launching::IN_PASSING;
use launching::LaunchedBy;
use owner_needs::ZONES_OF_LOAD_BALANCERS;
pub use owner_needs::{
    FleetNeeds, GroupNeeds, LaunchNeeds, OwnerKind, OwnerNeeds, held_by, launched_into, reads_on_the_way,
};
use statement::{Statement, allow};

/// The action that `[leave] when = "auto"` tries once, at a notice, in a group that does not replace by itself. The
/// policy grants it only if the configuration asks for it, because a refusal is an answer.
pub const TRIED: &str = "autoscaling:LaunchInstances";

/// The id of the instance that a call is about. Compared with the caller's instance, it limits a call to that instance
/// itself, with the credentials of its instance profile. IAM knows it at CreateTags and TerminateInstances, but not at
/// DeleteTags: there a statement that names it never matches.
const ITSELF: &str = "${ec2:InstanceId}";

const READS_OF_GROUP: [&str; 2] = ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeLifecycleHooks"];
const HOOKS: [&str; 2] = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"];

/// An IAM policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    pub statement: Vec<Statement>,
}

/// The subject of a policy: where the instance runs, who launches its successor, and its target groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub scope: ArnScope,
    pub needs: OwnerNeeds,
    /// ARNs of today's target groups, where the configuration lists none; empty: any.
    pub target_groups: Vec<String>,
    /// The reads that are needed in addition to the owner's: [`reads_on_the_way`].
    pub on_the_way: Vec<&'static str>,
    /// The Auto Scaling group that holds this instance and is not asked for a successor: [`held_by`].
    pub held_by: Option<String>,
}

impl Subject {
    /// Makes a subject with any target group, and with only what the owner needs.
    pub fn new(scope: ArnScope, needs: OwnerNeeds) -> Subject {
        Subject { scope, needs, target_groups: Vec::new(), on_the_way: Vec::new(), held_by: None }
    }
}

impl Policy {
    pub fn of(config: &Config, subject: &Subject) -> Policy {
        let Subject { scope, needs, target_groups, on_the_way, held_by } = subject;
        let of_holder = held_by.iter().flat_map(|_| READS_OF_GROUP);
        let reads = reads(needs).into_iter().chain(on_the_way.iter().copied()).chain(of_holder).collect();
        let mut statement = vec![
            allow("LookUp", reads, vec!["*".to_owned()]),
            allow("TargetGroups", registration(config, needs), groups(config, scope, target_groups)),
            mark(scope),
            unmark(scope),
        ];
        if config.survive.then == Then::Terminate {
            statement.push(about_itself(allow("EndItself", vec!["ec2:TerminateInstances"], instances(scope)), scope));
        }
        match needs {
            OwnerNeeds::Group(group) => {
                statement.extend(ask_group(config, group, scope));
                if group.launches_first() {
                    statement.extend(group.source.statements(LaunchedBy::TheGroup, scope));
                }
            }
            OwnerNeeds::Fleet(fleet) if fleet.raise => statement.extend(ask_fleet(fleet, scope)),
            OwnerNeeds::Launch(launch) => statement.extend(launch.source.statements(LaunchedBy::Us, scope)),
            OwnerNeeds::Fleet(_) | OwnerNeeds::Nobody => {}
        }
        let hooks = |name: &String| allow("SeeItsHooksThrough", HOOKS.to_vec(), vec![scope.group(name)]);
        statement.extend(held_by.as_ref().map(hooks));
        Policy { version: "2012-10-17", statement }
    }

    /// The actions, as `service:Action`, each once.
    pub fn actions(&self) -> BTreeSet<&'static str> {
        self.statement.iter().flat_map(|statement| statement.action.iter().copied()).collect()
    }
}

/// Lists calls of a drill's way back that this configuration's policy leaves out. `registered_in` are this instance's
/// target groups.
pub fn left_out_of_the_way_back(config: &Config, plan: &Plan, registered_in: &[TargetGroupArn]) -> Vec<&'static str> {
    let needs = OwnerNeeds::of_plan(plan, registered_in, config);
    let detaches = matches!(&needs, OwnerNeeds::Group(group) if group.detach);
    let called = [
        (!registered_in.is_empty(), "elasticloadbalancing:RegisterTargets"),
        (detaches, "autoscaling:AttachInstances"),
    ];
    // The actions do not depend on the scope.
    let (scope, target_groups, on_the_way) = (ArnScope::new(None, "*", "*"), Vec::new(), Vec::new());
    let subject = Subject { scope, needs, target_groups, on_the_way, held_by: None };
    let allowed = Policy::of(config, &subject).actions();
    called.into_iter().filter(|(is_called, action)| *is_called && !allowed.contains(action)).map(|it| it.1).collect()
}

/// The reads, on every resource: most of them cannot be restricted. If IAM refused a read because of a restriction that
/// it does not know there, that would cost the successor.
fn reads(needs: &OwnerNeeds) -> Vec<&'static str> {
    let mut actions = vec![
        "ec2:DescribeInstances",
        "ec2:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    match needs {
        OwnerNeeds::Group(group) => {
            actions.extend(READS_OF_GROUP);
            actions.extend(group.launches_first().then_some("ec2:DescribeLaunchTemplateVersions"));
            actions.extend(group.chooses_zones.then_some(ZONES_OF_LOAD_BALANCERS));
        }
        OwnerNeeds::Fleet(FleetNeeds { kind, counts_memory, .. }) => {
            actions.extend(match kind {
                FleetKind::Ec2 => ["ec2:DescribeFleets", "ec2:DescribeFleetInstances"],
                FleetKind::Spot => ["ec2:DescribeSpotFleetRequests", "ec2:DescribeSpotFleetInstances"],
            });
            actions.push("ec2:DescribeSpotInstanceRequests");
            actions.extend(counts_memory.then_some("ec2:DescribeInstanceTypes"));
        }
        OwnerNeeds::Launch(launch) => actions.extend(&launch.reads),
        OwnerNeeds::Nobody => {}
    }
    actions
}

/// The calls on target groups. RegisterTargets is for coming back, for arriving, and for a successor that its owner
/// does not register. It is also for serving on as the last target after the owner took this instance out.
fn registration(config: &Config, needs: &OwnerNeeds) -> Vec<&'static str> {
    let is_taken_out = matches!(needs, OwnerNeeds::Group(group) if group.detach || group.terminate);
    let registers =
        config.survive.then != Then::StayOut || config.arrive.register || needs.registers_successor() || is_taken_out;
    let mut actions = vec!["elasticloadbalancing:DeregisterTargets"];
    actions.extend(registers.then_some("elasticloadbalancing:RegisterTargets"));
    actions
}

fn groups(config: &Config, scope: &ArnScope, known: &[String]) -> Vec<String> {
    let named = |name: &str| match name {
        arn if arn.starts_with("arn:") => arn.to_owned(),
        name => scope.arn("elasticloadbalancing", &format!("targetgroup/{name}/*")),
    };
    let mut arns: Vec<String> = match &config.target_groups {
        TargetGroups::Listed(listed) => listed.iter().map(|it| named(&it.arn_or_name)).collect(),
        TargetGroups::Discover if known.is_empty() => vec![named("*")],
        TargetGroups::Discover => known.to_vec(),
    };
    arns.sort();
    arns.dedup();
    arns
}

fn instances(scope: &ArnScope) -> Vec<String> {
    vec![scope.arn("ec2", "instance/*")]
}

/// Allows an instance to set the leaving tag on itself.
fn mark(scope: &ArnScope) -> Statement {
    let statement = allow("MarkItself", vec!["ec2:CreateTags"], instances(scope));
    about_itself(only_tag(statement, LEAVING_TAG), scope)
}

/// Allows deleting the leaving tag. IAM cannot limit DeleteTags to the caller's own instance: it is limited to the tag.
fn unmark(scope: &ArnScope) -> Statement {
    only_tag(allow("Unmark", vec!["ec2:DeleteTags"], instances(scope)), LEAVING_TAG)
}

/// Limits the statement to this tag. The key has to be present: a request without any key would delete every tag.
fn only_tag(statement: Statement, key: &str) -> Statement {
    statement.when("ForAllValues:StringEquals", "aws:TagKeys", &[key]).with_key("aws:TagKeys")
}

fn about_itself(statement: Statement, scope: &ArnScope) -> Statement {
    let itself = scope.arn("ec2", &format!("instance/{ITSELF}"));
    statement.when("ArnLike", "ec2:SourceInstanceARN", &[&itself])
}

fn ask_group(config: &Config, group: &GroupNeeds, scope: &ArnScope) -> Option<Statement> {
    let mut actions = Vec::new();
    if group.detach {
        actions.push("autoscaling:DetachInstances");
        actions.extend((config.survive.then != Then::StayOut).then_some("autoscaling:AttachInstances"));
    }
    if group.terminate {
        actions.push("autoscaling:TerminateInstanceInAutoScalingGroup");
    }
    if group.launches_first() {
        actions.push(TRIED);
    }
    if group.launch_hooks && (group.detach || group.terminate) {
        actions.push("autoscaling:CompleteLifecycleAction");
    }
    if group.hooks && (group.terminate || config.watch.lifecycle) {
        actions.extend(HOOKS);
    }
    let arn = group.arn.clone();
    (!actions.is_empty()).then(|| allow("AskTheGroup", actions, vec![arn.unwrap_or_else(|| scope.group("*"))]))
}

fn ask_fleet(fleet: &FleetNeeds, scope: &ArnScope) -> [Statement; 2] {
    let (modify, resource) = match fleet.kind {
        FleetKind::Ec2 => ("ec2:ModifyFleet", "fleet"),
        FleetKind::Spot => ("ec2:ModifySpotFleetRequest", "spot-fleet-request"),
    };
    let id = fleet.id.as_deref().unwrap_or("*");
    let resource = vec![scope.arn("ec2", &format!("{resource}/{id}"))];
    let tags = allow("NoteTheFleetsCapacity", vec!["ec2:CreateTags", "ec2:DeleteTags"], resource.clone());
    [allow("AskTheFleet", vec![modify], resource), only_tag(tags, BASE_CAPACITY_TAG)]
}

#[cfg(test)]
mod tests;
