//! RunInstances for one instance of a launch template. It is the last resort where CreateFleet rejects a template.
//!
//! Some templates cannot be launched as they are: they ask for Spot while on demand is wanted, or select types by
//! attributes. They are read and sent as parameters without the obstacle. Their contents, also user data, go to AWS
//! only. Invariant: one client token goes with one set of parameters; the caller makes both.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, CapacityReservationSpecification, CapacityReservationTarget,
    ConnectionTrackingSpecificationRequest, CpuOptionsRequest, CreditSpecificationRequest, EbsBlockDevice,
    EnaSrdSpecificationRequest, EnaSrdUdpSpecificationRequest, EnclaveOptionsRequest, HibernationOptionsRequest,
    HttpTokensState, IamInstanceProfileSpecification, InstanceAutoRecoveryState, InstanceInterruptionBehavior,
    InstanceMaintenanceOptionsRequest, InstanceMarketOptionsRequest, InstanceMetadataEndpointState,
    InstanceMetadataOptionsRequest, InstanceMetadataProtocolState, InstanceMetadataTagsState,
    InstanceNetworkInterfaceSpecification, InstanceNetworkPerformanceOptionsRequest,
    InstanceSecondaryInterfaceSpecificationRequest, InstanceType, LaunchTemplateBlockDeviceMapping,
    LaunchTemplateInstanceMetadataOptions, LaunchTemplateInstanceNetworkInterfaceSpecification,
    LaunchTemplateInstanceSecondaryInterfaceSpecification, LaunchTemplatePlacement, LaunchTemplateSpecification,
    LicenseConfigurationRequest, MarketType, Placement, PrivateDnsNameOptionsRequest, ResourceType,
    ResponseLaunchTemplateData, RunInstancesMonitoringEnabled, SpotInstanceType, SpotMarketOptions, Tag,
    TagSpecification,
};

use super::caller::would_be_done;
use super::ec2::{Ec2, handed_on};
use super::launch_template::{asks_for_spot, tags_spot_requests};
use crate::core::model::{InstanceId, LaunchTemplate, Launched, Market, SingleLaunch};
use crate::core::plan::TEMPLATE_TAG;
use crate::core::retry::{Failure, VERSION_NOT_FOUND};

impl Ec2 {
    /// Launches one instance. If the token repeats, AWS answers with the same instance.
    pub async fn run_instances(&self, launch: &SingleLaunch, client_token: &str) -> Result<Launched, Failure> {
        let call = self.running(launch).await?.client_token(client_token);
        let answer = self.caller.call(call.send()).await?;
        let instances = answer.instances().iter().filter_map(|instance| instance.instance_id()).map(InstanceId::new);
        Ok(Launched { instances: instances.collect(), errors: Vec::new() })
    }

    /// Tells whether RunInstances would be allowed, with the tags and the role of the instance.
    pub async fn run_instances_dry_run(&self, launch: &SingleLaunch) -> Result<(), Failure> {
        let call = self.running(launch).await?.dry_run(true);
        would_be_done(self.caller.call(call.send()).await)
    }

    async fn running(&self, launch: &SingleLaunch) -> Result<RunInstancesFluentBuilder, Failure> {
        let (template, data) = match self.template_data(&launch.template).await {
            // A template that may not be read is launched as it is.
            Err(failure) if failure.is_refusal() && !failure.has_code(&[VERSION_NOT_FOUND]) => {
                (launch.template.clone(), ResponseLaunchTemplateData::builder().build())
            }
            read => read?,
        };
        let is_on_spot_only = asks_for_spot(&data) || tags_spot_requests(&data);
        let cannot_stand = launch.market == Market::OnDemand && is_on_spot_only;
        let call = self.client.run_instances().min_count(1).max_count(1);
        let call = if cannot_stand || data.instance_requirements().is_some() {
            spelled_out(call, &data, &template, launch)
        } else {
            call.launch_template(specification(&template)).tag_specifications(tagged(launch, Vec::new()))
        };
        let call = call.instance_type(InstanceType::from(launch.instance_type.as_str()));
        let call = with_interfaces(call, &data, launch.subnet_id.as_deref());
        Ok(match launch.market {
            Market::Spot => call.instance_market_options(once_on_spot(launch.max_price.as_deref())),
            Market::OnDemand => call,
        })
    }
}

