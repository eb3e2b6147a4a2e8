//! The words of this project as types: instances, target groups, owners, and what AWS says of them.
//!
//! Nothing here does anything. Every name is AWS's own, with one meaning (see the words in the crate's documentation);
//! every value is what an edge read, already parsed. Invariant: no clock, no network, no serialised form but serde's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// `i-0123456789abcdef0`
    InstanceId
);
identifier!(
    /// `arn:aws:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/HASH`
    TargetGroupArn
);

impl TargetGroupArn {
    /// The target group's name, as people know it: the second part of the resource; the whole text of anything else.
    pub fn name(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or(&self.0)
    }
}

/// An instant on the boot clock (`CLOCK_BOOTTIME`), as the time since boot: it counts on while the machine sleeps and
/// nobody can set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootInstant(Duration);

impl BootInstant {
    pub const fn since_boot(duration: Duration) -> Self {
        Self(duration)
    }

    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: BootInstant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootInstant {
    type Output = BootInstant;

    fn add(self, duration: Duration) -> BootInstant {
        BootInstant(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for BootInstant {
    type Output = BootInstant;

    fn sub(self, duration: Duration) -> BootInstant {
        BootInstant(self.0.saturating_sub(duration))
    }
}

/// Who this instance is: the instance identity document and `instance-life-cycle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub instance_id: InstanceId,
    pub region: String,
    pub availability_zone: String,
    pub instance_type: String,
    pub private_ip: String,
    pub account_id: String,
    pub life_cycle: LifeCycle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeCycle {
    Spot,
    OnDemand,
}

/// What the interruption does to the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Terminate,
    Stop,
    Hibernate,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Action::Terminate => "terminate",
            Action::Stop => "stop",
            Action::Hibernate => "hibernate",
        })
    }
}

/// What the notices of one interruption have in common. The notice's time is no part of it: it can shift between two
/// looks (aws/aws-node-termination-handler#146).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incident {
    pub instance_id: InstanceId,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    pub action: Action,
    /// Counts the incidents of one boot: an interruption can be withdrawn and another one come.
    #[serde(default)]
    pub number: u32,
}

/// One target as ELBv2 names it. `id` is an instance id or, in an `ip` group, a private address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    pub id: String,
    pub port: u16,
    /// Only of an address outside the load balancer's VPC (`all`), or where it was given at registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetType {
    Instance,
    Ip,
}

/// This instance as targets of one target group: every port of it. The unit that is deregistered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub target_group: TargetGroupArn,
    pub target_type: TargetType,
    /// Not empty; every target has this instance's id or address.
    pub targets: Vec<Target>,
    pub deregistration_delay: Duration,
    /// Whether a Network Load Balancer serves the group (protocol TCP, UDP, TLS and the like).
    pub network: bool,
}

impl Registration {
    pub fn name(&self) -> &str {
        self.target_group.name()
    }

    /// The ports on which the load balancer reaches this instance.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.targets.iter().map(|target| target.port).collect()
    }
}

/// `TargetHealth.State`; AWS adds new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetState {
    Initial,
    Healthy,
    Unhealthy,
    UnhealthyDraining,
    Draining,
    Unused,
    Unavailable,
    Other(String),
}

/// One row of DescribeTargetHealth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHealth {
    pub target: Target,
    pub state: TargetState,
    /// `Target.NotRegistered`, `Target.NotInUse`, ...
    pub reason: Option<String>,
}

impl TargetHealth {
    /// Whether the load balancer sends it no new requests, or is about to stop.
    pub fn has_left(&self) -> bool {
        matches!(self.state, TargetState::Draining | TargetState::UnhealthyDraining | TargetState::Unused)
    }

    /// Whether a load balancer sends it requests, or none ever will: its group is used by no load balancer.
    pub fn serves(&self) -> bool {
        self.state == TargetState::Healthy
            || (self.state == TargetState::Unused && self.reason.as_deref() == Some("Target.NotInUse"))
    }
}

/// `State.Code` of an instance. Only the low byte counts; AWS keeps the high byte to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
    Unknown,
}

impl InstanceState {
    pub fn from_code(code: i32) -> Self {
        match code & 0xff {
            0 => Self::Pending,
            16 => Self::Running,
            32 => Self::ShuttingDown,
            48 => Self::Terminated,
            64 => Self::Stopping,
            80 => Self::Stopped,
            _ => Self::Unknown,
        }
    }

    pub fn is_alive(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Unknown)
    }
}

/// One row of DescribeInstances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub instance_id: InstanceId,
    pub state: InstanceState,
    pub instance_type: String,
    pub availability_zone: String,
    pub private_ip: Option<String>,
    pub subnet_id: Option<String>,
    /// When AWS launched it, by AWS's clock.
    pub launch_time: Option<Timestamp>,
    pub tags: BTreeMap<String, String>,
}

/// What launched the instance and can launch another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Owner {
    AutoScalingGroup(AutoScalingGroup),
    Ec2Fleet(Fleet),
    SpotFleet(Fleet),
    LaunchTemplate(LaunchTemplate),
    Nobody {
        /// Why nobody: a part of a sentence, as "the instance was launched by hand".
        why: String,
    },
}

