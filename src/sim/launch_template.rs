//! One launch template with its versions, as the world holds it.

use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Clone, Debug)]
pub(crate) struct LaunchTemplate {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Instant,
    pub(crate) tags: BTreeMap<String, String>,
    /// Version 1 is the first.
    pub(crate) versions: Vec<TemplateVersion>,
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
            Some("$Latest") => self.versions.len(),
            Some(number) => number.parse().ok()?,
        };
        (1..=self.versions.len()).contains(&number).then_some(number)
    }

    pub(crate) fn version(&self, number: usize) -> Option<&TemplateVersion> {
        self.versions.get(number.checked_sub(1)?)
    }
}
