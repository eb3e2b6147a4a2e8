//! The settings of a fleet that is the owner.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Further settings of the fleet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetSettings {
    pub unit: TargetUnit,
    /// The Spot Fleet has launch specifications, as all had once. It and its instances have no launch template.
    pub launch_specifications: bool,
    /// The `WeightedCapacity` by instance type, in overrides or launch specifications: a number as text.
    pub weights: BTreeMap<String, String>,
    /// The fleet's own tags.
    pub tags: BTreeMap<String, String>,
}

/// `TargetCapacityUnitType`. A fleet that counts memory launches by `InstanceRequirements`, as AWS requires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetUnit {
    #[default]
    Units,
    MemoryMib,
}

impl TargetUnit {
    pub fn as_str(self) -> &'static str {
        match self {
            TargetUnit::Units => "units",
            TargetUnit::MemoryMib => "memory-mib",
        }
    }
}
