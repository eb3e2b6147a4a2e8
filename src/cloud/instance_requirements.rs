//! Attribute-based instance type selection and block devices: from AWS's answers to our model, and from there to
//! requests. Invariant: every member that AWS answers reaches the request.

use aws_sdk_ec2::types::{
    AcceleratorCountRequest, AcceleratorManufacturer, AcceleratorName, AcceleratorTotalMemoryMiBRequest,
    AcceleratorType, BareMetal, BaselineEbsBandwidthMbpsRequest, BaselinePerformanceFactorsRequest,
    BlockDeviceMappingResponse, BurstablePerformance, CpuManufacturer, CpuPerformanceFactorRequest,
    EbsBlockDeviceResponse, FleetBlockDeviceMappingRequest, FleetEbsBlockDeviceRequest, InstanceGeneration,
    InstanceRequirements as Requirements, InstanceRequirementsRequest, LocalStorage, LocalStorageType,
    MemoryGiBPerVCpuRequest, MemoryMiBRequest, NetworkBandwidthGbpsRequest, NetworkInterfaceCountRequest,
    PerformanceFactorReferenceRequest, TotalLocalStorageGbRequest, VCpuCountRangeRequest, VolumeType,
};

use super::ec2::handed_on;
use crate::core::model::{BlockDevice, Decimals, InstanceRequirements, Volume};

/// The two ends of a range in an answer.
macro_rules! range {
    ($range:expr) => {
        $range.map(|range| (range.min(), range.max()))
    };
}

macro_rules! decimals {
    ($range:expr) => {
        $range.map(|range| (range.min().map(|it| it.to_string()), range.max().map(|it| it.to_string())))
    };
}

/// A request's range with these two ends.
macro_rules! range_request {
    ($request:ident, $range:expr) => {
        $range.map(|(min, max)| $request::builder().set_min(min).set_max(max).build())
    };
}

macro_rules! decimals_request {
    ($request:ident, $range:expr) => {
        $range.as_ref().map(|range| {
            let (min, max) = numbers(range);
            $request::builder().set_min(min).set_max(max).build()
        })
    };
}

pub(super) fn requirements(wanted: &Requirements) -> InstanceRequirements {
    let cpu = wanted.baseline_performance_factors().and_then(|factors| factors.cpu());
    let families = cpu.map(|cpu| cpu.references()).unwrap_or_default().iter();
    InstanceRequirements {
        vcpu_count: range!(wanted.v_cpu_count()).unwrap_or_default(),
        memory_mib: range!(wanted.memory_mib()).unwrap_or_default(),
        memory_gib_per_vcpu: decimals!(wanted.memory_gib_per_v_cpu()),
        cpu_manufacturers: words(wanted.cpu_manufacturers(), CpuManufacturer::as_str),
        instance_generations: words(wanted.instance_generations(), InstanceGeneration::as_str),
        allowed_instance_types: wanted.allowed_instance_types().to_vec(),
        excluded_instance_types: wanted.excluded_instance_types().to_vec(),
        spot_max_price_percentage_over_lowest_price: wanted.spot_max_price_percentage_over_lowest_price(),
        on_demand_max_price_percentage_over_lowest_price: wanted.on_demand_max_price_percentage_over_lowest_price(),
        max_spot_price_as_percentage_of_optimal_on_demand_price: wanted
            .max_spot_price_as_percentage_of_optimal_on_demand_price(),
        burstable_performance: wanted.burstable_performance().map(|value| value.as_str().to_owned()),
        bare_metal: wanted.bare_metal().map(|value| value.as_str().to_owned()),
        require_hibernate_support: wanted.require_hibernate_support(),
        require_encryption_in_transit: wanted.require_encryption_in_transit(),
        network_interface_count: range!(wanted.network_interface_count()),
        network_bandwidth_gbps: decimals!(wanted.network_bandwidth_gbps()),
        local_storage: wanted.local_storage().map(|value| value.as_str().to_owned()),
        local_storage_types: words(wanted.local_storage_types(), LocalStorageType::as_str),
        total_local_storage_gb: decimals!(wanted.total_local_storage_gb()),
        baseline_ebs_bandwidth_mbps: range!(wanted.baseline_ebs_bandwidth_mbps()),
        accelerator_types: words(wanted.accelerator_types(), AcceleratorType::as_str),
        accelerator_count: range!(wanted.accelerator_count()),
        accelerator_manufacturers: words(wanted.accelerator_manufacturers(), AcceleratorManufacturer::as_str),
        accelerator_names: words(wanted.accelerator_names(), AcceleratorName::as_str),
        accelerator_total_memory_mib: range!(wanted.accelerator_total_memory_mib()),
        baseline_performance_families: families.filter_map(|it| it.instance_family().map(str::to_owned)).collect(),
    }
}

