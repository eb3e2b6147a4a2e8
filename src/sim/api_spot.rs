//! Spot Fleets and Spot Instance requests, the older half of EC2's Spot API.

use super::answers::{done, filtered_by_tags, paged, tag_set, unknown_filter};
use super::api_fleets::{active_instance, config, end_fleet, modifiable};
use super::fleet::Fleet;
use super::instance::{Instance, Spot};
use super::query::{Filter, Query};
use super::refusal::{ApiAnswer, Refusal};
use super::settings::LifeCycle;
use super::world::World;
use super::xml::Xml;

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<ApiAnswer> {
    Some(match action {
        "DescribeSpotFleetRequests" => describe_spot_fleet_requests(world, query),
        "DescribeSpotFleetInstances" => describe_spot_fleet_instances(world, query),
        "ModifySpotFleetRequest" => modify_spot_fleet_request(world, query),
        "CancelSpotFleetRequests" => cancel_spot_fleet_requests(world, query),
        "DescribeSpotInstanceRequests" => describe_spot_instance_requests(world, query),
        _ => return None,
    })
}

fn spot_fleet<'a>(world: &'a World, id: &str) -> Result<&'a Fleet, Refusal> {
    let fleet = world.fleet(id).filter(|fleet| fleet.is_spot_fleet());
    fleet.ok_or_else(|| {
        let message = format!("The spot fleet request ID '{id}' does not exist");
        Refusal::new("InvalidSpotFleetRequestId.NotFound", message)
    })
}

fn describe_spot_fleet_requests(world: &World, query: &Query) -> ApiAnswer {
    let ids = query.list("SpotFleetRequestId");
    for id in &ids {
        spot_fleet(world, id)?;
    }
    let shown = |fleet: &&Fleet| fleet.is_spot_fleet() && (ids.is_empty() || ids.contains(&fleet.id));
    let (found, next) = paged(world.fleets.iter().filter(shown).collect(), query)?;
    let items = found.into_iter().map(|fleet| {
        let fulfilled = world.fulfilled(fleet, None);
        let status = if fulfilled < f64::from(fleet.target) { "pending_fulfillment" } else { "fulfilled" };
        Xml::new()
            .text("activityStatus", status)
            .text("createTime", world.clock.iso_millis(fleet.created))
            .nest("spotFleetRequestConfig", request_config(world, fleet))
            .text("spotFleetRequestId", &fleet.id)
            .text("spotFleetRequestState", fleet.shown(world.now).0)
            .and(tag_set(&fleet.tags))
    });
    Ok(Xml::new().list("spotFleetRequestConfigSet", "item", items).option("nextToken", next))
}

fn request_config(world: &World, fleet: &Fleet) -> Xml {
    let mut xml = Xml::new()
        .text("allocationStrategy", "priceCapacityOptimized")
        .text("excessCapacityTerminationPolicy", if fleet.terminates_excess { "default" } else { "noTermination" })
        .text("fulfilledCapacity", format!("{:.1}", world.fulfilled(fleet, None)))
        .text("onDemandFulfilledCapacity", format!("{:.1}", world.fulfilled(fleet, Some(LifeCycle::OnDemand))))
        .text("iamFleetRole", format!("arn:aws:iam::{}:role/aws-ec2-spot-fleet-tagging-role", world.settings.account))
        .and(launched_from(fleet))
        .option("validUntil", fleet.is_expired.then(|| world.clock.iso_millis(fleet.created)))
        .text("targetCapacity", fleet.shown(world.now).1)
        .option("targetCapacityUnitType", fleet.named_unit())
        .text("onDemandTargetCapacity", fleet.on_demand_target)
        .text("type", fleet.type_.as_str())
        .text("replaceUnhealthyInstances", false)
        .text("instanceInterruptionBehavior", "terminate");
    if let Some(strategy) = &fleet.replacement_strategy {
        let rebalance = Xml::new().text("replacementStrategy", strategy);
        xml = xml.nest("spotMaintenanceStrategies", Xml::new().nest("capacityRebalance", rebalance));
    }
    if !fleet.target_groups.is_empty() {
        let groups = fleet.target_groups.iter().map(|arn| Xml::new().text("arn", arn));
        let groups = Xml::new().list("targetGroups", "item", groups);
        xml = xml.nest("loadBalancersConfig", Xml::new().nest("targetGroupsConfig", groups));
    }
    xml
}

fn launched_from(fleet: &Fleet) -> Xml {
    if !fleet.is_specified() {
        return Xml::new().list("launchTemplateConfigs", "item", fleet.configs.iter().map(config));
    }
    let specifications = fleet.configs.iter().flat_map(|config| &config.overrides).map(|one| {
        Xml::new()
            .list("groupSet", "item", [Xml::new().text("groupId", "sg-0123456789abcdef0")])
            .text("imageId", "ami-0123456789abcdef0")
            .option("instanceType", one.instance_type.as_ref())
            .nest("monitoring", Xml::new().text("enabled", false))
            .option("subnetId", one.subnet.as_ref())
            .option("weightedCapacity", one.weighted_capacity.as_ref())
    });
    Xml::new().list("launchSpecifications", "item", specifications)
}

