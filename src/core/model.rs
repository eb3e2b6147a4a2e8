//! The words of this project as types: instances, target groups, owners, and what AWS says of them.
//!
//! Every name is AWS's own, with one meaning (see the words in docs/architecture.md); every value is what an edge read,
//! already parsed. Invariant: no clock, no network, and no serialised form but serde's.

mod fleet;
mod owner;
mod requirements;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::words::words;

pub use fleet::*;
pub use owner::*;
pub use requirements::*;
pub use target::*;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// False for the target group of another service, such as VPC Lattice.
    pub fn is_of_elb(&self) -> bool {
        self.0.split(':').nth(2) == Some("elasticloadbalancing") && self.0.contains(":targetgroup/")
    }

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

    /// The time at which the boot began, where it is now this instant, and `aws_now` by AWS's clock.
    pub fn booted_at(self, aws_now: Timestamp) -> Timestamp {
        aws_now.checked_sub(self.0).unwrap_or(Timestamp::MIN)
    }

    /// The time since `earlier`; zero if this is not later.
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

/// The identity of this instance: the instance identity document and `instance-life-cycle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub instance_id: InstanceId,
    pub region: String,
    pub availability_zone: String,
    pub instance_type: String,
    pub private_ip: String,
    /// The IPv6 addresses of all its network interfaces; unknown where the metadata does not tell them.
    #[serde(default)]
    pub ipv6_addresses: Option<Vec<String>>,
    pub account_id: String,
    /// The VPC of its first network interface; unknown where the metadata does not tell it.
    #[serde(default)]
    pub vpc_id: Option<String>,
    /// The subnet of that interface, as far as the metadata tells it.
    #[serde(default)]
    pub subnet_id: Option<String>,
    pub life_cycle: LifeCycle,
}

impl Identity {
    /// Takes from `before`, an earlier identity of the same instance, what this one does not tell.
    pub fn completed_by(self, before: &Identity) -> Identity {
        let text = |now: String, before: &String| if now.is_empty() { before.clone() } else { now };
        Identity {
            availability_zone: text(self.availability_zone, &before.availability_zone),
            instance_type: text(self.instance_type, &before.instance_type),
            private_ip: text(self.private_ip, &before.private_ip),
            account_id: text(self.account_id, &before.account_id),
            ipv6_addresses: self.ipv6_addresses.or_else(|| before.ipv6_addresses.clone()),
            vpc_id: self.vpc_id.or_else(|| before.vpc_id.clone()),
            subnet_id: self.subnet_id.or_else(|| before.subnet_id.clone()),
            ..self
        }
    }

    /// Tells whether a target of this id, in a group of this type, is this instance.
    pub fn is_target(&self, target_type: TargetType, id: &str) -> bool {
        match target_type {
            TargetType::Instance => id == self.instance_id.as_str(),
            TargetType::Ip => !id.is_empty() && (id == self.private_ip || self.has_ipv6_address(id)),
        }
    }

    fn has_ipv6_address(&self, address: &str) -> bool {
        self.ipv6_addresses.iter().flatten().any(|ours| is_same_id(ours, address))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifeCycle {
    #[default]
    Spot,
    OnDemand,
}

words! {
    /// The reason for a handover: the metadata announces this instance's end, or a person asks for a drill.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Signal {
        /// A Spot interruption notice.
        #[default]
        Notice = "notice",
        RebalanceRecommendation = "rebalance-recommendation",
        /// The Auto Scaling group terminates the instance.
        LifecycleState = "lifecycle-state",
        ScheduledEvent = "scheduled-event",
        /// A person asks for a handover as an exercise: AWS announces nothing.
        Drill = "drill",
    }
}

impl Signal {
    /// Tells whether it comes from AWS; a drill is what a person asks for.
    pub fn is_real(self) -> bool {
        self != Self::Drill
    }

