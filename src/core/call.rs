//! The exchange between core and daemon: calls and their answers.
//!
//! A variant that is one exchange has the name of its API action. These are data: the core decides, the daemon
//! performs.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::model::{
    CapacityUnit, Connections, ExcessCapacity, Fleet, FleetMember, GroupState, Instance, InstanceId, InstantFleet,
    Launched, LifecycleHook, Readiness, Registration, SingleLaunch, Target, TargetGroupArn, TargetHealth, TargetZone,
    ports_in_words,
};
use crate::core::plan::{FleetKind, Plan};
use crate::core::retry::{Failure, FailureKind};
use crate::core::words::words;

/// The limit of a look at a group's settings, for which a launch waits.
const SETTINGS_LIMIT: Duration = Duration::from_secs(2);
/// The limit of one call; shorter when the deadline is nearer.
pub const CALL_LIMIT: Duration = Duration::from_secs(3);
/// The limit of a look-up, which may ask page by page.
pub(crate) const LOOK_UP_LIMIT: Duration = Duration::from_secs(20);
/// The limit of a call that answers once the launch has been made, which takes seconds.
pub const LAUNCH_LIMIT: Duration = Duration::from_secs(20);

/// A call that is to be begun now, or a look at something local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Finds this instance's targets in the target groups `among`; without them where the configuration says, else
    /// everywhere.
    FindRegistrations {
        among: Option<Vec<TargetGroupArn>>,
        /// A process whose record is lost may have left some of them, so this instance counts as a target of each.
        may_have_left: bool,
    },
    FindPlan,
    /// Finds the Auto Scaling group that the tags name, with its present hooks, whoever launches a successor.
    FindGroup,
    DeregisterTargets {
        target_group: TargetGroupArn,
        targets: Vec<Target>,
        zone: TargetZone,
    },
    RegisterTargets {
        target_group: TargetGroupArn,
        targets: Vec<Target>,
        zone: TargetZone,
    },
    /// Asks for a row for each of these targets, in the group or not; without any, for every target of the group.
    DescribeTargetHealth {
        target_group: TargetGroupArn,
        targets: Vec<Target>,
        zone: TargetZone,
    },
    LookAtConnections {
        ports: BTreeSet<u16>,
        quiet_for: Duration,
    },
    DetachInstances {
        group: String,
        decrement: bool,
    },
    TerminateInstanceInAutoScalingGroup {
        decrement: bool,
    },
    LaunchInstances {
        group: String,
        client_token: String,
        /// The capacity of one instance in the group's units.
        capacity: i32,
        /// AWS takes one zone, and wants it named where the group has several.
        availability_zone: Option<String>,
    },
    CompleteLifecycleAction {
        group: String,
        hook: String,
        result: HookResult,
    },
    RecordLifecycleActionHeartbeat {
        group: String,
        hook: String,
    },
    DescribeFleet {
        kind: FleetKind,
        fleet_id: String,
    },
    DescribeFleetMembers {
        kind: FleetKind,
        fleet_id: String,
        /// The unit on which a member's weight depends.
        unit: CapacityUnit,
    },
    /// Describes every instance that the fleet has launched, also those that it has lost.
    DescribeInstancesOfFleet {
        kind: FleetKind,
        fleet_id: String,
    },
    TagFleet {
        fleet_id: String,
        key: String,
        value: String,
    },
    UntagFleet {
        fleet_id: String,
        key: String,
    },
    ModifyFleet {
        kind: FleetKind,
        fleet_id: String,
        total: i32,
        spot: Option<i32>,
        unit: CapacityUnit,
        /// `None` leaves the policy as it is.
        excess: Option<ExcessCapacity>,
    },
    CreateFleet {
        client_token: String,
        fleet: InstantFleet,
    },
    RunInstances {
        client_token: String,
        launch: Box<SingleLaunch>,
    },
    DescribeInstances {
        instance_ids: Vec<InstanceId>,
    },
    /// Finds the instances of this instance's VPC that hold these private addresses.
    DescribeInstancesByAddress {
        addresses: Vec<String>,
    },
    /// Finds the instances that were launched in the place of this one.
    DescribeSuccessorsByTag(InstanceId),
    /// Sets a tag on this instance.
    TagInstance {
        key: String,
        value: String,
    },
    UntagInstance {
        key: String,
    },
    /// Runs a command of the user's. It gets SIGTERM after `timeout`, or at the deadline.
    RunHook {
        hook: HookKind,
        timeout: Duration,
    },
    /// Tells whether the application serves.
    LookAtReadiness(Readiness),
    /// Describes the target groups that the configuration lists, with this instance's targets in them.
    FindTargetGroups,
    /// Reads the settings that decide how the group is asked, and its members, which may have changed since the
    /// look-up.
    DescribeGroupSettings {
        group: String,
        asks_hooks: bool,
    },
    DescribeAutoScalingGroup {
        group: String,
    },
    AttachInstances {
        group: String,
    },
    /// Puts the capacity of a fleet back if nobody is under notice.
    PutCapacityBack {
        kind: FleetKind,
        fleet_id: String,
    },
    /// Terminates this instance.
    TerminateInstances,
}

