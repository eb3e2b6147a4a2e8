//! One EC2 Fleet or Spot Fleet.

use std::collections::BTreeMap;
use std::time::Instant;

use super::instance::{InstancePlace, Keeper};
use super::launch_template::TemplateReference;
use super::settings::{FleetType, LifeCycle, TargetUnit};

#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    /// `fleet-...` or `sfr-...`
    pub(crate) id: String,
    pub(crate) type_: FleetType,
    /// `active`, `deleted_running`, `deleted_terminating`; a Spot Fleet's `cancelled_running`, ...
    pub(crate) state: &'static str,
    /// Its `ValidUntil` has passed, so it launches nothing.
    pub(crate) is_expired: bool,
    pub(crate) target: u32,
    pub(crate) unit: TargetUnit,
    pub(crate) on_demand_target: u32,
    pub(crate) default_life_cycle: LifeCycle,
    pub(crate) replacement_strategy: Option<String>,
    pub(crate) terminates_excess: bool,
    pub(crate) configs: Vec<TemplateConfig>,
    /// The target groups of a Spot Fleet, which registers what it launches.
    pub(crate) target_groups: Vec<String>,
    /// The tags of the fleet, and those of its instances.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) instance_tags: BTreeMap<String, String>,
    pub(crate) created: Instant,
    pub(crate) client_token: Option<String>,
    /// Launches that are decided but not made yet.
    pub(crate) launching: u32,
    /// The launches of an instant fleet, and its failures.
    pub(crate) launched: Vec<(Choice, Vec<String>)>,
    pub(crate) failed: Vec<(Choice, Obstacle)>,
    /// The time until which a change does not show, and the target that shows meanwhile.
    pub(crate) modifying: Option<(Instant, u32)>,
}

/// A template with its overrides; without a template the overrides are launch specifications.
#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateConfig {
    pub(crate) template: TemplateReference,
    pub(crate) overrides: Vec<Override>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Override {
    pub(crate) instance_type: Option<String>,
    pub(crate) subnet: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) priority: Option<String>,
    pub(crate) weighted_capacity: Option<String>,
    /// The least memory of `InstanceRequirements`, in MiB.
    pub(crate) memory_from: Option<u32>,
}

/// A pool into which a fleet may launch, with its template and override.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) template: TemplateReference,
    pub(crate) override_: Option<Override>,
    pub(crate) place: InstancePlace,
}

#[derive(Clone, Debug)]
pub(crate) struct Obstacle {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Fleet {
    pub(crate) fn is_spot_fleet(&self) -> bool {
        self.id.starts_with("sfr-")
    }

    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::Fleet(self.id.clone())
    }

    /// The state and the target as AWS shows them.
    pub(crate) fn shown(&self, now: Instant) -> (&'static str, u32) {
        match self.modifying {
            Some((until, before)) if now < until && self.state == "active" => ("modifying", before),
            _ => (self.state, self.target),
        }
    }

    /// Tells whether it launches from launch specifications, not from templates.
    pub(crate) fn is_specified(&self) -> bool {
        self.configs.iter().any(|config| config.template.id.is_none() && config.template.name.is_none())
    }

    /// The unit as AWS shows it: `units` is the default and is not shown.
    pub(crate) fn named_unit(&self) -> Option<&'static str> {
        Some(self.unit.as_str()).filter(|_| self.unit != TargetUnit::Units)
    }

    /// The weight of an instance of this type.
    pub(crate) fn weight(&self, instance_type: &str) -> Option<f64> {
        let has_type = |one: &&Override| one.instance_type.as_deref().is_none_or(|name| name == instance_type);
        let mut overrides = self.configs.iter().flat_map(|config| &config.overrides).filter(has_type);
        overrides.find_map(|one| one.weighted_capacity.as_ref()?.parse().ok())
    }

    pub(crate) fn spot_target(&self) -> u32 {
        self.target.saturating_sub(self.on_demand_target)
    }
}
