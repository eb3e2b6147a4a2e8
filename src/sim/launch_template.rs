//! One launch template with its versions, as the world holds it.

use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct LaunchTemplate {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Instant,
    pub(crate) tags: BTreeMap<String, String>,
    /// By number; version 1 is the first. A deleted one is absent, and its number is never given again.
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
    /// `spot` of `InstanceMarketOptions`.
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

/// A template by id or by name, with a version as asked for: a number, `$Latest` or `$Default`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateReference {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
}

impl LaunchTemplate {
    /// The number that an asked-for version means.
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

    /// A copy of the latest version is the default from now on, and every version before it is deleted.
    pub(crate) fn renew(&mut self) {
        let Some((number, version)) = self.versions.pop_last() else { return };
        self.default_version = number + 1;
        self.versions = BTreeMap::from([(self.default_version, version)]);
    }
}