/// Names the version that was read: `$Latest` may be another one a moment later.
fn specification(template: &LaunchTemplate) -> LaunchTemplateSpecification {
    let (id_or_name, version) = (&template.id_or_name, &template.version);
    let specification = LaunchTemplateSpecification::builder().version(version);
    match id_or_name.starts_with("lt-") {
        true => specification.launch_template_id(id_or_name).build(),
        false => specification.launch_template_name(id_or_name).build(),
    }
}

/// A request of type `one-time`, whatever the template says: a `persistent` request would launch again by itself.
fn once_on_spot(max_price: Option<&str>) -> InstanceMarketOptionsRequest {
    let options = SpotMarketOptions::builder()
        .spot_instance_type(SpotInstanceType::OneTime)
        .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
        .set_max_price(max_price.map(str::to_owned));
    InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).spot_options(options.build()).build()
}

fn tagged(launch: &SingleLaunch, more: Vec<Tag>) -> TagSpecification {
    let ours = launch.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    let tags = more.into_iter().filter(|tag| !tag.key().is_some_and(|key| launch.tags.contains_key(key)));
    TagSpecification::builder().resource_type(ResourceType::Instance).set_tags(Some(tags.chain(ours).collect())).build()
}

/// Sets the pool's subnet. If the template describes interfaces RunInstances wants the subnet in the first of them; a
/// subnet in the description stays.
fn with_interfaces(
    call: RunInstancesFluentBuilder,
    data: &ResponseLaunchTemplateData,
    subnet_id: Option<&str>,
) -> RunInstancesFluentBuilder {
    let described = data.network_interfaces();
    match subnet_id {
        Some(subnet) if described.is_empty() => call.subnet_id(subnet),
        Some(subnet) => {
            let interfaces = described.iter().map(|one| interface(one, Some(subnet))).collect();
            call.set_network_interfaces(Some(interfaces))
        }
        None => call,
    }
}

/// Copies the template into the call, without Spot options, tags on Spot requests and the selection of types.
fn spelled_out(
    call: RunInstancesFluentBuilder,
    data: &ResponseLaunchTemplateData,
    template: &LaunchTemplate,
    launch: &SingleLaunch,
) -> RunInstancesFluentBuilder {
    let devices: Vec<BlockDeviceMapping> = data.block_device_mappings().iter().map(device).collect();
    let interfaces: Vec<_> = data.network_interfaces().iter().map(|one| interface(one, None)).collect();
    let secondary: Vec<_> = data.secondary_interfaces().iter().map(secondary_interface).collect();
    let profile = data.iam_instance_profile().map(|profile| {
        let name = profile.name().filter(|_| profile.arn().is_none()).map(str::to_owned);
        IamInstanceProfileSpecification::builder().set_arn(profile.arn().map(str::to_owned)).set_name(name).build()
    });
    let monitoring = data.monitoring().and_then(|monitoring| monitoring.enabled());
    let hibernation = data.hibernation_options().and_then(|options| options.configured());
    let enclave = data.enclave_options().and_then(|options| options.enabled());
    let credits = data.credit_specification().and_then(|credits| credits.cpu_credits());
    let licenses = data.license_specifications().iter().map(|license| {
        let arn = license.license_configuration_arn().map(str::to_owned);
        LicenseConfigurationRequest::builder().set_license_configuration_arn(arn).build()
    });
    let call = call
        .set_block_device_mappings(some(devices))
        .set_network_interfaces(some(interfaces))
        .set_secondary_interfaces(some(secondary))
        .set_iam_instance_profile(profile)
        .set_security_group_ids(some(data.security_group_ids().to_vec()))
        .set_security_groups(some(data.security_groups().to_vec()))
        .set_placement(data.placement().map(placement))
        .set_metadata_options(data.metadata_options().map(metadata_options))
        .set_tag_specifications(Some(tag_specifications(data, template, launch)))
        .set_license_specifications(some(licenses.collect()))
        .set_monitoring(monitoring.map(|enabled| RunInstancesMonitoringEnabled::builder().enabled(enabled).build()))
        .set_hibernation_options(hibernation.map(|it| HibernationOptionsRequest::builder().configured(it).build()))
        .set_enclave_options(enclave.map(|enabled| EnclaveOptionsRequest::builder().enabled(enabled).build()))
        .set_credit_specification(credits.map(|it| CreditSpecificationRequest::builder().cpu_credits(it).build()))
        .set_ramdisk_id(data.ram_disk_id().map(str::to_owned));
    let call = handed_on!(data => call,
        image_id key_name kernel_id user_data ebs_optimized disable_api_termination disable_api_stop
        instance_initiated_shutdown_behavior);
    with_hardware(call, data)
}