fn describe_spot_fleet_instances(world: &World, query: &Query) -> ApiAnswer {
    let fleet = spot_fleet(world, &query.required("SpotFleetRequestId")?)?;
    let (members, next) = paged(world.fleet_members(fleet).collect(), query)?;
    let items = members.into_iter().map(active_instance);
    let xml = Xml::new().list("activeInstanceSet", "item", items).text("spotFleetRequestId", &fleet.id);
    Ok(xml.option("nextToken", next))
}

fn modify_spot_fleet_request(world: &mut World, query: &Query) -> ApiAnswer {
    let id = query.required("SpotFleetRequestId")?;
    modifiable(spot_fleet(world, &id)?, "Fleet Request")?;
    let target = query.number("TargetCapacity")?;
    let on_demand = query.number("OnDemandTargetCapacity")?;
    let excess = query.get("ExcessCapacityTerminationPolicy");
    let Some(fleet) = world.fleet_mut(&id) else { return Ok(done()) };
    match excess {
        None => {}
        Some("default") => fleet.terminates_excess = true,
        Some("noTermination") => fleet.terminates_excess = false,
        Some(other) => return Err(Refusal::malformed("ExcessCapacityTerminationPolicy", other)),
    }
    fleet.on_demand_target = on_demand.unwrap_or(fleet.on_demand_target);
    let terminates = fleet.terminates_excess;
    if let Some(target) = target {
        world.set_fleet_target(&id, target, terminates);
    }
    Ok(done())
}

fn cancel_spot_fleet_requests(world: &mut World, query: &Query) -> ApiAnswer {
    let terminates =
        query.truth("TerminateInstances")?.ok_or_else(|| Refusal::missing_parameter("TerminateInstances"))?;
    let mut cancelled = Vec::new();
    for id in query.list("SpotFleetRequestId") {
        let before = spot_fleet(world, &id)?.state;
        let after = if terminates { "cancelled_terminating" } else { "cancelled_running" };
        end_fleet(world, &id, after, terminates);
        let states =
            Xml::new().text("currentSpotFleetRequestState", after).text("previousSpotFleetRequestState", before);
        cancelled.push(states.text("spotFleetRequestId", &id));
    }
    Ok(Xml::new().list("successfulFleetRequestSet", "item", cancelled))
}

fn describe_spot_instance_requests(world: &World, query: &Query) -> ApiAnswer {
    let ids = query.list("SpotInstanceRequestId");
    if let Some(id) = ids.iter().find(|id| world.spot_request(id).is_none()) {
        let message = format!("The spot instance request ID '{id}' does not exist");
        return Err(Refusal::new("InvalidSpotInstanceRequestID.NotFound", message));
    }
    let filters = query.filters();
    let mut found = Vec::new();
    let requests = world.instances.iter().filter_map(|one| one.spot.as_ref().map(|spot| (one, spot)));
    for (instance, spot) in requests.filter(|(_, spot)| ids.is_empty() || ids.contains(&spot.id)) {
        let mut admitted = true;
        for filter in &filters {
            admitted &= request_admitted(filter, instance, spot)?;
        }
        if admitted {
            found.push((instance, spot));
        }
    }
    let (found, next) = paged(found, query)?;
    let items = found.into_iter().map(|(instance, spot)| request(world, instance, spot));
    Ok(Xml::new().list("spotInstanceRequestSet", "item", items).option("nextToken", next))
}

fn request_admitted(filter: &Filter, instance: &Instance, spot: &Spot) -> Result<bool, Refusal> {
    Ok(match filter.name.as_str() {
        "status-code" => filter.admits(spot.status),
        "state" => filter.admits(spot.state),
        "instance-id" => filter.admits(&instance.id),
        "spot-instance-request-id" => filter.admits(&spot.id),
        "launched-availability-zone" => filter.admits(&instance.place.zone),
        // Here a fleet's request has no tags of its own.
        _ => filtered_by_tags(filter, &Default::default()).ok_or_else(|| unknown_filter(filter))?,
    })
}

fn request(world: &World, instance: &Instance, spot: &Spot) -> Xml {
    let status = Xml::new()
        .text("code", spot.status)
        .text("message", format!("Your Spot request is {}.", spot.status))
        .text("updateTime", world.clock.iso_millis(spot.updated));
    let launched_with = Xml::new()
        .text("imageId", "ami-0123456789abcdef0")
        .text("instanceType", &instance.place.instance_type)
        .text("subnetId", &instance.place.subnet)
        .nest("monitoring", Xml::new().text("enabled", false));
    Xml::new()
        .text("spotInstanceRequestId", &spot.id)
        .text("spotPrice", "0.107000")
        .text("type", if spot.persistent { "persistent" } else { "one-time" })
        .text("state", spot.state)
        .nest("status", status)
        .nest("launchSpecification", launched_with)
        .text("instanceId", &instance.id)
        .text("createTime", world.clock.iso_millis(instance.launched))
        .text("productDescription", "Linux/UNIX")
        .text("launchedAvailabilityZone", &instance.place.zone)
        .text("instanceInterruptionBehavior", "terminate")
}
