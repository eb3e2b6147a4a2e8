//! RunInstances for one instance: from a launch template, from the call's own parameters, or from both.

use std::collections::BTreeMap;

use super::answers::{answered_before, remember_answer};
use super::api_ec2_instance::described;
use super::api_launch_templates::{known, specified_tags};
use super::instance::{InstancePlace, Launch};
use super::launch_template::{TemplateReference, TemplateVersion};
use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::settings::LifeCycle;
use super::world::World;
use super::xml::Xml;

pub(crate) fn run_instances(world: &mut World, query: &Query) -> ApiAnswer {
    let Some(token) = query.string("ClientToken") else { return run(world, query) };
    if let Some(answer) = answered_before(world, "RunInstances", query, &token)? {
        return Ok(answer);
    }
    let answer = run(world, query)?;
    remember_answer(world, "RunInstances", query, &token, &answer);
    Ok(answer)
}

fn run(world: &mut World, query: &Query) -> ApiAnswer {
    let reference = reference(query);
    let template = match &reference {
        Some(reference) => {
            known(world, reference.id.as_deref(), reference.name.as_deref())?;
            let version = world.template_version(reference).cloned();
            version.ok_or_else(|| Refusal::new("InvalidLaunchTemplateId.VersionNotFound", "no such version"))?
        }
        None => TemplateVersion::default(),
    };
    let market = query.string("InstanceMarketOptions.MarketType").or(template.market.clone());
    let life_cycle = if market.as_deref() == Some("spot") { LifeCycle::Spot } else { LifeCycle::OnDemand };
    refused(query, &template, life_cycle)?;
    let place = place(world, query, &template, life_cycle)?;
    if !world.has_capacity(&place) {
        let message =
            format!("We currently do not have sufficient {} capacity in {}.", place.instance_type, place.zone);
        return Err(Refusal::with_status(500, "InsufficientInstanceCapacity", message));
    }
    let mut tags = reference.map_or_else(BTreeMap::new, |reference| world.template_tags(&reference));
    tags.extend(specified_tags(query, "instance"));
    let persistent = match query.get("InstanceMarketOptions.MarketType") {
        Some(_) => query.get("InstanceMarketOptions.SpotOptions.SpotInstanceType") == Some("persistent"),
        None => template.is_persistent,
    };
    let id = world.launch(Launch { place, tags, keeper: None });
    if let Some(spot) = world.instance_mut(&id).and_then(|instance| instance.spot.as_mut()) {
        spot.persistent = persistent;
    }
    let instance = world.instance(&id).ok_or_else(|| Refusal::new("InternalError", "it is not there"))?;
    Ok(Xml::new()
        .text("reservationId", id.replace("i-", "r-"))
        .text("ownerId", &world.settings.account)
        .list("groupSet", "item", [])
        .list("instancesSet", "item", [described(world, instance)]))
}

fn reference(query: &Query) -> Option<TemplateReference> {
    let named = query.structure("LaunchTemplate");
    let reference = TemplateReference {
        id: named.string("LaunchTemplateId"),
        name: named.string("LaunchTemplateName"),
        version: named.string("Version"),
    };
    (reference.id.is_some() || reference.name.is_some()).then_some(reference)
}

/// Refuses requests that AWS refuses whatever the capacity.
fn refused(query: &Query, template: &TemplateVersion, life_cycle: LifeCycle) -> Result<(), Refusal> {
    let tags_requests =
        !template.spot_request_tags.is_empty() || !specified_tags(query, "spot-instances-request").is_empty();
    if life_cycle == LifeCycle::OnDemand && tags_requests {
        return Err(Refusal::no_spot_request());
    }
    let has_interfaces = template.subnet.is_some() || !query.structures("NetworkInterface").is_empty();
    if has_interfaces && query.get("SubnetId").is_some() {
        let message = "Network interfaces and an instance-level subnet ID may not be specified on the same request";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    if template.image.is_empty() && query.get("ImageId").is_none() {
        return Err(Refusal::missing_parameter("ImageId"));
    }
    Ok(())
}

fn place(
    world: &World,
    query: &Query,
    template: &TemplateVersion,
    life_cycle: LifeCycle,
) -> Result<InstancePlace, Refusal> {
    let interface = query.structures("NetworkInterface").into_iter().next().and_then(|one| one.string("SubnetId"));
    let wanted = query.string("SubnetId").or(interface).or(template.subnet.clone());
    let subnet = match &wanted {
        Some(id) => world.subnet(id),
        None => world.subnets.first(),
    };
    let subnet = subnet.ok_or_else(|| {
        let id = wanted.as_deref().unwrap_or_default();
        Refusal::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
    })?;
    let instance_type = query.string("InstanceType").unwrap_or_else(|| template.instance_type.clone());
    Ok(InstancePlace { instance_type, zone: subnet.zone.clone(), subnet: subnet.id.clone(), life_cycle })
}
