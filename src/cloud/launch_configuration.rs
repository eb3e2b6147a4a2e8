//! Launch templates with their pools, between AWS's three spellings of them (EC2 Fleet's, Spot Fleet's, CreateFleet's)
//! and ours.
//!
//! No calls here. Invariant: what a fleet says of where and what it launches reaches CreateFleet unchanged; what the model
//! does not know is left to the launch template.

use aws_sdk_ec2::types::{
    BareMetal, BurstablePerformance, CpuManufacturer, FleetLaunchTemplateConfig, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverrides, FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecification,
    FleetLaunchTemplateSpecificationRequest, InstanceGeneration, InstanceRequirements as Requirements,
    InstanceRequirementsRequest, InstanceType, LaunchTemplateConfig, LaunchTemplateOverrides, LocalStorage,
    MemoryMiBRequest, VCpuCountRangeRequest,
};

use crate::core::model::{InstanceRequirements, LaunchConfiguration, LaunchOverride, LaunchTemplate};

/// What a whole instance weighs where weights are not used.
const ONE: u32 = 100;

pub(super) fn of_ec2_fleet(config: &FleetLaunchTemplateConfig) -> Option<LaunchConfiguration> {
    let template = template(config.launch_template_specification()?)?;
    Some(LaunchConfiguration { template, overrides: config.overrides().iter().map(ec2_fleet_override).collect() })
}

pub(super) fn of_spot_fleet(config: &LaunchTemplateConfig) -> Option<LaunchConfiguration> {
    let template = template(config.launch_template_specification()?)?;
    Some(LaunchConfiguration { template, overrides: config.overrides().iter().map(spot_fleet_override).collect() })
}

/// For a fleet of one instance. A weight below one would make two of it, so then none is sent at all.
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
    Some(LaunchTemplate { id_or_name, version: specification.version().unwrap_or("$Default").to_owned() })
}

fn specification(template: &LaunchTemplate) -> FleetLaunchTemplateSpecificationRequest {
    let request = FleetLaunchTemplateSpecificationRequest::builder().version(&template.version);
    if template.id_or_name.starts_with("lt-") {
        request.launch_template_id(&template.id_or_name).build()
    } else {
        request.launch_template_name(&template.id_or_name).build()
    }
}

fn ec2_fleet_override(wanted: &FleetLaunchTemplateOverrides) -> LaunchOverride {
    LaunchOverride {
        instance_type: wanted.instance_type().map(|instance_type| instance_type.as_str().to_owned()),
        subnet_id: wanted.subnet_id().map(str::to_owned),
        availability_zone: wanted.availability_zone().map(str::to_owned),
        max_price: wanted.max_price().map(str::to_owned),
        weight_hundredths: wanted.weighted_capacity().map(hundredths),
        image_id: wanted.image_id().map(str::to_owned),
        requirements: wanted.instance_requirements().map(requirements),
    }
}

fn spot_fleet_override(wanted: &LaunchTemplateOverrides) -> LaunchOverride {
    LaunchOverride {
        instance_type: wanted.instance_type().map(|instance_type| instance_type.as_str().to_owned()),
        subnet_id: wanted.subnet_id().map(str::to_owned),
        availability_zone: wanted.availability_zone().map(str::to_owned),
        max_price: wanted.spot_price().map(str::to_owned),
        weight_hundredths: wanted.weighted_capacity().map(hundredths),
        image_id: None,
        requirements: wanted.instance_requirements().map(requirements),
    }
}

fn override_request(wanted: &LaunchOverride, weighted: bool) -> FleetLaunchTemplateOverridesRequest {
    let weight = wanted.weight_hundredths.filter(|_| weighted).map(|hundredths| f64::from(hundredths) / f64::from(ONE));
    FleetLaunchTemplateOverridesRequest::builder()
        .set_instance_type(wanted.instance_type.as_deref().map(InstanceType::from))
        .set_subnet_id(wanted.subnet_id.clone())
        .set_availability_zone(wanted.availability_zone.clone())
        .set_max_price(wanted.max_price.clone())
        .set_weighted_capacity(weight)
        .set_image_id(wanted.image_id.clone())
        .set_instance_requirements(wanted.requirements.as_ref().map(requirements_request))
        .build()
}

fn hundredths(weight: f64) -> u32 {
    (weight * f64::from(ONE)).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

fn requirements(wanted: &Requirements) -> InstanceRequirements {
    let vcpu_count = wanted.v_cpu_count().map(|range| (range.min(), range.max()));
    let memory_mib = wanted.memory_mib().map(|range| (range.min(), range.max()));
    InstanceRequirements {
        vcpu_count: vcpu_count.unwrap_or_default(),
        memory_mib: memory_mib.unwrap_or_default(),
        cpu_manufacturers: wanted.cpu_manufacturers().iter().map(|value| value.as_str().to_owned()).collect(),
        instance_generations: wanted.instance_generations().iter().map(|value| value.as_str().to_owned()).collect(),
        allowed_instance_types: wanted.allowed_instance_types().to_vec(),
        excluded_instance_types: wanted.excluded_instance_types().to_vec(),
        burstable_performance: wanted.burstable_performance().map(|value| value.as_str().to_owned()),
        bare_metal: wanted.bare_metal().map(|value| value.as_str().to_owned()),
        local_storage: wanted.local_storage().map(|value| value.as_str().to_owned()),
    }
}

fn requirements_request(wanted: &InstanceRequirements) -> InstanceRequirementsRequest {
    let (vcpu_min, vcpu_max) = wanted.vcpu_count;
    let (memory_min, memory_max) = wanted.memory_mib;
    let manufacturers = wanted.cpu_manufacturers.iter().map(|value| CpuManufacturer::from(value.as_str()));
    let generations = wanted.instance_generations.iter().map(|value| InstanceGeneration::from(value.as_str()));
    InstanceRequirementsRequest::builder()
        .v_cpu_count(VCpuCountRangeRequest::builder().set_min(vcpu_min).set_max(vcpu_max).build())
        .memory_mib(MemoryMiBRequest::builder().set_min(memory_min).set_max(memory_max).build())
        .set_cpu_manufacturers(some(manufacturers))
        .set_instance_generations(some(generations))
        .set_allowed_instance_types(some(wanted.allowed_instance_types.iter().cloned()))
        .set_excluded_instance_types(some(wanted.excluded_instance_types.iter().cloned()))
        .set_burstable_performance(wanted.burstable_performance.as_deref().map(BurstablePerformance::from))
        .set_bare_metal(wanted.bare_metal.as_deref().map(BareMetal::from))
        .set_local_storage(wanted.local_storage.as_deref().map(LocalStorage::from))
        .build()
}

/// A list as AWS wants it: left out where it is empty.
fn some<T>(values: impl Iterator<Item = T>) -> Option<Vec<T>> {
    Some(values.collect()).filter(|values: &Vec<T>| !values.is_empty())
}
