//! Launch templates and their versions in the world.

use std::collections::BTreeMap;

use super::launch_template::{LaunchTemplate, TemplateReference, TemplateVersion};
use super::world::World;

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

    /// The tags of an instance from this template: AWS's own, and those in the template.
    pub(crate) fn template_tags(&self, reference: &TemplateReference) -> BTreeMap<String, String> {
        let Some(template) = self.referenced(reference) else { return BTreeMap::new() };
        let Some(number) = template.number(reference.version.as_deref()) else { return BTreeMap::new() };
        let mut tags = template.version(number).map(|version| version.instance_tags.clone()).unwrap_or_default();
        tags.insert("aws:ec2launchtemplate:id".to_owned(), template.id.clone());
        tags.insert("aws:ec2launchtemplate:version".to_owned(), number.to_string());
        tags
    }
}
