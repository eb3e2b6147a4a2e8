//! Fleets of both kinds: what each was asked for, what it has, and its members.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Instance, InstanceId, LaunchConfiguration, LaunchOverride, TargetGroupArn};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FleetKind {
    Ec2,
    Spot,
}

impl FleetKind {
    /// `sfr-...` is a Spot Fleet's, anything else an EC2 Fleet's.
    pub fn of_id(id: &str) -> FleetKind {
        if id.starts_with("sfr-") { FleetKind::Spot } else { FleetKind::Ec2 }
    }
}

impl fmt::Display for FleetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FleetKind::Ec2 => "EC2 Fleet",
            FleetKind::Spot => "Spot Fleet",
        })
    }
}

/// An EC2 Fleet or a Spot Fleet request: `fleet-...` or `sfr-...`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub id: String,
    #[serde(default)]
    pub state: FleetState,
    pub request_type: FleetType,
    /// `launch` or `launch-before-terminate`: the fleet replaces by itself at a rebalance recommendation.
    pub replacement_strategy: Option<String>,
    pub capacity: FleetCapacity,
    #[serde(default)]
    pub excess: ExcessCapacity,
    /// The launch templates; empty where it uses launch specifications instead of templates.
    pub launch_configurations: Vec<LaunchConfiguration>,
    /// The unit of its capacity, where no weight is given.
    #[serde(default)]
    pub unit: CapacityUnit,
    /// The weights of its launch specifications, in hundredths, by instance type; only a Spot Fleet has any.
    #[serde(default)]
    pub specification_weights: BTreeMap<String, u32>,
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

/// `FleetState` or `SpotFleetRequestState`, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetState {
    #[default]
    Active,
    /// A change was accepted and does not show yet.
    Modifying,
    /// Deleted, cancelled or failed, in AWS's word: the fleet launches no more, though its instances may live.
    Ended(String),
}

/// `TargetCapacityUnitType`: the unit of a capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapacityUnit {
    #[default]
    Instances,
    Vcpus,
    MemoryMib,
}

/// `ExcessCapacityTerminationPolicy`: what becomes of members beyond a target that is lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExcessCapacity {
    #[default]
    Terminates,
    Stays,
}

/// The change to a fleet; `None` leaves a part as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetChange {
    pub total: Option<i32>,
    /// The Spot part of the total, where the request names one; the rest is on demand.
    pub spot: Option<i32>,
    pub excess: Option<ExcessCapacity>,
    /// The unit of the total: AWS may take a missing one for instances.
    pub unit: CapacityUnit,
}

impl Fleet {
    /// The reason why nobody can launch from this fleet: it replaces nothing, and CreateFleet takes only templates.
    pub fn cannot_be_launched_from(&self) -> Option<String> {
        let type_ = match self.request_type {
            FleetType::Maintain => return None,
            FleetType::Request => "request",
            FleetType::Instant => "instant",
        };
        self.launch_configurations.is_empty().then(|| {
            format!(
                "{} of type {type_} replaces nothing and launches from launch specifications, which nobody else can launch \
                 from: name a launch template under [successor] to have a successor launched",
                self.id
            )
        })
    }

    /// The most instances that its capacity can stand for: it may count in weights, vCPUs or memory.
    pub fn instances_at_most(&self) -> usize {
        /// The smallest EC2 instance has half a GiB.
        const LEAST_MEMORY_MIB: i32 = 512;
        let least = |pool: Option<&LaunchOverride>| {
            let requirements = pool.and_then(|pool| pool.requirements.as_ref());
            let units = match self.unit {
                CapacityUnit::Instances => 1,
                CapacityUnit::Vcpus => requirements.and_then(|it| it.vcpu_count.0).unwrap_or_default().max(1),
                CapacityUnit::MemoryMib => {
                    requirements.and_then(|it| it.memory_mib.0).unwrap_or_default().max(LEAST_MEMORY_MIB)
                }
            };
            pool.and_then(|pool| pool.weight_hundredths).map_or(i64::from(units) * 100, i64::from)
        };
        let pools = self.launch_configurations.iter().flat_map(|configuration| &configuration.overrides);
        let specified = self.specification_weights.values().copied().map(i64::from);
        let least = pools.map(|pool| least(Some(pool))).chain(specified).min().unwrap_or_else(|| least(None));
        usize::try_from(i64::from(self.capacity.fulfilled) * 100 / least.max(1)).unwrap_or_default()
    }

    /// The change to another total, with this Spot part if the request names one.
    pub fn with_total(&self, total: i32, spot: Option<i32>) -> FleetChange {
        FleetChange { total: Some(total), spot, excess: None, unit: self.unit }
    }
}

/// The capacity that a fleet was asked for and that it has, in its own units: instances, or weights if it has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetCapacity {
    pub total: i32,
    /// The Spot part, where the request names one.
    pub spot: Option<i32>,
    /// Rounded down: a part of a unit is not reached.
    pub fulfilled: i32,
}

impl FleetCapacity {
    /// The Spot part, if the request names both parts. A request that leaves them to the default type shows zeros; if
    /// it was sent a part, the rest would be on demand.
    pub fn spot_part(total: i32, spot: Option<i32>, on_demand: Option<i32>) -> Option<i32> {
        spot.filter(|spot| spot.saturating_add(on_demand.unwrap_or_default()) == total)
    }
}

/// One member of a fleet, as DescribeFleetInstances, DescribeInstances and the Spot requests tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetMember {
    pub instance_id: InstanceId,
    pub instance_type: String,
    /// `None` while EC2 does not know the instance.
    pub instance: Option<Instance>,
    /// The memory of its type, where the fleet counts memory and AWS has told it.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// The time since which its Spot request says that AWS takes the instance (`Status.UpdateTime`), by AWS's clock.
    pub taken_since: Option<Timestamp>,
}

impl FleetMember {
    /// False only if EC2 shows the member as dead or dying.
    pub fn lives(&self) -> bool {
        self.instance.as_ref().is_none_or(|instance| instance.state.is_alive())
    }
}