    /// Tells whether an interruption is announced with its time, or a drill plays one.
    pub fn is_notice(self) -> bool {
        matches!(self, Self::Notice | Self::Drill)
    }
}

words! {
    /// The effect of the interruption on the instance.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Action {
        Terminate = "terminate",
        Stop = "stop",
        Hibernate = "hibernate",
        /// Only a scheduled event has this action.
        Reboot = "reboot",
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The things that the notices of one interruption have in common. The notice's time is no part of it: it can shift
/// between two looks (aws/aws-node-termination-handler#146).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IncidentId {
    pub instance_id: InstanceId,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// The action; a recommendation has none.
    pub action: Option<Action>,
    /// Counts the incidents of one boot: an interruption can be withdrawn and another one come.
    #[serde(default)]
    pub number: u32,
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
    /// The first IPv6 address of its first network interface.
    #[serde(default)]
    pub ipv6_address: Option<String>,
    /// Every private IPv4 address and every IPv6 address of its network interfaces.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub subnet_id: Option<String>,
    /// The time of its launch, by AWS's clock.
    pub launch_time: Option<Timestamp>,
    pub tags: BTreeMap<String, String>,
    /// The reason why the instance stops or has ended.
    pub state_reason: Option<StateReason>,
    /// Its vCPUs, as EC2 tells them with the instance.
    #[serde(default)]
    pub vcpus: Option<u32>,
    /// The instance was not bought as Spot.
    #[serde(default)]
    pub is_on_demand: bool,
}

/// `StateReason` of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReason {
    /// `Client.InternalError`, `Server.SpotInstanceTermination`, ...
    pub code: String,
    pub message: String,
}

impl fmt::Display for StateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.strip_prefix(&self.code).unwrap_or(&self.message).trim_start_matches([':', ' ']) {
            "" => f.write_str(&self.code),
            message => write!(f, "{}: {message}", self.code),
        }
    }
}

/// One row of `events/maintenance/scheduled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledEvent {
    pub id: String,
    /// `instance-stop`, `instance-retirement`, `system-reboot`, `instance-reboot`, `system-maintenance`, ...
    pub code: String,
    /// Neither completed nor cancelled.
    pub active: bool,
    /// `None` if AWS wrote no time that can be read.
    pub not_before: Option<Timestamp>,
}

/// The way to ask whether the application is ready to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// There is no check: the application counts as ready.
    AtOnce,
    /// A TCP connection to `HOST:PORT` is accepted.
    Tcp(String),
    /// A GET of this URL is answered with 2xx.
    Http(String),
}

/// The TCP connections from other machines to the registered ports, as the kernel shows them at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// The connections that are open.
    pub established: usize,
    /// The connections that moved data within the time asked about, hold data in a queue, or have a request that is not
    /// answered yet.
    pub busy: usize,
    /// The connections without traffic whose last data may be a request or its answer.
    pub unclear: usize,
    /// The connections without traffic that have received so little that it may be a TLS handshake and one request.
    /// The server's session tickets, which follow, look like an answer.
    #[serde(default)]
    pub begun: usize,
    /// Connections that ended within the time asked about, and are not counted above.
    pub ended_lately: usize,
    /// The ports, of those asked about, on which somebody listens in this network namespace.
    pub listening: BTreeSet<u16>,
    /// The ports, of those asked about, whose requests reach sockets of this namespace. Either somebody listens and no
    /// container software could redirect them, or a connection of another machine is open or has just ended.
    #[serde(default)]
    pub reached: BTreeSet<u16>,
}

words! {
    /// A step that a person wants to know of: one vocabulary for log, record, `status`, webhook and metrics.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum MilestoneKind {
        /// AWS recommends to rebalance: no interruption is announced yet.
        Recommended = "recommended",
        Noticed = "noticed",
        Deregistered = "deregistered",
        Left = "left",
        Quiet = "quiet",
        SuccessorRequested = "successor-requested",
        SuccessorRunning = "successor-running",
        SuccessorRegistered = "successor-registered",
        SuccessorHealthy = "successor-healthy",
        HandedOver = "handed-over",
        /// This instance lives on after all.
        Survived = "survived",
        /// The instance is back where it was.
        Reinstated = "reinstated",
        /// This instance has come into service by itself.
        Arrived = "arrived",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestone {
    pub milestone: MilestoneKind,
    pub at: BootInstant,
    /// The time from then to the deadline, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group: Option<TargetGroupArn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor_id: Option<InstanceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The message for a person: a sentence without its full stop.
    pub message: String,
}
