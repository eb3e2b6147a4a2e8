//! The smallest IAM policy: each action that this program calls for a configuration and an owner, on as few resources as
//! IAM lets one name.
//!
//! Pure: what is not known is a wildcard or a placeholder that grants nothing. Invariant: an action stands here exactly if
//! a run can call it, or if IAM asks for it at another one's call ([`IN_PASSING`]); the whole-program tests compare the
//! policy with the calls that were made, both ways. Which actions can be held to which resources is what AWS's service
//! authorization reference says: <https://docs.aws.amazon.com/service-authorization/latest/reference/>.

mod means;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::core::config::{Config, Rebalance, ScheduledEvents, TargetGroups, Then, When};
use crate::core::model::TargetGroupArn;
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, LEAVING_TAG, PREDECESSOR_TAG, Plan};

pub use means::{FleetMeans, GroupMeans, Kind, LaunchMeans, Means, PassedRole};

/// Actions that IAM asks for at CreateFleet, and that nobody calls by name.
pub const IN_PASSING: [&str; 2] = ["ec2:RunInstances", "iam:PassRole"];

/// The action that `[leave] when = "auto"` tries once, at a notice, in a group that does not replace by itself, and that
/// the policy grants only where the configuration asks for it: its refusal is an answer.
pub const TRIED: &str = "autoscaling:LaunchInstances";

/// An instance's own ARN, by the instance that the call is about: true of calls of an instance about itself alone, with
/// the credentials of its instance profile.
const ITSELF: &str = "${ec2:InstanceId}";

type Conditions = BTreeMap<&'static str, BTreeMap<String, Vec<String>>>;

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

/// Whose policy: where it runs, who launches its successor, and the target groups it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub place: Place,
    pub means: Means,
    /// ARNs of today's target groups, where the configuration lists none; empty: any.
    pub target_groups: Vec<String>,
}

/// What stands in every ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    partition: &'static str,
    region: String,
    account: String,
}

impl Place {
    /// `*` stands for any region or account.
    pub fn new(region: &str, account: &str) -> Place {
        let partition = match region.split('-').next() {
            Some("cn") => "aws-cn",
            _ if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        Place { partition, region: region.to_owned(), account: account.to_owned() }
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition, self.region, self.account)
    }

    /// Of resources that belong to no account: images, snapshots.
    fn ec2_without_account(&self, resource: &str) -> String {
        format!("arn:{}:ec2:{}::{resource}", self.partition, self.region)
    }

    /// Of an Auto Scaling group by its name, whatever its own id.
    fn group(&self, name: &str) -> String {
        self.arn("autoscaling", &format!("autoScalingGroup:*:autoScalingGroupName/{name}"))
    }

    /// Of a role without a path.
    pub fn role(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:role/{name}", self.partition, self.account)
    }

    /// The service that runs what is launched.
    fn ec2_service(&self) -> &'static str {
        if self.partition == "aws-cn" { "ec2.amazonaws.com.cn" } else { "ec2.amazonaws.com" }
    }
}

impl Policy {
    pub fn of(config: &Config, subject: &Subject) -> Policy {
        let Subject { place, means, target_groups } = subject;
        let mut statement = vec![
            allow("LookUp", reads(means), vec!["*".to_owned()]),
            allow("TargetGroups", registration(config, means), groups(config, place, target_groups)),
            mark(place),
        ];
        if config.survive.then == Then::Terminate {
            statement.push(about_itself(allow("EndItself", vec!["ec2:TerminateInstances"], instances(place)), place));
        }
        match means {
            Means::Group(group) => statement.extend(ask_group(config, group, place)),
            Means::Fleet(fleet) if fleet.raise => statement.extend(ask_fleet(fleet, place)),
            Means::Launch(launch) => statement.extend(launching(launch, place)),
            Means::Fleet(_) | Means::Nobody => {}
        }
        Policy { version: "2012-10-17", statement }
    }

    /// `service:Action`, each once.
    pub fn actions(&self) -> BTreeSet<&'static str> {
        self.statement.iter().flat_map(|statement| statement.action.iter().copied()).collect()
    }
}

