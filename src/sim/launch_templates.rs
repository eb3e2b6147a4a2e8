//! Launch templates and their versions: what an instance is made of.

use std::collections::BTreeMap;
use std::time::Instant;

use super::world::World;

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
    /// Of the root volume.
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

impl World {
    pub(crate) fn launch_template(&self, id: Option<&str>, name: Option<&str>) -> Option<&LaunchTemplate> {
        self.launch_templates.iter().find(|template| match (id, name) {
            (Some(id), _) => template.id == id,
            (None, Some(name)) => template.name == name,
            (None, None) => false,
        })
    }

    pub(crate) fn referenced(&self, reference: &TemplateReference) -> Option<&LaunchTemplate> {
        self.launch_template(reference.id.as_deref(), reference.name.as_deref())
    }

    pub(crate) fn template_version(&self, reference: &TemplateReference) -> Option<&TemplateVersion> {
        let template = self.referenced(reference)?;
        template.version(template.number(reference.version.as_deref())?)
    }

    /// The tags that AWS puts on an instance launched from a template, and those that the template itself names.
    pub(crate) fn template_tags(&self, reference: &TemplateReference) -> BTreeMap<String, String> {
        let Some(template) = self.referenced(reference) else { return BTreeMap::new() };
        let Some(number) = template.number(reference.version.as_deref()) else { return BTreeMap::new() };
        let mut tags = template.version(number).map(|version| version.instance_tags.clone()).unwrap_or_default();
        tags.insert("aws:ec2launchtemplate:id".to_owned(), template.id.clone());
        tags.insert("aws:ec2launchtemplate:version".to_owned(), number.to_string());
        tags
    }
}