fn with_hardware(call: RunInstancesFluentBuilder, data: &ResponseLaunchTemplateData) -> RunInstancesFluentBuilder {
    let cpu = data.cpu_options().map(|cpu| {
        handed_on!(cpu => CpuOptionsRequest::builder(), core_count threads_per_core amd_sev_snp nested_virtualization)
            .build()
    });
    let recovery = data.maintenance_options().and_then(|options| options.auto_recovery()).map(|recovery| {
        let recovery = InstanceAutoRecoveryState::from(recovery.as_str());
        InstanceMaintenanceOptionsRequest::builder().auto_recovery(recovery).build()
    });
    let bandwidth = data.network_performance_options().and_then(|options| options.bandwidth_weighting());
    let bandwidth = bandwidth.map(|weighting| {
        InstanceNetworkPerformanceOptionsRequest::builder().bandwidth_weighting(weighting.clone()).build()
    });
    let names = data.private_dns_name_options().map(|names| {
        handed_on!(names => PrivateDnsNameOptionsRequest::builder(),
            hostname_type enable_resource_name_dns_a_record enable_resource_name_dns_aaaa_record)
        .build()
    });
    let reservation = data.capacity_reservation_specification().map(|reservation| {
        let target = reservation.capacity_reservation_target().map(|target| {
            handed_on!(target => CapacityReservationTarget::builder(),
                capacity_reservation_id capacity_reservation_resource_group_arn)
            .build()
        });
        CapacityReservationSpecification::builder()
            .set_capacity_reservation_preference(reservation.capacity_reservation_preference().cloned())
            .set_capacity_reservation_target(target)
            .build()
    });
    call.set_cpu_options(cpu)
        .set_maintenance_options(recovery)
        .set_network_performance_options(bandwidth)
        .set_private_dns_name_options(names)
        .set_capacity_reservation_specification(reservation)
}

fn device(described: &LaunchTemplateBlockDeviceMapping) -> BlockDeviceMapping {
    let ebs = described.ebs().map(|ebs| {
        handed_on!(ebs => EbsBlockDevice::builder(),
            encrypted delete_on_termination iops kms_key_id snapshot_id volume_size volume_type throughput
            volume_initialization_rate ebs_card_index)
        .build()
    });
    handed_on!(described => BlockDeviceMapping::builder(), device_name virtual_name no_device).set_ebs(ebs).build()
}

