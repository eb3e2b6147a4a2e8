//! One launch template with its versions.

use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct LaunchTemplate {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Instant,
    pub(crate) tags: BTreeMap<String, String>,
    /// The versions by number, from 1. A deleted version is absent, and its number is not used again.
    pub(crate) versions: BTreeMap<usize, TemplateVersion>,
    pub(crate) default_version: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateVersion {
    pub(crate) instance_type: String,
    pub(crate) image: String,
    pub(crate) subnet: Option<String>,
    pub(crate) instance_profile: Option<String>,
    pub(crate) security_groups: Vec<String>,
    /// The `MarketType` of `InstanceMarketOptions`: `spot`.
    pub(crate) market: Option<String>,
    pub(crate) max_price: Option<String>,
    /// Its Spot requests are of type `persistent`.
    pub(crate) is_persistent: bool,
    pub(crate) instance_tags: BTreeMap<String, String>,
    pub(crate) spot_request_tags: BTreeMap<String, String>,
    pub(crate) key_name: Option<String>,
    /// The key of the root volume.
    pub(crate) kms_key: Option<String>,
    pub(crate) placement_group: Option<String>,
    pub(crate) capacity_reservation: Option<String>,
    pub(crate) user_data: Option<String>,
}

/// A template's id or name, and a version: a number, `$Latest` or `$Default`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateReference {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
}

impl LaunchTemplate {
    /// The number of this version.
    pub(crate) fn number(&self, version: Option<&str>) -> Option<usize> {
        let number = match version {
            None | Some("$Default") => self.default_version,
            Some("$Latest") => self.latest(),
            Some(number) => number.parse().ok()?,
        };
        self.versions.contains_key(&number).then_some(number)
    }

    pub(crate) fn version(&self, number: usize) -> Option<&TemplateVersion> {
        self.versions.get(&number)
    }

    pub(crate) fn latest(&self) -> usize {
        self.versions.keys().next_back().copied().unwrap_or_default()
    }

    /// Adds a copy of the latest version as the default, and deletes every earlier version.
    pub(crate) fn renew(&mut self) {
        let Some((number, version)) = self.versions.pop_last() else { return };
        self.default_version = number + 1;
        self.versions = BTreeMap::from([(self.default_version, version)]);
    }
}
