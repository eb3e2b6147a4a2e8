//! The owner of an instance and its launches: groups, fleets, launch templates. Values as an edge read them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BlockDevice, Fleet, FleetKind, InstanceId, InstanceRequirements, TargetGroupArn};

/// The owner: it launched the instance and can launch another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    AutoScalingGroup(AutoScalingGroup),
    Fleet(FleetKind, Fleet),
    LaunchTemplate(LaunchTemplate),
    Nobody {
        /// The reason, as a part of a sentence: "the instance was launched by hand".
        why: String,
    },
}

/// One row of DescribeAutoScalingGroups, with its termination hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoScalingGroup {
    pub name: String,
    pub arn: String,
    pub capacity_rebalance: bool,
    /// Hooks on `autoscaling:EC2_INSTANCE_TERMINATING`.
    pub termination_hooks: Vec<LifecycleHook>,
    /// Hooks on `autoscaling:EC2_INSTANCE_LAUNCHING`.
    #[serde(default)]
    pub launch_hooks: Vec<LifecycleHook>,
    /// The target groups in which the group registers what it launches.
    pub target_groups: Vec<TargetGroupArn>,
    /// Its other traffic sources, such as VPC Lattice target groups and Classic Load Balancers: Auto Scaling alone
    /// registers its members there, and takes them out.
    #[serde(default)]
    pub other_traffic_sources: Vec<String>,
    pub members: Vec<GroupMember>,
    pub min_size: i32,
    pub max_size: i32,
    pub desired_capacity: i32,
    /// `EC2`, `ELB`, ...
    pub health_check_type: String,
    pub availability_zones: Vec<String>,
    pub subnets: Vec<String>,
    /// A mixed instances policy of both Spot and on-demand capacity: LaunchInstances is refused for it.
    #[serde(default)]
    pub mixes_spot_and_on_demand: bool,
    /// It launches by a launch configuration (`LaunchConfigurationName`): LaunchInstances is refused for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_launch_configuration: bool,
}

impl AutoScalingGroup {
    /// The reason why AWS refuses LaunchInstances for this group in any case, as a part of a sentence.
    pub fn launches_none_first(&self) -> Option<&'static str> {
        if self.mixes_spot_and_on_demand {
            return Some("the group mixes Spot and on-demand instances, and for such a group AWS launches none first");
        }
        self.has_launch_configuration
            .then_some("the group has a launch configuration, and for such a group AWS launches none first")
    }

    /// The member with this id.
    pub(crate) fn member(&self, id: &InstanceId) -> Option<&GroupMember> {
        self.members.iter().find(|member| member.instance_id == *id)
    }

    /// The group's zones, those with the fewest members first. Ours, whose pool is being reclaimed, is the last.
    pub(crate) fn zones_for_a_successor(&self, ours: &str) -> Vec<String> {
        let members = |zone: &String| self.members.iter().filter(|member| member.availability_zone == *zone).count();
        let mut zones = self.availability_zones.clone();
        zones.sort_by_key(|zone| (zone == ours, members(zone), zone.clone()));
        zones
    }
}

/// The present state of an Auto Scaling group: what may have changed since the look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    pub members: Vec<GroupMember>,
    pub desired_capacity: i32,
    pub min_size: i32,
    pub max_size: i32,
    pub capacity_rebalance: bool,
    pub target_groups: Vec<TargetGroupArn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleHook {
    pub name: String,
    pub heartbeat_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    pub instance_id: InstanceId,
    pub availability_zone: String,
    /// `Pending`, `InService`, `Terminating:Wait`, ...
    pub lifecycle_state: String,
    /// `WeightedCapacity`, if the group has weights: its sizes then count in these units, and else in instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// It is protected from scale-in, and the group does not protect new members: detaching ends the protection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loses_protection: bool,
}

impl GroupMember {
    /// The units that the member counts for in the group's sizes.
    pub fn units(&self) -> i32 {
        self.weight.unwrap_or(1)
    }

    /// Tells whether the group's desired capacity counts the member: not in Standby, and not in the warm pool.
    pub fn is_counted(&self) -> bool {
        self.lifecycle_state != "Standby" && !self.lifecycle_state.starts_with("Warmed:")
    }

    /// Tells whether the member is in service or on its way there: then the group launches nobody in its place.
    pub fn holds_a_place(&self) -> bool {
        self.lifecycle_state == "InService" || self.lifecycle_state.starts_with("Pending")
    }

    /// Takes over the state that the metadata shows, which is where the group takes the member. It is `InService` from
    /// the launch on, also at a launching hook, and on the way out of Standby or the warm pool. So a member that was on
    /// its way into service is not taken for one in service.
    pub fn moves_to(&mut self, target_state: &str) {
        if target_state != "InService" {
            target_state.clone_into(&mut self.lifecycle_state);
        } else if !self.is_counted() {
            "Pending".clone_into(&mut self.lifecycle_state);
        }
    }

    /// The meaning of its lifecycle state for a call that takes it out of the group.
    pub fn membership(&self) -> Membership {
        match self.lifecycle_state.as_str() {
            "InService" | "Standby" => Membership::Detachable,
            "Pending:Wait" => Membership::AtLaunchHook,
            state if state.starts_with("Warmed:") => Membership::Warm,
            state if state.starts_with("Detach") || state.starts_with("Terminat") => Membership::Leaving,
            _ => Membership::NotYet,
        }
    }
}

