//! One instance in the answers of DescribeInstances and RunInstances.

use super::answers::tag_set;
use super::instance::{Instance, InstanceState};
use super::world::World;
use super::xml::Xml;

pub(crate) fn state(state: InstanceState) -> Xml {
    Xml::new().text("code", state.code_with_high_byte()).text("name", state.name())
}

/// The private address, after EC2 shows it and until the instance has terminated.
pub(crate) fn shown_address<'a>(world: &World, instance: &'a Instance) -> Option<&'a str> {
    let timings = &world.settings.timings;
    let has_address = instance.first || world.now >= instance.launched + timings.running_after + timings.address_after;
    Some(instance.private_ip.as_str()).filter(|_| has_address && instance.state != InstanceState::Terminated)
}

pub(crate) fn described(world: &World, instance: &Instance) -> Xml {
    let gone = instance.state == InstanceState::Terminated;
    let address = shown_address(world, instance);
    let ipv6 = world.settings.ipv6.then(|| instance.ipv6_address());
    let place = &instance.place;
    let xml = Xml::new()
        .text("instanceId", &instance.id)
        .text("imageId", "ami-0123456789abcdef0")
        .nest("instanceState", state(instance.state))
        .text("privateDnsName", "")
        .text("dnsName", "")
        .text("reason", &instance.reason)
        .text("amiLaunchIndex", 0)
        .text("instanceType", &place.instance_type)
        .text("launchTime", world.clock.iso_millis(instance.launched))
        .nest("placement", Xml::new().text("availabilityZone", &place.zone).text("tenancy", "default"))
        .option("subnetId", Some(&place.subnet).filter(|_| !gone))
        .option("vpcId", Some(&world.settings.vpc).filter(|_| !gone))
        .option("privateIpAddress", address)
        .option("ipv6Address", address.and(ipv6.as_ref()))
        .text("architecture", "x86_64")
        .option("instanceLifecycle", instance.spot.as_ref().map(|_| "spot"))
        .option("spotInstanceRequestId", instance.spot.as_ref().map(|spot| &spot.id))
        .and(tag_set(&instance.tags))
        .list("groupSet", "item", [])
        .list("networkInterfaceSet", "item", address.map(|address| network_interface(address, ipv6.as_deref())))
        .nest("metadataOptions", metadata_options(world));
    if instance.reason.is_empty() {
        return xml;
    }
    xml.nest("stateReason", Xml::new().text("code", &instance.reason).text("message", &instance.reason))
}

fn network_interface(address: &str, ipv6: Option<&str>) -> Xml {
    let only = Xml::new().text("privateIpAddress", address).text("primary", true);
    Xml::new().text("privateIpAddress", address).list("privateIpAddressesSet", "item", [only]).list(
        "ipv6AddressesSet",
        "item",
        ipv6.map(|address| Xml::new().text("ipv6Address", address)),
    )
}

fn metadata_options(world: &World) -> Xml {
    let tags = if world.settings.tags_in_metadata { "enabled" } else { "disabled" };
    Xml::new()
        .text("state", "applied")
        .text("httpTokens", if world.settings.imds_v1 { "optional" } else { "required" })
        .text("httpPutResponseHopLimit", world.settings.hop_limit)
        .text("httpEndpoint", "enabled")
        .text("instanceMetadataTags", tags)
}
