//! EC2 2016-11-15: instances, tags and subnets; other kinds of calls have their own files.

use std::collections::BTreeMap;

use super::answers::{done, filtered_by_tags, paged, unknown_filter};
use super::api_ec2_instance::{described, shown_address, state};
use super::instance::{Instance, InstanceState};
use super::instance_types::describe_instance_types;
use super::query::{Filter, Query};
use super::refusal::{ApiAnswer, Refusal};
use super::settings::LifeCycle;
use super::world::World;
use super::xml::Xml;
use super::{api_fleets, api_launch_templates, api_run_instances, api_spot};

/// The most values of all filters of a call. <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>
const MOST_FILTER_VALUES: usize = 200;

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<ApiAnswer> {
    if query.get("DryRun") == Some("true") {
        // EC2 also asks IAM for this permission when it launches.
        let pass_role = "iam:PassRole";
        if action == "RunInstances" && world.denies(pass_role) {
            return Some(Err(Refusal::denied("ec2", &world.settings, pass_role)));
        }
        let message = "Request would have succeeded, but DryRun flag is set.";
        return Some(Err(Refusal::with_status(412, "DryRunOperation", message)));
    }
    if query.filters().iter().map(|filter| filter.values.len()).sum::<usize>() > MOST_FILTER_VALUES {
        let message = format!("The maximum number of filter values specified on a single call is {MOST_FILTER_VALUES}");
        return Some(Err(Refusal::new("FilterLimitExceeded", message)));
    }
    Some(match action {
        "DescribeInstances" => describe_instances(world, query),
        "DescribeInstanceTypes" => describe_instance_types(world, query),
        "TerminateInstances" => terminate_instances(world, query),
        "DescribeTags" => describe_tags(world, query),
        "CreateTags" => create_tags(world, query),
        "DeleteTags" => delete_tags(world, query),
        "DescribeSubnets" => describe_subnets(world, query),
        "RunInstances" => api_run_instances::run_instances(world, query),
        _ => {
            return api_fleets::perform(world, action, query)
                .or_else(|| api_spot::perform(world, action, query))
                .or_else(|| api_launch_templates::perform(world, action, query));
        }
    })
}

fn unknown_instance(id: &str) -> Refusal {
    if !id.starts_with("i-") {
        return Refusal::new("InvalidInstanceID.Malformed", format!("Invalid id: \"{id}\""));
    }
    Refusal::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
}

fn describe_instances(world: &World, query: &Query) -> ApiAnswer {
    let ids = query.list("InstanceId");
    let visible = |one: &Instance| world.now >= one.launched + world.settings.timings.visible_after || one.first;
    if let Some(id) = ids.iter().find(|id| !world.instance(id).is_some_and(visible)) {
        return Err(unknown_instance(id));
    }
    if !ids.is_empty() && query.get("MaxResults").is_some() {
        let message = "The parameter instancesSet cannot be used with the parameter maxResults";
        return Err(Refusal::new("InvalidParameterCombination", message));
    }
    let filters = query.filters();
    let mut found = Vec::new();
    let asked = world.instances.iter().filter(|one| ids.is_empty() || ids.contains(&one.id));
    for instance in asked.filter(|one| visible(one)) {
        let mut admitted = true;
        for filter in &filters {
            admitted &= instance_admitted(world, filter, instance)?;
        }
        if admitted {
            found.push(instance);
        }
    }
    let (found, next) = paged(found, query)?;
    let reservations = found.into_iter().map(|instance| {
        Xml::new()
            .text("reservationId", instance.id.replace("i-", "r-"))
            .text("ownerId", &world.settings.account)
            .list("groupSet", "item", [])
            .list("instancesSet", "item", [described(world, instance)])
    });
    Ok(Xml::new().list("reservationSet", "item", reservations).option("nextToken", next))
}

fn instance_admitted(world: &World, filter: &Filter, instance: &Instance) -> Result<bool, Refusal> {
    if let Some(admitted) = filtered_by_tags(filter, &instance.tags) {
        return Ok(admitted);
    }
    let place = &instance.place;
    Ok(match filter.name.as_str() {
        "instance-state-name" => filter.admits(instance.state.name()),
        // A filter by code means the low byte; the high byte is for AWS's own use.
        "instance-state-code" => filter.admits(&instance.state.code().to_string()),
        "instance-id" => filter.admits(&instance.id),
        "instance-type" => filter.admits(&place.instance_type),
        "availability-zone" => filter.admits(&place.zone),
        "subnet-id" => filter.admits(&place.subnet),
        "private-ip-address" | "network-interface.addresses.private-ip-address" => {
            shown_address(world, instance).is_some_and(|address| filter.admits(address))
        }
        "network-interface.ipv6-addresses.ipv6-address" => {
            let has_one = world.settings.ipv6 && shown_address(world, instance).is_some();
            has_one && filter.admits(&instance.ipv6_address())
        }
        "vpc-id" => instance.state != InstanceState::Terminated && filter.admits(&world.settings.vpc),
        "instance-lifecycle" => place.life_cycle == LifeCycle::Spot && filter.admits("spot"),
        "spot-instance-request-id" => instance.spot.as_ref().is_some_and(|spot| filter.admits(&spot.id)),
        _ => return Err(unknown_filter(filter)),
    })
}