/// The place of a member in its group, as DetachInstances and TerminateInstanceInAutoScalingGroup see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    Detachable,
    /// A launching hook holds it: AWS refuses both calls.
    AtLaunchHook,
    /// It is on its way into service or into Standby: AWS refuses until its state changes.
    NotYet,
    /// It is in the warm pool, and so not in service.
    Warm,
    /// It is out of the group, or on its way out.
    Leaving,
}

/// The position of a member that leaves, between the drain of its load balancer and its termination hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookTime {
    /// The group drains first: no hook is open yet.
    NotYet,
    Open,
    /// A hook was abandoned, and the group's instance lifecycle policy keeps the instance.
    Retained,
    /// The group has gone on, or the member is gone.
    Over,
}

impl HookTime {
    /// Reads the lifecycle state of a member; `None`: the group has no such member any more. A member that goes into
    /// the warm pool passes `Warmed:Pending`, where its termination hooks run.
    pub fn of(lifecycle_state: Option<&str>, into_pool: bool) -> HookTime {
        let Some(state) = lifecycle_state else { return HookTime::Over };
        match state {
            "Terminating:Wait" | "Warmed:Terminating:Wait" | "Warmed:Pending:Wait" => HookTime::Open,
            "Warmed:Stopped" | "Warmed:Running" | "Warmed:Hibernated" if into_pool => HookTime::Over,
            "Terminated" | "Warmed:Terminated" | "Detached" | "Detaching" => HookTime::Over,
            state if state.ends_with(":Retained") => HookTime::Retained,
            state if state.ends_with(":Proceed") && !state.starts_with("Pending") => HookTime::Over,
            // The state that was read may be older than the one in the metadata.
            _ => HookTime::NotYet,
        }
    }
}

/// A launch template as a call names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaunchTemplate {
    /// `lt-...`, or a name.
    pub id_or_name: String,
    /// A number, `$Default` or `$Latest`.
    pub version: String,
}

impl LaunchTemplate {
    /// AWS's word for the version that is launched where none is named.
    pub const DEFAULT_VERSION: &str = "$Default";

    /// The template by its default version, which AWS deletes only with the template; `None` if it is that already.
    #[must_use]
    pub fn by_default_version(&self) -> Option<LaunchTemplate> {
        let version = Self::DEFAULT_VERSION.to_owned();
        (self.version != version).then(|| LaunchTemplate { id_or_name: self.id_or_name.clone(), version })
    }
}

/// A launch template with the pools in which a fleet may launch it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaunchConfiguration {
    pub template: LaunchTemplate,
    /// Empty: the template's own type and subnet.
    pub overrides: Vec<LaunchOverride>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct LaunchOverride {
    pub instance_type: Option<String>,
    pub subnet_id: Option<String>,
    pub availability_zone: Option<String>,
    pub availability_zone_id: Option<String>,
    pub max_price: Option<String>,
    /// Units that one instance counts for, in hundredths: AWS allows fractions.
    pub weight_hundredths: Option<u32>,
    pub image_id: Option<String>,
    /// A number as text: it is carried, never counted with.
    pub priority: Option<String>,
    pub placement_group: Option<String>,
    pub block_devices: Vec<BlockDevice>,
    pub requirements: Option<InstanceRequirements>,
}

/// The way in which instances are bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    Spot,
    OnDemand,
}

/// CreateFleet of type `instant` with capacity 1: everything that must not change under one client token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstantFleet {
    pub launch_configurations: Vec<LaunchConfiguration>,
    pub market: Market,
    /// The tags of the instance that it launches; our own keys use `:` and `-` only.
    pub tags: BTreeMap<String, String>,
}

/// RunInstances of one instance: everything that must not change under one client token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SingleLaunch {
    pub template: LaunchTemplate,
    pub instance_type: String,
    /// `None`: the template's.
    pub subnet_id: Option<String>,
    pub max_price: Option<String>,
    /// For a launch on demand the template's settings are spelled out. Its Spot options and its tags on Spot requests
    /// are left out, because with them AWS launches on Spot, or refuses.
    pub market: Market,
    pub tags: BTreeMap<String, String>,
}

/// CreateFleet's answer: instances *and* errors can stand in one HTTP 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    pub instances: Vec<InstanceId>,
    /// `CODE: message`, each once.
    pub errors: Vec<String>,
}

impl Launched {
    /// AWS's codes for trouble that passes: the same launch may succeed in the next moment.
    const THROTTLED: [&str; 3] = ["RequestLimitExceeded", "Throttling", "ThrottlingException"];
    const FAULTS: [&str; 4] = ["InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable"];

    pub fn new(instances: impl Iterator<Item = InstanceId>, errors: impl Iterator<Item = String>) -> Launched {
        let errors: BTreeSet<String> = errors.collect();
        Launched { instances: instances.collect(), errors: errors.into_iter().collect() }
    }

    /// Tells whether nothing was launched, and all the errors are of trouble that passes.
    pub fn came_at_a_bad_moment(&self) -> bool {
        let is_passing = |code: &str| Self::THROTTLED.contains(&code) || Self::FAULTS.contains(&code);
        self.instances.is_empty() && !self.errors.is_empty() && self.codes().all(is_passing)
    }

    pub fn is_throttled(&self) -> bool {
        self.codes().any(|code| Self::THROTTLED.contains(&code))
    }

    fn codes(&self) -> impl Iterator<Item = &str> {
        self.errors.iter().map(|error| error.split(':').next().unwrap_or_default())
    }
}