/// What the way back of a drill calls and this configuration's policy leaves out. `registered_in` are this instance's target
/// groups.
pub fn left_out_of_the_way_back(config: &Config, plan: &Plan, registered_in: &[TargetGroupArn]) -> Vec<&'static str> {
    let means = Means::of_plan(plan, registered_in, config);
    let detaches = matches!(&means, Means::Group(group) if group.detach);
    let called = [
        (!registered_in.is_empty(), "elasticloadbalancing:RegisterTargets"),
        (detaches, "autoscaling:AttachInstances"),
    ];
    // Actions are the same everywhere.
    let subject = Subject { place: Place::new("*", "*"), means, target_groups: Vec::new() };
    let allowed = Policy::of(config, &subject).actions();
    called.into_iter().filter(|(is_called, action)| *is_called && !allowed.contains(action)).map(|it| it.1).collect()
}

impl Statement {
    fn when(mut self, operator: &'static str, key: &str, values: &[&str]) -> Statement {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.condition.entry(operator).or_default().insert(key.to_owned(), values);
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
        Means::Group(_) => {
            actions.extend(["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeLifecycleHooks"]);
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

/// The tag of one that goes, on and off. A request that names no tag at all would take off every one.
fn mark(place: &Place) -> Statement {
    let statement = allow("MarkItself", vec!["ec2:CreateTags", "ec2:DeleteTags"], instances(place));
    about_itself(only_tag(statement, LEAVING_TAG), place)
}

fn only_tag(statement: Statement, key: &str) -> Statement {
    statement.when("ForAllValues:StringEquals", "aws:TagKeys", &[key]).when("Null", "aws:TagKeys", &["false"])
}

fn about_itself(statement: Statement, place: &Place) -> Statement {
    let itself = place.arn("ec2", &format!("instance/{ITSELF}"));
    statement.when("ArnLike", "ec2:SourceInstanceARN", &[&itself])
}

fn ask_group(config: &Config, group: &GroupMeans, place: &Place) -> Option<Statement> {
    let launches_first = config.leave.when == When::SuccessorHealthy
        || config.watch.rebalance == Rebalance::HandOver
        || config.watch.scheduled_events == ScheduledEvents::HandOver;
    let mut actions = Vec::new();
    if group.detach {
        actions.push("autoscaling:DetachInstances");
        actions.extend((config.survive.then != Then::StayOut).then_some("autoscaling:AttachInstances"));
    }
    if group.terminate {
        actions.push("autoscaling:TerminateInstanceInAutoScalingGroup");
    }
    if launches_first && (group.detach || group.terminate) {
        actions.push(TRIED);
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

/// CreateFleet of type `instant`, which EC2 allows to whom it allows RunInstances. What is launched has to bear the tag of
/// its predecessor.
fn launching(launch: &LaunchMeans, place: &Place) -> Vec<Statement> {
    let call = || vec!["ec2:CreateFleet", "ec2:RunInstances"];
    let ec2 = |resource: &str| place.arn("ec2", resource);
    let each = |kind: &str, ids: &[String]| -> Vec<String> {
        let ids = if ids.is_empty() { vec!["*".to_owned()] } else { ids.to_vec() };
        ids.iter().map(|id| ec2(&format!("{kind}/{id}"))).collect()
    };
    let mut from = each("launch-template", &launch.templates);
    from.extend(each("subnet", &launch.subnets));
    from.extend(["image/*", "snapshot/*"].map(|resource| place.ec2_without_account(resource)));
    // Whatever a template may name beside these.
    from.extend(["key-pair/*", "network-interface/*", "placement-group/*", "security-group/*"].map(ec2));
    from.extend(["spot-instances-request/*", "volume/*"].map(ec2));
    let made = vec![ec2("fleet/*"), ec2("instance/*")];
    let tagged = [made.clone(), ["network-interface/*", "spot-instances-request/*", "volume/*"].map(ec2).to_vec()];
    let predecessor = format!("aws:RequestTag/{PREDECESSOR_TAG}");
    let mut statements = vec![
        allow("LaunchFrom", call(), from),
        allow("LaunchSuccessors", call(), made).when("StringLike", &predecessor, &["i-*"]),
        allow("TagWhatIsLaunched", vec!["ec2:CreateTags"], tagged.concat()).when(
            "StringEquals",
            "ec2:CreateAction",
            &["CreateFleet", "RunInstances"],
        ),
    ];
    let roles = match &launch.role {
        PassedRole::None => return statements,
        PassedRole::Unknown => vec![place.role(PassedRole::PLACEHOLDER)],
        // Its path, if it has one, is not told.
        PassedRole::Named(name) => vec![place.role(name), place.role(&format!("*/{name}"))],
    };
    let pass = allow("PassTheTemplatesRole", vec!["iam:PassRole"], roles);
    statements.push(pass.when("StringEquals", "iam:PassedToService", &[place.ec2_service()]));
    statements
}

#[cfg(test)]
mod tests;
