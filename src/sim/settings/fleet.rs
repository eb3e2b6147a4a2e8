//! The units that the fleet counts in, where it is the owner.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The settings of the fleet beside the usual ones.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetSettings {
    pub unit: TargetUnit,
    /// A Spot Fleet that was made of launch specifications, as all were once: it and its instances know no launch template.
    pub launch_specifications: bool,
    /// `WeightedCapacity` by instance type, in overrides or launch specifications; a number as text.
    pub weights: BTreeMap<String, String>,
    /// The fleet's own tags.
    pub tags: BTreeMap<String, String>,
}

/// `TargetCapacityUnitType`. A fleet that counts memory launches by `InstanceRequirements`, as AWS wants it to.
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
