//! Launch templates with their pools, between AWS's three spellings (EC2 Fleet's, Spot Fleet's, CreateFleet's) and
//! ours.
//!
//! It makes no calls. Invariant: what a fleet says about what it launches, and where, reaches CreateFleet unchanged.
//! What the model does not know is left to the launch template.

use aws_sdk_ec2::types::{
    FleetLaunchTemplateConfig, FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverrides,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecification, FleetLaunchTemplateSpecificationRequest,
    InstanceType, LaunchTemplateConfig, LaunchTemplateOverrides, Placement,
};

use super::ec2::handed_on;
use super::instance_requirements::{block_device, block_device_request, requirements, requirements_request};
use crate::core::model::{LaunchConfiguration, LaunchOverride, LaunchTemplate};

/// The weight of a whole instance where weights are not used.
const ONE: u32 = 100;

pub(super) fn of_ec2_fleet(config: &FleetLaunchTemplateConfig) -> Option<LaunchConfiguration> {
    let template = template(config.launch_template_specification()?)?;
    Some(LaunchConfiguration { template, overrides: config.overrides().iter().flat_map(ec2_fleet_override).collect() })
}

pub(super) fn of_spot_fleet(config: &LaunchTemplateConfig) -> Option<LaunchConfiguration> {
    let template = template(config.launch_template_specification()?)?;
    Some(LaunchConfiguration { template, overrides: config.overrides().iter().flat_map(spot_fleet_override).collect() })
}

/// The configurations for a fleet of one instance. If a weight is below one no weight is sent: it would launch two.
pub(super) fn for_one_instance(configurations: &[LaunchConfiguration]) -> Vec<FleetLaunchTemplateConfigRequest> {
    let mut overrides = configurations.iter().flat_map(|configuration| &configuration.overrides);
    let weighted = overrides.all(|wanted| wanted.weight_hundredths.is_none_or(|weight| weight >= ONE));
    let request = |configuration: &LaunchConfiguration| {
        let overrides = configuration.overrides.iter().map(|wanted| override_request(wanted, weighted));
        FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(specification(&configuration.template))
            .set_overrides(Some(overrides.collect()).filter(|overrides: &Vec<_>| !overrides.is_empty()))
            .build()
    };
    configurations.iter().map(request).collect()
}

fn template(specification: &FleetLaunchTemplateSpecification) -> Option<LaunchTemplate> {
    let id_or_name = specification.launch_template_id().or(specification.launch_template_name())?.to_owned();
    // AWS takes the default version where a specification names none.
    Some(LaunchTemplate {
        id_or_name,
        version: specification.version().unwrap_or(LaunchTemplate::DEFAULT_VERSION).to_owned(),
    })
}

fn specification(template: &LaunchTemplate) -> FleetLaunchTemplateSpecificationRequest {
    let request = FleetLaunchTemplateSpecificationRequest::builder().version(&template.version);
    if template.id_or_name.starts_with("lt-") {
        request.launch_template_id(&template.id_or_name).build()
    } else {
        request.launch_template_name(&template.id_or_name).build()
    }
}

fn ec2_fleet_override(wanted: &FleetLaunchTemplateOverrides) -> Vec<LaunchOverride> {
    let pools = LaunchOverride {
        instance_type: wanted.instance_type().map(|instance_type| instance_type.as_str().to_owned()),
        subnet_id: wanted.subnet_id().map(str::to_owned),
        availability_zone: wanted.availability_zone().map(str::to_owned),
        availability_zone_id: wanted.availability_zone_id().map(str::to_owned),
        max_price: wanted.max_price().map(str::to_owned),
        weight_hundredths: wanted.weighted_capacity().map(hundredths),
        image_id: wanted.image_id().map(str::to_owned),
        priority: wanted.priority().map(|priority| priority.to_string()),
        placement_group: wanted.placement().and_then(|placement| placement.group_name()).map(str::to_owned),
        block_devices: wanted.block_device_mappings().iter().map(block_device).collect(),
        requirements: wanted.instance_requirements().map(requirements),
    };
    one_each(&pools)
}

fn spot_fleet_override(wanted: &LaunchTemplateOverrides) -> Vec<LaunchOverride> {
    let pools = LaunchOverride {
        instance_type: wanted.instance_type().map(|instance_type| instance_type.as_str().to_owned()),
        subnet_id: wanted.subnet_id().map(str::to_owned),
        availability_zone: wanted.availability_zone().map(str::to_owned),
        availability_zone_id: wanted.availability_zone_id().map(str::to_owned),
        max_price: wanted.spot_price().map(str::to_owned),
        weight_hundredths: wanted.weighted_capacity().map(hundredths),
        priority: wanted.priority().map(|priority| priority.to_string()),
        requirements: wanted.instance_requirements().map(requirements),
        ..LaunchOverride::default()
    };
    one_each(&pools)
}

