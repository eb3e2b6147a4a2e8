//! The requirements of a fleet's override, other than type and place. They are carried whole, because a copy that drops
//! one launches something else (docs/aws.md 4).

use serde::{Deserialize, Serialize};

/// A least and a greatest value, either of which may be open.
pub type Range = (Option<i32>, Option<i32>);
/// A [`Range`] of numbers with a fraction, as text: they are carried, never counted with.
pub type Decimals = (Option<String>, Option<String>);

/// Attribute-based instance type selection, every member of it by AWS's name. Empty and `None` mean: not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceRequirements {
    pub vcpu_count: Range,
    pub memory_mib: Range,
    pub memory_gib_per_vcpu: Option<Decimals>,
    pub cpu_manufacturers: Vec<String>,
    pub instance_generations: Vec<String>,
    pub allowed_instance_types: Vec<String>,
    pub excluded_instance_types: Vec<String>,
    pub spot_max_price_percentage_over_lowest_price: Option<i32>,
    pub on_demand_max_price_percentage_over_lowest_price: Option<i32>,
    pub max_spot_price_as_percentage_of_optimal_on_demand_price: Option<i32>,
    pub burstable_performance: Option<String>,
    pub bare_metal: Option<String>,
    pub require_hibernate_support: Option<bool>,
    pub require_encryption_in_transit: Option<bool>,
    pub network_interface_count: Option<Range>,
    pub network_bandwidth_gbps: Option<Decimals>,
    pub local_storage: Option<String>,
    pub local_storage_types: Vec<String>,
    pub total_local_storage_gb: Option<Decimals>,
    pub baseline_ebs_bandwidth_mbps: Option<Range>,
    pub accelerator_types: Vec<String>,
    pub accelerator_count: Option<Range>,
    pub accelerator_manufacturers: Vec<String>,
    pub accelerator_names: Vec<String>,
    pub accelerator_total_memory_mib: Option<Range>,
    /// The instance families whose processors are the baseline.
    pub baseline_performance_families: Vec<String>,
}

/// One block device of an override.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockDevice {
    pub device_name: Option<String>,
    pub virtual_name: Option<String>,
    pub no_device: Option<String>,
    pub volume: Option<Volume>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Volume {
    pub encrypted: Option<bool>,
    pub delete_on_termination: Option<bool>,
    pub iops: Option<i32>,
    pub throughput: Option<i32>,
    pub kms_key_id: Option<String>,
    pub snapshot_id: Option<String>,
    pub size_gib: Option<i32>,
    pub volume_type: Option<String>,
}
