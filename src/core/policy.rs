//! The smallest IAM policy: each action that this program calls for a configuration and an owner, on as few resources as
//! IAM lets one name.
//!
//! Pure: what is not known is a wildcard or a placeholder that grants nothing. Invariant: an action stands here exactly if
//! a run can call it, or if IAM asks for it at another one's call ([`IN_PASSING`]); the whole-program tests compare the
//! policy with the calls that were made, both ways. Which actions can be held to which resources is what AWS's service
//! authorization reference says: <https://docs.aws.amazon.com/service-authorization/latest/reference/>.

mod launching;
mod means;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::core::config::{Config, TargetGroups, Then};
use crate::core::model::TargetGroupArn;
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, LEAVING_TAG, Plan};

use launching::Caller;
pub use launching::{IN_PASSING, LaunchSource, TemplateNames};
pub use means::{FleetMeans, GroupMeans, Kind, LaunchMeans, Means, PassedRole};

/// The action that `[leave] when = "auto"` tries once, at a notice, in a group that does not replace by itself, and that
/// the policy grants only where the configuration asks for it: its refusal is an answer.
pub const TRIED: &str = "autoscaling:LaunchInstances";

/// The id of the instance that a call is about. Compared with the instance from which the call comes, it is true of calls of
/// an instance about itself alone, with the credentials of its instance profile. IAM knows it at CreateTags and at
/// TerminateInstances, and not at DeleteTags: there a statement that names it never matches.
const ITSELF: &str = "${ec2:InstanceId}";

type Conditions = BTreeMap<&'static str, BTreeMap<String, Values>>;

/// The values of a condition key, any of which may match. IAM takes both spellings; linters want operators that ask yes or
/// no (`Null`, `Bool`) with one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Values {
    One(&'static str),
    Any(Vec<String>),
}

/// As IAM takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    pub statement: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    pub sid: &'static str,
    effect: &'static str,
    pub action: Vec<&'static str>,
    pub resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub condition: Conditions,
}

/// The subject of a policy: where the instance runs, who launches its successor, and its target groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub place: Place,
    pub means: Means,
    /// ARNs of today's target groups, where the configuration lists none; empty: any.
    pub target_groups: Vec<String>,
}

/// The parts of every ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    partition: String,
    region: String,
    account: String,
}

/// AWS's partitions beside the standard one, by how the names of their regions begin.
const PARTITIONS: [(&str, &str); 7] = [
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("eusc-", "aws-eusc"),
    ("us-iso-", "aws-iso"),
    ("us-isob-", "aws-iso-b"),
    ("eu-isoe-", "aws-iso-e"),
    ("us-isof-", "aws-iso-f"),
];

impl Place {
    /// `*` stands for any region or account. Without a partition the region's name tells it.
    pub fn new(partition: Option<&str>, region: &str, account: &str) -> Place {
        let by_region = || PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |it| it.1);
        let partition = partition.unwrap_or_else(by_region).to_owned();
        Place { partition, region: region.to_owned(), account: account.to_owned() }
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition, self.region, self.account)
    }

    /// The ARN of resources that belong to no account: images, snapshots.
    fn ec2_without_account(&self, resource: &str) -> String {
        format!("arn:{}:ec2:{}::{resource}", self.partition, self.region)
    }

    /// The ARN of an Auto Scaling group by its name, whatever its own id.
    fn group(&self, name: &str) -> String {
        self.arn("autoscaling", &format!("autoScalingGroup:*:autoScalingGroupName/{name}"))
    }

    /// The ARN of a role without a path.
    pub fn role(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:role/{name}", self.partition, self.account)
    }

    /// The service that runs what is launched. In China both spellings of it occur.
    fn ec2_service(&self) -> &'static [&'static str] {
        match self.partition.as_str() {
            "aws-cn" => &["ec2.amazonaws.com", "ec2.amazonaws.com.cn"],
            _ => &["ec2.amazonaws.com"],
        }
    }
}

impl Policy {
    pub fn of(config: &Config, subject: &Subject) -> Policy {
        let Subject { place, means, target_groups } = subject;
        let mut statement = vec![
            allow("LookUp", reads(means), vec!["*".to_owned()]),
            allow("TargetGroups", registration(config, means), groups(config, place, target_groups)),
            mark(place),
            unmark(place),
        ];
        if config.survive.then == Then::Terminate {
            statement.push(about_itself(allow("EndItself", vec!["ec2:TerminateInstances"], instances(place)), place));
        }
        match means {
            Means::Group(group) => {
                statement.extend(ask_group(config, group, place));
                if group.launches_first() {
                    statement.extend(group.source.statements(Caller::TheGroup, place));
                }
            }
            Means::Fleet(fleet) if fleet.raise => statement.extend(ask_fleet(fleet, place)),
            Means::Launch(launch) => statement.extend(launch.source.statements(Caller::Us, place)),
            Means::Fleet(_) | Means::Nobody => {}
        }
        Policy { version: "2012-10-17", statement }
    }

    /// `service:Action`, each once.
    pub fn actions(&self) -> BTreeSet<&'static str> {
        self.statement.iter().flat_map(|statement| statement.action.iter().copied()).collect()
    }
}