words! {
    /// The result with which a lifecycle action is completed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum HookResult {
        Continue = "CONTINUE",
        /// Completes a launching hook so that the group terminates the new member and replaces it.
        Abandon = "ABANDON",
    }
}

words! {
    /// The moments at which a command of the user's runs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum HookKind {
        Notice = "notice",
        Drained = "drained",
    }
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A write was accepted.
    Accepted,
    Registrations {
        found: Vec<Registration>,
        /// The target groups of which AWS does not tell whether this instance is in them.
        unclear: Vec<TargetGroupArn>,
        /// The target groups that the configuration names and AWS does not know.
        missing: Vec<String>,
        /// The failure of the look at one group of several; AWS may tell of it in a moment.
        untold: Option<Box<Failure>>,
    },
    Plan(Box<Plan>),
    Health(Vec<TargetHealth>),
    Connections(Connections),
    /// `None`: AWS knows no such fleet.
    Fleet(Option<Box<Fleet>>),
    FleetMembers(Vec<FleetMember>),
    /// The members of a fleet whose Spot requests could not be read: only the leaving tags show which AWS takes.
    FleetMembersByMarks {
        members: Vec<FleetMember>,
        failure: Failure,
    },
    Launched(Launched),
    Instances(Vec<Instance>),
    /// The end of a command; `how` is in words.
    Hook {
        succeeded: bool,
        how: String,
    },
    TargetGroups {
        /// The registrations to make, one for each group.
        wanted: Vec<Registration>,
        /// The listed groups that do not exist or cannot hold this instance.
        missing: Vec<String>,
    },
    /// `None`: there is no such group.
    GroupState(Option<GroupState>),
    GroupSettings {
        /// `None`: there is no such group.
        current: Option<GroupState>,
        /// `None`: not asked for, or not told.
        termination_hooks: Option<Vec<LifecycleHook>>,
    },
    /// `is_back` tells whether no capacity is raised any more.
    Capacity {
        is_back: bool,
    },
    Failed(Failure),
}

impl Answer {
    /// The present state of the group, if the answer tells it.
    pub(crate) fn current(&self) -> Option<&GroupState> {
        match self {
            Answer::GroupState(current) | Answer::GroupSettings { current, .. } => current.as_ref(),
            _ => None,
        }
    }

    /// Tells whether AWS throttled this call, or a call that AWS made on behalf of it.
    pub(crate) fn is_throttled(&self) -> bool {
        match self {
            Answer::Failed(failure) => failure.kind == FailureKind::Throttled,
            Answer::Launched(launched) => launched.is_throttled(),
            _ => false,
        }
    }
}

/// Shows a person the API action and its subject.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::FindRegistrations { .. } => f.write_str("a look-up of this instance's target groups"),
            Call::FindPlan => f.write_str("a look-up of who launches a successor"),
            Call::FindGroup => f.write_str("a look-up of the hooks of the group that terminates this instance"),
            Call::DeregisterTargets { target_group, targets, .. } => {
                write!(f, "DeregisterTargets from {}, {}", target_group.name(), ports(targets))
            }
            Call::RegisterTargets { target_group, targets, .. } => {
                write!(f, "RegisterTargets in {}, {}", target_group.name(), ports(targets))
            }
            Call::DescribeTargetHealth { target_group, targets, .. } => {
                let whose = if targets.is_empty() { "all" } else { "some" };
                write!(f, "DescribeTargetHealth of {whose} targets of {}", target_group.name())
            }
            Call::LookAtConnections { ports, .. } => {
                write!(f, "a look at this machine's connections, {}", ports_in_words(ports))
            }
            Call::DetachInstances { group, .. } => write!(f, "DetachInstances from group {group}"),
            Call::TerminateInstanceInAutoScalingGroup { .. } => f.write_str("TerminateInstanceInAutoScalingGroup"),
            Call::LaunchInstances { group, .. } => write!(f, "LaunchInstances in group {group}"),
            Call::DescribeGroupSettings { group, .. } => {
                write!(f, "DescribeAutoScalingGroups, for the settings of {group}")
            }
            Call::DescribeAutoScalingGroup { group } => write!(f, "DescribeAutoScalingGroups, of {group}"),
            Call::AttachInstances { group } => write!(f, "AttachInstances to group {group}"),
            Call::CompleteLifecycleAction { group, hook, result } => {
                write!(f, "CompleteLifecycleAction of hook {hook} of group {group} with {}", result.as_str())
            }
            Call::RecordLifecycleActionHeartbeat { group, hook } => {
                write!(f, "RecordLifecycleActionHeartbeat of hook {hook} of group {group}")
            }
            Call::DescribeFleet { fleet_id, .. } => write!(f, "a look at the capacity of {fleet_id}, to raise it"),
            Call::DescribeFleetMembers { fleet_id, .. } => write!(f, "a look at the members of {fleet_id}"),
            Call::DescribeInstancesOfFleet { fleet_id, .. } => write!(f, "DescribeInstances, for those of {fleet_id}"),
            Call::ModifyFleet { fleet_id, total, .. } => write!(f, "a change of {fleet_id} to a target of {total}"),
            Call::TagFleet { fleet_id, key, .. } => write!(f, "CreateTags on {fleet_id}: {key}"),
            Call::UntagFleet { fleet_id, key } => write!(f, "DeleteTags on {fleet_id}: {key}"),
            Call::PutCapacityBack { fleet_id, .. } => write!(f, "a look whether the capacity of {fleet_id} is raised"),
            Call::CreateFleet { .. } => f.write_str("CreateFleet of type instant, one instance"),
            Call::RunInstances { launch, .. } => {
                write!(f, "RunInstances from {}, one instance", launch.template.id_or_name)
            }
            Call::DescribeInstances { instance_ids } => {
                let ids: Vec<&str> = instance_ids.iter().map(InstanceId::as_str).collect();
                write!(f, "DescribeInstances of {}", ids.join(", "))
            }
            Call::DescribeInstancesByAddress { addresses } => {
                write!(f, "DescribeInstances, for the addresses {}", addresses.join(", "))
            }
            Call::DescribeSuccessorsByTag(of) => write!(f, "DescribeInstances, for a successor of {of}"),
            Call::TagInstance { key, .. } => write!(f, "CreateTags on this instance: {key}"),
            Call::UntagInstance { key } => write!(f, "DeleteTags on this instance: {key}"),
            Call::TerminateInstances => f.write_str("TerminateInstances of this instance"),
            Call::RunHook { hook, .. } => write!(f, "the hook {}", hook.as_str()),
            Call::LookAtReadiness(_) => f.write_str("a look whether the application is ready"),
            Call::FindTargetGroups => f.write_str("a look-up of the target groups that the configuration lists"),
        }
    }
}