/// Copies an interface without its fixed addresses and prefixes: no second instance can have them. An interface with an
/// id is in a subnet already.
fn interface(
    described: &LaunchTemplateInstanceNetworkInterfaceSpecification,
    subnet_id: Option<&str>,
) -> InstanceNetworkInterfaceSpecification {
    let tracking = described.connection_tracking_specification().map(|tracking| {
        handed_on!(tracking => ConnectionTrackingSpecificationRequest::builder(),
            tcp_established_timeout udp_stream_timeout udp_timeout)
        .build()
    });
    let express = described.ena_srd_specification().map(|express| {
        let udp = express.ena_srd_udp_specification().and_then(|udp| udp.ena_srd_udp_enabled());
        EnaSrdSpecificationRequest::builder()
            .set_ena_srd_enabled(express.ena_srd_enabled())
            .set_ena_srd_udp_specification(
                udp.map(|enabled| EnaSrdUdpSpecificationRequest::builder().ena_srd_udp_enabled(enabled).build()),
            )
            .build()
    });
    let subnet_id = subnet_id.filter(|_| described.network_interface_id().is_none());
    let interface = handed_on!(described => InstanceNetworkInterfaceSpecification::builder(),
        associate_carrier_ip_address associate_public_ip_address delete_on_termination description device_index
        interface_type ipv6_address_count network_interface_id secondary_private_ip_address_count network_card_index
        ipv4_prefix_count ipv6_prefix_count primary_ipv6 ena_queue_count);
    interface
        .set_groups(some(described.groups().to_vec()))
        .set_subnet_id(described.subnet_id().or(subnet_id).map(str::to_owned))
        .set_ena_srd_specification(express)
        .set_connection_tracking_specification(tracking)
        .build()
}

fn secondary_interface(
    described: &LaunchTemplateInstanceSecondaryInterfaceSpecification,
) -> InstanceSecondaryInterfaceSpecificationRequest {
    handed_on!(described => InstanceSecondaryInterfaceSpecificationRequest::builder(),
        delete_on_termination device_index private_ip_address_count secondary_subnet_id interface_type network_card_index)
    .build()
}

fn placement(described: &LaunchTemplatePlacement) -> Placement {
    handed_on!(described => Placement::builder(),
        availability_zone availability_zone_id affinity group_name group_id host_id tenancy spread_domain
        host_resource_group_arn partition_number)
    .build()
}

fn metadata_options(described: &LaunchTemplateInstanceMetadataOptions) -> InstanceMetadataOptionsRequest {
    let protocol = described.http_protocol_ipv6().map(|it| InstanceMetadataProtocolState::from(it.as_str()));
    let tags = described.instance_metadata_tags().map(|it| InstanceMetadataTagsState::from(it.as_str()));
    InstanceMetadataOptionsRequest::builder()
        .set_http_tokens(described.http_tokens().map(|it| HttpTokensState::from(it.as_str())))
        .set_http_put_response_hop_limit(described.http_put_response_hop_limit())
        .set_http_endpoint(described.http_endpoint().map(|it| InstanceMetadataEndpointState::from(it.as_str())))
        .set_http_protocol_ipv6(protocol)
        .set_instance_metadata_tags(tags)
        .build()
}

/// The template's tags without those on Spot requests, and ours on the instance. AWS adds the template's id only to
/// direct launches from a template, so a tag of ours names it to the successor.
fn tag_specifications(
    data: &ResponseLaunchTemplateData,
    template: &LaunchTemplate,
    launch: &SingleLaunch,
) -> Vec<TagSpecification> {
    let of_instances = |resource: Option<&ResourceType>| resource == Some(&ResourceType::Instance);
    let of_requests = |resource: Option<&ResourceType>| resource == Some(&ResourceType::SpotInstancesRequest);
    let theirs = data.tag_specifications().iter();
    let others = theirs.clone().filter(|it| !of_instances(it.resource_type()) && !of_requests(it.resource_type()));
    let others = others.map(|it| {
        let tags = Some(it.tags().to_vec());
        TagSpecification::builder().set_resource_type(it.resource_type().cloned()).set_tags(tags).build()
    });
    let mut on_instance: Vec<Tag> =
        theirs.filter(|it| of_instances(it.resource_type())).flat_map(|it| it.tags().to_vec()).collect();
    let origin = format!("{}:{}", template.id_or_name, template.version);
    on_instance.push(Tag::builder().key(TEMPLATE_TAG).value(origin).build());
    others.chain([tagged(launch, on_instance)]).collect()
}