fn terminate_instances(world: &mut World, query: &Query) -> ApiAnswer {
    let ids = query.list("InstanceId");
    if ids.is_empty() {
        return Err(Refusal::missing_parameter("InstanceId"));
    }
    if let Some(id) = ids.iter().find(|id| world.instance(id).is_none()) {
        return Err(unknown_instance(id));
    }
    let mut changes = Vec::new();
    for id in &ids {
        let before = world.instance(id).map_or(InstanceState::Terminated, |one| one.state);
        world.terminate(id, "Client.UserInitiatedShutdown");
        let after = world.instance(id).map_or(InstanceState::Terminated, |one| one.state);
        changes.push(
            Xml::new().text("instanceId", id).nest("currentState", state(after)).nest("previousState", state(before)),
        );
    }
    Ok(Xml::new().list("instancesSet", "item", changes))
}

/// Every resource with tags: its id, its type in DescribeTags, and the tags.
fn tagged(world: &World) -> Vec<(&str, &'static str, &BTreeMap<String, String>)> {
    let instances = world.instances.iter().map(|one| (one.id.as_str(), "instance", &one.tags));
    let fleets = world
        .fleets
        .iter()
        .map(|one| (one.id.as_str(), if one.is_spot_fleet() { "spot-fleet-request" } else { "fleet" }, &one.tags));
    let templates = world.launch_templates.iter().map(|one| (one.id.as_str(), "launch-template", &one.tags));
    instances.chain(fleets).chain(templates).collect()
}

fn tags_of<'a>(world: &'a mut World, id: &str) -> Option<&'a mut BTreeMap<String, String>> {
    if id.starts_with("i-") {
        return world.instance_mut(id).map(|one| &mut one.tags);
    }
    if id.starts_with("lt-") {
        return world.launch_templates.iter_mut().find(|one| one.id == id).map(|one| &mut one.tags);
    }
    world.fleet_mut(id).map(|one| &mut one.tags)
}

fn describe_tags(world: &World, query: &Query) -> ApiAnswer {
    let filters = query.filters();
    let mut items = Vec::new();
    for (id, kind, tags) in tagged(world) {
        for (key, value) in tags {
            let mut admitted = true;
            for filter in &filters {
                admitted &= match filter.name.as_str() {
                    "resource-id" => filter.admits(id),
                    "resource-type" => filter.admits(kind),
                    "key" => filter.admits(key),
                    "value" => filter.admits(value),
                    name => match name.strip_prefix("tag:") {
                        Some(wanted) => wanted == key && filter.admits(value),
                        None => return Err(unknown_filter(filter)),
                    },
                };
            }
            if admitted {
                let item = Xml::new().text("resourceId", id).text("resourceType", kind);
                items.push(item.text("key", key).text("value", value));
            }
        }
    }
    let (items, next) = paged(items, query)?;
    Ok(Xml::new().list("tagSet", "item", items).option("nextToken", next))
}

fn no_such_resource(id: &str) -> Refusal {
    if id.starts_with("i-") {
        return unknown_instance(id);
    }
    Refusal::new("InvalidID", format!("The ID '{id}' is not valid"))
}

fn create_tags(world: &mut World, query: &Query) -> ApiAnswer {
    let tags = query.tags("Tag");
    if let Some((key, _)) = tags.iter().find(|(key, _)| key.starts_with("aws:")) {
        let message = format!("Tag keys starting with 'aws:' are reserved for internal use: {key}");
        return Err(Refusal::new("InvalidParameterValue", message));
    }
    for id in query.list("ResourceId") {
        tags_of(world, &id).ok_or_else(|| no_such_resource(&id))?.extend(tags.clone());
    }
    Ok(done())
}

/// Deletes tags. A key without a value deletes the tag whatever its value; otherwise the value has to match.
fn delete_tags(world: &mut World, query: &Query) -> ApiAnswer {
    let named = query.structures("Tag");
    for id in query.list("ResourceId") {
        let tags = tags_of(world, &id).ok_or_else(|| no_such_resource(&id))?;
        tags.retain(|key, value| {
            let is_named =
                |one: &Query| one.get("Key") == Some(key) && one.get("Value").is_none_or(|wanted| wanted == value);
            !named.iter().any(is_named)
        });
    }
    Ok(done())
}

fn describe_subnets(world: &World, query: &Query) -> ApiAnswer {
    let ids = query.list("SubnetId");
    if let Some(id) = ids.iter().find(|id| world.subnet(id).is_none()) {
        return Err(Refusal::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist")));
    }
    let filters = query.filters();
    let mut found = Vec::new();
    for subnet in world.subnets.iter().filter(|one| ids.is_empty() || ids.contains(&one.id)) {
        let mut admitted = true;
        for filter in &filters {
            admitted &= match filter.name.as_str() {
                "subnet-id" => filter.admits(&subnet.id),
                "availability-zone" | "availabilityZone" => filter.admits(&subnet.zone),
                "vpc-id" => filter.admits(&world.settings.vpc),
                "state" => filter.admits("available"),
                _ => return Err(unknown_filter(filter)),
            };
        }
        if admitted {
            found.push(subnet);
        }
    }
    let (found, next) = paged(found, query)?;
    let subnets = found.into_iter().map(|subnet| {
        Xml::new()
            .text("subnetId", &subnet.id)
            .text("state", "available")
            .text("vpcId", &world.settings.vpc)
            .text("cidrBlock", &subnet.cidr)
            .text("availableIpAddressCount", 250)
            .text("availabilityZone", &subnet.zone)
            .text("defaultForAz", false)
            .text("ownerId", &world.settings.account)
    });
    Ok(Xml::new().list("subnetSet", "item", subnets).option("nextToken", next))
}