/// One row of DescribeAutoScalingGroups, with its termination hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoScalingGroup {
    pub name: String,
    pub arn: String,
    pub capacity_rebalance: bool,
    /// Hooks on `autoscaling:EC2_INSTANCE_TERMINATING`.
    pub termination_hooks: Vec<LifecycleHook>,
    /// The target groups in which the group registers what it launches.
    pub target_groups: Vec<TargetGroupArn>,
    pub members: Vec<GroupMember>,
    pub min_size: i32,
    pub max_size: i32,
    pub desired_capacity: i32,
    /// `EC2`, `ELB`, ...
    pub health_check_type: String,
    pub availability_zones: Vec<String>,
    pub subnets: Vec<String>,
    /// A mixed instances policy: LaunchInstances is refused for it.
    pub mixed_instances: bool,
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
}

/// An EC2 Fleet or a Spot Fleet request: `fleet-...` or `sfr-...`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub id: String,
    pub request_type: FleetType,
    /// `launch` or `launch-before-terminate`: the fleet replaces by itself at a rebalance recommendation.
    pub replacement_strategy: Option<String>,
    pub capacity: FleetCapacity,
    /// What it launches; empty where it uses launch specifications instead of templates.
    pub launch_configurations: Vec<LaunchConfiguration>,
    /// The target groups in which the fleet registers what it launches; only a Spot Fleet has any.
    pub target_groups: Vec<TargetGroupArn>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetType {
    Maintain,
    Request,
    Instant,
}

/// What a fleet was asked for and what it has, in its own units: instances, or weights where it has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetCapacity {
    pub total: i32,
    /// Where the request names a Spot part.
    pub spot: Option<i32>,
    /// Rounded down: a part of a unit is not reached.
    pub fulfilled: i32,
}

/// One member of a fleet, as DescribeFleetInstances and the Spot requests tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetMember {
    pub instance_id: InstanceId,
    pub instance_type: String,
    /// Its Spot request's status is `marked-for-termination` or `marked-for-stop`.
    pub under_notice: bool,
    /// Since when that is its status (`Status.UpdateTime`), by AWS's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed_at: Option<Timestamp>,
}

/// A launch template as a call names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaunchTemplate {
    /// `lt-...`, or a name.
    pub id_or_name: String,
    /// A number, `$Default` or `$Latest`.
    pub version: String,
}

/// A launch template with the pools in which a fleet may launch it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaunchConfiguration {
    pub template: LaunchTemplate,
    /// Empty: the template's own type and subnet.
    pub overrides: Vec<LaunchOverride>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LaunchOverride {
    pub instance_type: Option<String>,
    pub subnet_id: Option<String>,
    pub availability_zone: Option<String>,
    pub max_price: Option<String>,
    /// Units that one instance counts for, in hundredths: AWS allows fractions.
    pub weight_hundredths: Option<u32>,
    pub image_id: Option<String>,
    pub requirements: Option<InstanceRequirements>,
}

/// Attribute-based instance type selection: the parts of it that fleets are known to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceRequirements {
    pub vcpu_count: (Option<i32>, Option<i32>),
    pub memory_mib: (Option<i32>, Option<i32>),
    pub cpu_manufacturers: Vec<String>,
    pub instance_generations: Vec<String>,
    pub allowed_instance_types: Vec<String>,
    pub excluded_instance_types: Vec<String>,
    pub burstable_performance: Option<String>,
    pub bare_metal: Option<String>,
    pub local_storage: Option<String>,
}

/// How instances are bought.
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
    /// On the instance it launches; keys of ours use `:` and `-` only.
    pub tags: BTreeMap<String, String>,
}

/// CreateFleet's answer: instances *and* errors can stand in one HTTP 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    pub instances: Vec<InstanceId>,
    /// `CODE: message`, each once.
    pub errors: Vec<String>,
}

/// What the kernel says of the TCP connections to the registered ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    pub established: usize,
    /// Those that moved data within the time asked about, or whose last data came in and is not answered yet.
    pub busy: usize,
}

/// A step of a handover that a person wants to know of: one vocabulary for the log, the record, `status`, the webhook
/// and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MilestoneKind {
    Noticed,
    Deregistered,
    Left,
    Quiet,
    SuccessorRequested,
    SuccessorRunning,
    SuccessorRegistered,
    SuccessorHealthy,
    HandedOver,
}

impl MilestoneKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noticed => "noticed",
            Self::Deregistered => "deregistered",
            Self::Left => "left",
            Self::Quiet => "quiet",
            Self::SuccessorRequested => "successor-requested",
            Self::SuccessorRunning => "successor-running",
            Self::SuccessorRegistered => "successor-registered",
            Self::SuccessorHealthy => "successor-healthy",
            Self::HandedOver => "handed-over",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestone {
    pub milestone: MilestoneKind,
    pub at: BootInstant,
    /// From then to the deadline.
    pub left: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group: Option<TargetGroupArn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor_id: Option<InstanceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What a person reads: a sentence without its full stop.
    pub message: String,
}
