//! The launch template's settings, and the death of launched instances.

use serde::Deserialize;

/// Further settings of the launch template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateSettings {
    /// It has `InstanceMarketOptions` for Spot.
    pub asks_for_spot: bool,
    /// Its Spot requests are of type `persistent`.
    pub asks_persistently: bool,
    pub max_price: Option<String>,
    /// It tags `spot-instances-request`.
    pub tags_spot_requests: bool,
    /// A network interface in it names our instance's subnet.
    pub names_its_subnet: bool,
    pub image: Option<String>,
    /// The version of the first instances is deleted, and a newer one is the default.
    pub version_is_deleted: bool,
    pub key_name: Option<String>,
    pub kms_key: Option<String>,
    pub placement_group: Option<String>,
    pub capacity_reservation: Option<String>,
    pub user_data: Option<String>,
}

/// The first `count` instances launched later die within moments of their launch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeathAtBirth {
    /// The code of their `StateReason`.
    pub reason: String,
    pub count: u32,
}