pub(super) fn requirements_request(wanted: &InstanceRequirements) -> InstanceRequirementsRequest {
    let (vcpu, memory) = (Some(wanted.vcpu_count), Some(wanted.memory_mib));
    let request = handed_on!(wanted => InstanceRequirementsRequest::builder(),
        spot_max_price_percentage_over_lowest_price on_demand_max_price_percentage_over_lowest_price
        max_spot_price_as_percentage_of_optimal_on_demand_price require_hibernate_support require_encryption_in_transit);
    request
        .set_v_cpu_count(range_request!(VCpuCountRangeRequest, vcpu))
        .set_memory_mib(range_request!(MemoryMiBRequest, memory))
        .set_memory_gib_per_v_cpu(decimals_request!(MemoryGiBPerVCpuRequest, wanted.memory_gib_per_vcpu))
        .set_cpu_manufacturers(some(&wanted.cpu_manufacturers))
        .set_instance_generations(some(&wanted.instance_generations))
        .set_allowed_instance_types(some(&wanted.allowed_instance_types))
        .set_excluded_instance_types(some(&wanted.excluded_instance_types))
        .set_burstable_performance(wanted.burstable_performance.as_deref().map(BurstablePerformance::from))
        .set_bare_metal(wanted.bare_metal.as_deref().map(BareMetal::from))
        .set_network_interface_count(range_request!(NetworkInterfaceCountRequest, wanted.network_interface_count))
        .set_network_bandwidth_gbps(decimals_request!(NetworkBandwidthGbpsRequest, wanted.network_bandwidth_gbps))
        .set_local_storage(wanted.local_storage.as_deref().map(LocalStorage::from))
        .set_local_storage_types(some(&wanted.local_storage_types))
        .set_total_local_storage_gb(decimals_request!(TotalLocalStorageGbRequest, wanted.total_local_storage_gb))
        .set_baseline_ebs_bandwidth_mbps(range_request!(
            BaselineEbsBandwidthMbpsRequest,
            wanted.baseline_ebs_bandwidth_mbps
        ))
        .set_accelerator_types(some(&wanted.accelerator_types))
        .set_accelerator_count(range_request!(AcceleratorCountRequest, wanted.accelerator_count))
        .set_accelerator_manufacturers(some(&wanted.accelerator_manufacturers))
        .set_accelerator_names(some(&wanted.accelerator_names))
        .set_accelerator_total_memory_mib(range_request!(
            AcceleratorTotalMemoryMiBRequest,
            wanted.accelerator_total_memory_mib
        ))
        .set_baseline_performance_factors(baseline(&wanted.baseline_performance_families))
        .build()
}

fn baseline(families: &[String]) -> Option<BaselinePerformanceFactorsRequest> {
    let reference = |family: &String| PerformanceFactorReferenceRequest::builder().instance_family(family).build();
    let references: Vec<_> = families.iter().map(reference).collect();
    let cpu = CpuPerformanceFactorRequest::builder().set_references(Some(references)).build();
    (!families.is_empty()).then(|| BaselinePerformanceFactorsRequest::builder().cpu(cpu).build())
}

pub(super) fn block_device(wanted: &BlockDeviceMappingResponse) -> BlockDevice {
    BlockDevice {
        device_name: wanted.device_name().map(str::to_owned),
        virtual_name: wanted.virtual_name().map(str::to_owned),
        no_device: wanted.no_device().map(str::to_owned),
        volume: wanted.ebs().map(volume),
    }
}

fn volume(wanted: &EbsBlockDeviceResponse) -> Volume {
    Volume {
        encrypted: wanted.encrypted(),
        delete_on_termination: wanted.delete_on_termination(),
        iops: wanted.iops(),
        throughput: wanted.throughput(),
        kms_key_id: wanted.kms_key_id().map(str::to_owned),
        snapshot_id: wanted.snapshot_id().map(str::to_owned),
        size_gib: wanted.volume_size(),
        volume_type: wanted.volume_type().map(|value| value.as_str().to_owned()),
    }
}

pub(super) fn block_device_request(wanted: &BlockDevice) -> FleetBlockDeviceMappingRequest {
    let request = FleetBlockDeviceMappingRequest::builder().set_ebs(wanted.volume.as_ref().map(volume_request));
    handed_on!(wanted => request, device_name virtual_name no_device).build()
}

fn volume_request(wanted: &Volume) -> FleetEbsBlockDeviceRequest {
    let request = handed_on!(wanted => FleetEbsBlockDeviceRequest::builder(),
        encrypted delete_on_termination iops throughput kms_key_id snapshot_id);
    request
        .set_volume_size(wanted.size_gib)
        .set_volume_type(wanted.volume_type.as_deref().map(VolumeType::from))
        .build()
}

fn words<T>(values: &[T], word: impl Fn(&T) -> &str) -> Vec<String> {
    values.iter().map(|value| word(value).to_owned()).collect()
}

/// The list, or `None` if it is empty: AWS wants an empty list left out.
fn some<T>(values: &[String]) -> Option<Vec<T>>
where
    T: for<'a> From<&'a str>,
{
    Some(values.iter().map(|value| T::from(value.as_str())).collect()).filter(|values: &Vec<T>| !values.is_empty())
}

fn numbers((min, max): &Decimals) -> (Option<f64>, Option<f64>) {
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    (number(min), number(max))
}