/// Splits an override with several subnets or zones, separated by commas. An instant fleet takes one each.
fn one_each(pools: &LaunchOverride) -> Vec<LaunchOverride> {
    let parts = |list: &Option<String>| -> Vec<Option<String>> {
        let parts = list.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<Option<String>> = parts.map(|part| Some(part.to_owned())).collect();
        if parts.is_empty() { vec![None] } else { parts }
    };
    let one = |subnet_id: &Option<String>, zone: &Option<String>, zone_id: &Option<String>| LaunchOverride {
        subnet_id: subnet_id.clone(),
        availability_zone: zone.clone(),
        availability_zone_id: zone_id.clone(),
        ..pools.clone()
    };
    let (zones, zone_ids) = (parts(&pools.availability_zone), parts(&pools.availability_zone_id));
    let places = zones.iter().flat_map(|zone| zone_ids.iter().map(move |zone_id| (zone, zone_id)));
    let subnets = parts(&pools.subnet_id);
    subnets.iter().flat_map(|subnet| places.clone().map(|(zone, zone_id)| one(subnet, zone, zone_id))).collect()
}

fn override_request(wanted: &LaunchOverride, weighted: bool) -> FleetLaunchTemplateOverridesRequest {
    let weight = wanted.weight_hundredths.filter(|_| weighted).map(|hundredths| f64::from(hundredths) / f64::from(ONE));
    let block_devices = wanted.block_devices.iter().map(block_device_request);
    let block_devices = Some(block_devices.collect()).filter(|devices: &Vec<_>| !devices.is_empty());
    let request = handed_on!(wanted => FleetLaunchTemplateOverridesRequest::builder(),
        subnet_id availability_zone availability_zone_id max_price image_id);
    request
        .set_instance_type(wanted.instance_type.as_deref().map(InstanceType::from))
        .set_weighted_capacity(weight)
        .set_priority(wanted.priority.as_deref().and_then(|priority| priority.parse().ok()))
        .set_placement(wanted.placement_group.as_ref().map(|group| Placement::builder().group_name(group).build()))
        .set_block_device_mappings(block_devices)
        .set_instance_requirements(wanted.requirements.as_ref().map(requirements_request))
        .build()
}