/// Lists calls of a drill's way back that this configuration's policy leaves out. `registered_in` are this instance's target
/// groups.
pub fn left_out_of_the_way_back(config: &Config, plan: &Plan, registered_in: &[TargetGroupArn]) -> Vec<&'static str> {
    let means = Means::of_plan(plan, registered_in, config);
    let detaches = matches!(&means, Means::Group(group) if group.detach);
    let called = [
        (!registered_in.is_empty(), "elasticloadbalancing:RegisterTargets"),
        (detaches, "autoscaling:AttachInstances"),
    ];
    // Actions are the same everywhere.
    let subject = Subject { place: Place::new(None, "*", "*"), means, target_groups: Vec::new() };
    let allowed = Policy::of(config, &subject).actions();
    called.into_iter().filter(|(is_called, action)| *is_called && !allowed.contains(action)).map(|it| it.1).collect()
}

impl Statement {
    fn when(mut self, operator: &'static str, key: &str, values: &[&str]) -> Statement {
        let values = Values::Any(values.iter().map(|value| (*value).to_owned()).collect());
        self.condition.entry(operator).or_default().insert(key.to_owned(), values);
        self
    }

    /// The key has to be in the request.
    fn with_key(mut self, key: &str) -> Statement {
        self.condition.entry("Null").or_default().insert(key.to_owned(), Values::One("false"));
        self
    }
}

fn allow(sid: &'static str, mut action: Vec<&'static str>, resource: Vec<String>) -> Statement {
    action.sort_unstable();
    action.dedup();
    Statement { sid, effect: "Allow", action, resource, condition: Conditions::new() }
}

/// On every resource: most of these cannot be held to any, and a read that is refused for a resource that IAM does not know
/// of there would cost the successor.
fn reads(means: &Means) -> Vec<&'static str> {
    let mut actions = vec![
        "ec2:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    ];
    match means {
        Means::Group(group) => {
            actions.extend(["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeLifecycleHooks"]);
            actions.extend(group.launches_first().then_some("ec2:DescribeLaunchTemplateVersions"));
        }
        Means::Fleet(FleetMeans { kind: FleetKind::Ec2, .. }) => {
            actions.extend(["ec2:DescribeFleets", "ec2:DescribeFleetInstances", "ec2:DescribeSpotInstanceRequests"]);
        }
        Means::Fleet(FleetMeans { kind: FleetKind::Spot, .. }) => actions.extend([
            "ec2:DescribeSpotFleetRequests",
            "ec2:DescribeSpotFleetInstances",
            "ec2:DescribeSpotInstanceRequests",
        ]),
        Means::Launch(launch) => actions.extend(&launch.reads),
        Means::Nobody => {}
    }
    if *means != Means::Nobody {
        actions.push("ec2:DescribeInstances");
    }
    actions
}

/// Registering is coming back, arriving, or the successor where its owner does not.
fn registration(config: &Config, means: &Means) -> Vec<&'static str> {
    let registers = config.survive.then != Then::StayOut || config.arrive.register || means.registers_successor();
    let mut actions = vec!["elasticloadbalancing:DeregisterTargets"];
    actions.extend(registers.then_some("elasticloadbalancing:RegisterTargets"));
    actions
}

fn groups(config: &Config, place: &Place, known: &[String]) -> Vec<String> {
    let named = |name: &str| match name {
        arn if arn.starts_with("arn:") => arn.to_owned(),
        name => place.arn("elasticloadbalancing", &format!("targetgroup/{name}/*")),
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

fn instances(place: &Place) -> Vec<String> {
    vec![place.arn("ec2", "instance/*")]
}

/// The tag of an instance that goes.
fn mark(place: &Place) -> Statement {
    let statement = allow("MarkItself", vec!["ec2:CreateTags"], instances(place));
    about_itself(only_tag(statement, LEAVING_TAG), place)
}

/// The same tag off again. IAM cannot hold DeleteTags to the caller's own instance: it is held to this tag alone.
fn unmark(place: &Place) -> Statement {
    only_tag(allow("Unmark", vec!["ec2:DeleteTags"], instances(place)), LEAVING_TAG)
}

/// A request that names no tag at all would take off every one.
fn only_tag(statement: Statement, key: &str) -> Statement {
    statement.when("ForAllValues:StringEquals", "aws:TagKeys", &[key]).with_key("aws:TagKeys")
}

fn about_itself(statement: Statement, place: &Place) -> Statement {
    let itself = place.arn("ec2", &format!("instance/{ITSELF}"));
    statement.when("ArnLike", "ec2:SourceInstanceARN", &[&itself])
}

fn ask_group(config: &Config, group: &GroupMeans, place: &Place) -> Option<Statement> {
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
        actions.extend(["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]);
    }
    let arn = group.arn.clone();
    (!actions.is_empty()).then(|| allow("AskTheGroup", actions, vec![arn.unwrap_or_else(|| place.group("*"))]))
}

fn ask_fleet(fleet: &FleetMeans, place: &Place) -> [Statement; 2] {
    let (modify, resource) = match fleet.kind {
        FleetKind::Ec2 => ("ec2:ModifyFleet", "fleet"),
        FleetKind::Spot => ("ec2:ModifySpotFleetRequest", "spot-fleet-request"),
    };
    let id = fleet.id.as_deref().unwrap_or("*");
    let resource = vec![place.arn("ec2", &format!("{resource}/{id}"))];
    let tags = allow("NoteTheFleetsCapacity", vec!["ec2:CreateTags", "ec2:DeleteTags"], resource.clone());
    [allow("AskTheFleet", vec![modify], resource), only_tag(tags, BASE_CAPACITY_TAG)]
}

#[cfg(test)]
mod tests;
