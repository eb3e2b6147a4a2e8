//! The source of a launch, as far as permissions depend on it: templates, subnets, role, and what the templates name.

use crate::core::model::LaunchOverride;

/// The source of a launch: templates, subnets, and whatever the templates name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchSource {
    /// `lt-...`; empty: any.
    pub templates: Vec<String>,
    /// `subnet-...`; empty: any.
    pub subnets: Vec<String>,
    pub role: PassedRole,
    /// `None`: the templates have not been read, and may name anything.
    pub named: Option<TemplateNames>,
}

/// The names in launch templates, other than the image, for which a caller needs a permission. `*` stands for a name in
/// a form that makes no ARN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateNames {
    pub key_pairs: Vec<String>,
    pub security_groups: Vec<String>,
    pub placement_groups: Vec<String>,
    pub capacity_reservations: Vec<String>,
    /// ARNs of resource groups of capacity reservations.
    pub reservation_groups: Vec<String>,
    /// Names or ARNs of SSM parameters that hold the image's id.
    pub parameters: Vec<String>,
    /// Ids or ARNs of customer-managed keys of volumes.
    pub keys: Vec<String>,
    /// Tells whether they tag Spot requests.
    pub tags_spot_requests: bool,
    /// Tells whether they tag volumes.
    pub tags_volumes: bool,
}

impl TemplateNames {
    /// The names that an override gives in place of its template's.
    pub fn of_override(pool: &LaunchOverride) -> TemplateNames {
        let parameter = pool.image_id.as_deref().and_then(|image| image.strip_prefix("resolve:ssm:"));
        let volumes = pool.block_devices.iter().filter_map(|device| device.volume.as_ref());
        TemplateNames {
            placement_groups: pool.placement_group.iter().cloned().collect(),
            parameters: parameter.map(str::to_owned).into_iter().collect(),
            keys: volumes.filter_map(|volume| volume.kms_key_id.clone()).collect(),
            ..TemplateNames::default()
        }
    }

    /// Merges the names of both.
    pub fn and(mut self, other: TemplateNames) -> TemplateNames {
        let lists = [
            (&mut self.key_pairs, other.key_pairs),
            (&mut self.security_groups, other.security_groups),
            (&mut self.placement_groups, other.placement_groups),
            (&mut self.capacity_reservations, other.capacity_reservations),
            (&mut self.reservation_groups, other.reservation_groups),
            (&mut self.parameters, other.parameters),
            (&mut self.keys, other.keys),
        ];
        for (all, more) in lists {
            all.extend(more);
            all.sort();
            all.dedup();
        }
        self.tags_spot_requests |= other.tags_spot_requests;
        self.tags_volumes |= other.tags_volumes;
        self
    }
}

/// The role that a launched instance gets from its template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PassedRole {
    /// The instance gets no role.
    None,
    Named(String),
    #[default]
    Unknown,
}

impl PassedRole {
    /// Stands for a role that is not known: it grants nothing until a person writes the name.
    pub const PLACEHOLDER: &str = "NAME-OF-THE-TEMPLATES-ROLE";
}