/// The list, or `None` if it is empty: AWS wants an empty list left out.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::*;

    use super::*;

    /// The members, whatever AWS calls their types in a template and in a request, and in whatever order.
    fn members(it: impl std::fmt::Debug) -> Vec<String> {
        let text = format!("{it:#?}").replace("LaunchTemplate", "").replace("Request", "");
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    }

    #[test]
    fn every_member_of_an_interface_reaches_the_request_but_its_own_addresses() {
        let udp = LaunchTemplateEnaSrdUdpSpecification::builder().ena_srd_udp_enabled(true).build();
        let express =
            LaunchTemplateEnaSrdSpecification::builder().ena_srd_enabled(true).ena_srd_udp_specification(udp).build();
        let tracking = ConnectionTrackingSpecification::builder()
            .tcp_established_timeout(60)
            .udp_stream_timeout(61)
            .udp_timeout(62)
            .build();
        let carried = LaunchTemplateInstanceNetworkInterfaceSpecification::builder()
            .associate_carrier_ip_address(true)
            .associate_public_ip_address(true)
            .delete_on_termination(true)
            .description("ours")
            .device_index(0)
            .groups("sg-1")
            .interface_type("efa")
            .ipv6_address_count(1)
            .network_interface_id("eni-1")
            .secondary_private_ip_address_count(2)
            .subnet_id("subnet-1")
            .network_card_index(1)
            .ipv4_prefix_count(3)
            .ipv6_prefix_count(4)
            .primary_ipv6(true)
            .ena_srd_specification(express)
            .connection_tracking_specification(tracking)
            .ena_queue_count(8);
        let second = PrivateIpAddressSpecification::builder().private_ip_address("10.0.0.8").primary(false).build();
        let addressed = carried
            .clone()
            .ipv6_addresses(InstanceIpv6Address::builder().ipv6_address("2001:db8::7").is_primary_ipv6(true).build())
            .private_ip_address("10.0.0.7")
            .private_ip_addresses(second)
            .ipv4_prefixes(Ipv4PrefixSpecificationResponse::builder().ipv4_prefix("10.0.1.0/28").build())
            .ipv6_prefixes(Ipv6PrefixSpecificationResponse::builder().ipv6_prefix("2001:db8::/80").build())
            .build();
        assert!(!format!("{addressed:?}").contains("None"), "the test says every member: {addressed:?}");
        assert_eq!(members(interface(&addressed, Some("subnet-2"))), members(carried.build()));
    }

    #[test]
    fn an_interface_that_is_named_lies_in_its_own_subnet() {
        let builder = LaunchTemplateInstanceNetworkInterfaceSpecification::builder;
        let subnet = |described| interface(&described, Some("subnet-2")).subnet_id().map(str::to_owned);
        assert_eq!(subnet(builder().network_interface_id("eni-1").build()), None);
        assert_eq!(subnet(builder().device_index(0).build()).as_deref(), Some("subnet-2"));
    }

    #[test]
    fn every_member_of_a_secondary_interface_reaches_the_request_but_its_own_addresses() {
        let carried = LaunchTemplateInstanceSecondaryInterfaceSpecification::builder()
            .delete_on_termination(true)
            .device_index(1)
            .private_ip_address_count(2)
            .secondary_subnet_id("subnet-2")
            .interface_type(SecondaryInterfaceType::Secondary)
            .network_card_index(1);
        let address = SecondaryInterfacePrivateIpAddressSpecification::builder().private_ip_address("10.0.0.9").build();
        let addressed = carried.clone().private_ip_addresses(address).build();
        assert!(!format!("{addressed:?}").contains("None"), "{addressed:?}");
        assert_eq!(members(secondary_interface(&addressed)), members(carried.build()));
    }
}