fn ports(targets: &[Target]) -> String {
    ports_in_words(&targets.iter().map(|target| target.port).collect())
}

impl Call {
    /// Tells whether the call changes something at AWS; any other call under way may be abandoned.
    pub(crate) fn writes(&self) -> bool {
        !matches!(
            self,
            Call::FindRegistrations { .. }
                | Call::FindPlan
                | Call::FindGroup
                | Call::DescribeTargetHealth { .. }
                | Call::LookAtConnections { .. }
                | Call::DescribeFleet { .. }
                | Call::DescribeFleetMembers { .. }
                | Call::DescribeInstancesOfFleet { .. }
                | Call::DescribeInstances { .. }
                | Call::DescribeInstancesByAddress { .. }
                | Call::DescribeSuccessorsByTag(_)
                | Call::RunHook { .. }
                | Call::LookAtReadiness(_)
                | Call::FindTargetGroups
                | Call::DescribeAutoScalingGroup { .. }
                | Call::DescribeGroupSettings { .. }
        )
    }

    /// The time limit of the call, at most `left`, after so many `timeouts` in a row. A look-up asks page by page, and a
    /// look into all target groups has no limit of its own. Everything else is one exchange.
    pub(crate) fn limit(&self, left: Duration, timeouts: u32) -> Duration {
        match self {
            Call::FindRegistrations { among: None, .. } => left,
            Call::FindRegistrations { .. }
            | Call::FindPlan
            | Call::FindGroup
            | Call::DescribeFleetMembers { .. }
            | Call::DescribeInstancesOfFleet { .. }
            | Call::FindTargetGroups
            | Call::PutCapacityBack { .. } => LOOK_UP_LIMIT.min(left),
            Call::CreateFleet { .. } | Call::RunInstances { .. } | Call::LaunchInstances { .. } => {
                LAUNCH_LIMIT.min(left)
            }
            Call::RunHook { timeout, .. } => (*timeout).min(left),
            Call::DescribeGroupSettings { .. } => SETTINGS_LIMIT.min(left),
            // After two calls in a row without an answer AWS may be slow, and not silent.
            _ => (CALL_LIMIT * timeouts.clamp(1, 3)).min(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::model::Market;

    #[test]
    fn a_launch_may_take_twenty_seconds_and_no_more_than_is_left() {
        let fleet = InstantFleet { launch_configurations: Vec::new(), market: Market::Spot, tags: BTreeMap::new() };
        let create = Call::CreateFleet { client_token: "token".to_owned(), fleet };
        let launch = Call::LaunchInstances {
            group: "web".to_owned(),
            client_token: "token".to_owned(),
            capacity: 1,
            availability_zone: None,
        };
        for call in [create, launch] {
            assert_eq!(call.limit(Duration::from_secs(110), 0), Duration::from_secs(20), "{call}");
            assert_eq!(call.limit(Duration::from_secs(7), 0), Duration::from_secs(7), "{call}");
        }
        let by_tag = Call::DescribeSuccessorsByTag(InstanceId::new("i-1"));
        for (timeouts, limit) in [(0, 1), (1, 1), (2, 2), (3, 3), (9, 3)] {
            assert_eq!(by_tag.limit(Duration::from_secs(110), timeouts), CALL_LIMIT * limit);
        }
    }
}