pub(super) fn hundredths(weight: f64) -> u32 {
    (weight * f64::from(ONE)).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::*;

    use super::*;

    macro_rules! range {
        ($range:ident, $min:expr, $max:expr) => {
            $range::builder().min($min).max($max).build()
        };
    }

    fn every_requirement() -> InstanceRequirements {
        let reference = PerformanceFactorReference::builder().instance_family("m6i").build();
        let cpu = CpuPerformanceFactor::builder().references(reference).build();
        InstanceRequirements::builder()
            .v_cpu_count(range!(VCpuCountRange, 2, 8))
            .memory_mib(range!(MemoryMiB, 4_096, 16_384))
            .cpu_manufacturers(CpuManufacturer::Amd)
            .memory_gib_per_v_cpu(range!(MemoryGiBPerVCpu, 1.5, 4.0))
            .excluded_instance_types("t2.*")
            .instance_generations(InstanceGeneration::Current)
            .spot_max_price_percentage_over_lowest_price(50)
            .on_demand_max_price_percentage_over_lowest_price(20)
            .bare_metal(BareMetal::Excluded)
            .burstable_performance(BurstablePerformance::Included)
            .require_hibernate_support(false)
            .network_interface_count(range!(NetworkInterfaceCount, 1, 4))
            .local_storage(LocalStorage::Required)
            .local_storage_types(LocalStorageType::Ssd)
            .total_local_storage_gb(range!(TotalLocalStorageGb, 10.0, 99.5))
            .baseline_ebs_bandwidth_mbps(range!(BaselineEbsBandwidthMbps, 100, 900))
            .accelerator_types(AcceleratorType::Gpu)
            .accelerator_count(range!(AcceleratorCount, 0, 2))
            .accelerator_manufacturers(AcceleratorManufacturer::Nvidia)
            .accelerator_names(AcceleratorName::T4)
            .accelerator_total_memory_mib(range!(AcceleratorTotalMemoryMiB, 1, 2))
            .network_bandwidth_gbps(range!(NetworkBandwidthGbps, 1.0, 10.0))
            .allowed_instance_types("m5.*")
            .max_spot_price_as_percentage_of_optimal_on_demand_price(80)
            .baseline_performance_factors(BaselinePerformanceFactors::builder().cpu(cpu).build())
            .require_encryption_in_transit(true)
            .build()
    }

    #[test]
    fn every_member_of_an_override_reaches_the_request() {
        let volume = EbsBlockDeviceResponse::builder()
            .encrypted(true)
            .delete_on_termination(true)
            .iops(3_000)
            .throughput(125)
            .kms_key_id("key")
            .snapshot_id("snap-1")
            .volume_size(8)
            .volume_type(VolumeType::Gp3)
            .build();
        let device = BlockDeviceMappingResponse::builder().device_name("/dev/xvda").ebs(volume).build();
        let wanted = FleetLaunchTemplateOverrides::builder()
            .instance_type(InstanceType::M5Large)
            .max_price("0.05")
            .subnet_id("subnet-1")
            .availability_zone("eu-west-1a")
            .weighted_capacity(2.0)
            .priority(3.0)
            .placement(PlacementResponse::builder().group_name("rack").build())
            .instance_requirements(every_requirement())
            .image_id("ami-1")
            .block_device_mappings(device)
            .availability_zone_id("euw1-az1")
            .build();
        let [ours] = ec2_fleet_override(&wanted).try_into().expect("one subnet, one override");
        let request = override_request(&ours, true);
        let spelled = |debug: String| debug.replace("Request", "").replace("Response", "");
        let placement = |text: String| text.split("placement").next().unwrap_or_default().to_owned();
        assert_eq!(
            placement(spelled(format!("{request:?}"))),
            placement(spelled(format!("{wanted:?}"))),
            "up to what a request has more"
        );
        let both = (request.instance_requirements(), wanted.instance_requirements());
        assert_eq!(spelled(format!("{:?}", both.0)), spelled(format!("{:?}", both.1)));
        assert!(!format!("{:?}", both.0).contains("None"), "the test says every member");
        let devices = (request.block_device_mappings(), wanted.block_device_mappings());
        let spelled = |debug: String| spelled(debug).replace("Fleet", "");
        assert_eq!(spelled(format!("{:?}", devices.0)), spelled(format!("{:?}", devices.1)));
        assert_eq!(request.placement().and_then(|placement| placement.group_name()), Some("rack"));
        assert_eq!((request.image_id(), request.availability_zone_id()), (Some("ami-1"), Some("euw1-az1")));
    }

    #[test]
    fn every_member_of_a_spot_fleets_override_reaches_the_request() {
        let wanted = LaunchTemplateOverrides::builder()
            .instance_type(InstanceType::M5Large)
            .spot_price("0.05")
            .subnet_id("subnet-1")
            .availability_zone("eu-west-1a")
            .weighted_capacity(2.0)
            .priority(3.0)
            .instance_requirements(every_requirement())
            .availability_zone_id("euw1-az1")
            .build();
        assert!(!format!("{wanted:?}").contains("None"), "the test says every member: {wanted:?}");
        let [ours] = spot_fleet_override(&wanted).try_into().expect("one subnet, one override");
        let spelled = |debug: String| debug.replace("Request", "");
        let expected = FleetLaunchTemplateOverridesRequest::builder()
            .instance_type(InstanceType::M5Large)
            .max_price("0.05")
            .subnet_id("subnet-1")
            .availability_zone("eu-west-1a")
            .weighted_capacity(2.0)
            .priority(3.0)
            .availability_zone_id("euw1-az1");
        let request = override_request(&ours, true);
        let requirements = format!("{:?}", request.instance_requirements());
        assert_eq!(spelled(requirements), spelled(format!("{:?}", wanted.instance_requirements())));
        let expected = expected.set_instance_requirements(request.instance_requirements().cloned()).build();
        assert_eq!(request, expected);
    }

    #[test]
    fn an_override_of_several_subnets_becomes_one_for_each() {
        let of = |subnets: &str| FleetLaunchTemplateOverrides::builder().subnet_id(subnets).max_price("1").build();
        let subnets = |wanted: &FleetLaunchTemplateOverrides| -> Vec<Option<String>> {
            ec2_fleet_override(wanted).into_iter().map(|one| one.subnet_id).collect()
        };
        let both = vec![Some("subnet-1".to_owned()), Some("subnet-2".to_owned())];
        assert_eq!(subnets(&of("subnet-1, subnet-2")), both);
        assert_eq!(subnets(&of("subnet-1,subnet-2,")), both);
        assert_eq!(subnets(&FleetLaunchTemplateOverrides::builder().build()), [None]);
    }
}
