//! EC2 2016-11-15: instances, tags, subnets and spot requests; fleets and launch templates have files of their own.

use std::collections::BTreeMap;

use super::aws::{Answer, Failure, page};
use super::instances::{Instance, State};
use super::query::{Filter, Query};
use super::settings::LifeCycle;
use super::world::World;
use super::xml::Xml;
use super::{api_fleets, api_launch_templates, api_run_instances, api_spot};

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<Answer> {
    if query.get("DryRun") == Some("true") {
        // What EC2 asks IAM for in passing when it launches.
        let pass_role = "iam:PassRole";
        if action == "RunInstances" && world.denies(pass_role) {
            return Some(Err(Failure::denied("ec2", &world.settings, pass_role)));
        }
        let message = "Request would have succeeded, but DryRun flag is set.";
        return Some(Err(Failure::with_status(412, "DryRunOperation", message)));
    }
    Some(match action {
        "DescribeInstances" => describe_instances(world, query),
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

/// EC2's answer to a call that has nothing to say.
pub(crate) fn done() -> Xml {
    Xml::new().text("return", true)
}

/// A page as EC2 cuts it, by `MaxResults` and `NextToken`.
pub(crate) fn paged<T>(all: Vec<T>, query: &Query) -> Result<(Vec<T>, Option<String>), Failure> {
    let size = query.number("MaxResults")?;
    page(all, query.get("NextToken"), size).ok_or_else(|| Failure::new("InvalidNextToken", "The token is not valid"))
}

pub(crate) fn tag_set(tags: &BTreeMap<String, String>) -> Xml {
    let items = tags.iter().map(|(key, value)| Xml::new().text("key", key).text("value", value));
    Xml::new().list("tagSet", "item", items)
}

pub(crate) fn filtered_by_tags(filter: &Filter, tags: &BTreeMap<String, String>) -> Option<bool> {
    if let Some(key) = filter.name.strip_prefix("tag:") {
        return Some(tags.get(key).is_some_and(|value| filter.admits(value)));
    }
    (filter.name == "tag-key").then(|| tags.keys().any(|key| filter.admits(key)))
}

pub(crate) fn unknown_filter(filter: &Filter) -> Failure {
    Failure::new("InvalidParameterValue", format!("The filter '{}' is invalid", filter.name))
}

fn unknown_instance(id: &str) -> Failure {
    if !id.starts_with("i-") {
        return Failure::new("InvalidInstanceID.Malformed", format!("Invalid id: \"{id}\""));
    }
    Failure::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
}

fn describe_instances(world: &World, query: &Query) -> Answer {
    let ids = query.list("InstanceId");
    let visible = |one: &Instance| world.now >= one.launched + world.settings.timings.visible_after || one.first;
    if let Some(id) = ids.iter().find(|id| !world.instance(id).is_some_and(visible)) {
        return Err(unknown_instance(id));
    }
    if !ids.is_empty() && query.get("MaxResults").is_some() {
        let message = "The parameter instancesSet cannot be used with the parameter maxResults";
        return Err(Failure::new("InvalidParameterCombination", message));
    }
    let filters = query.filters();
    let mut found = Vec::new();
    let asked = world.instances.iter().filter(|one| ids.is_empty() || ids.contains(&one.id));
    for instance in asked.filter(|one| visible(one)) {
        let mut admitted = true;
        for filter in &filters {
            admitted &= instance_admitted(filter, instance)?;
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

fn instance_admitted(filter: &Filter, instance: &Instance) -> Result<bool, Failure> {
    if let Some(admitted) = filtered_by_tags(filter, &instance.tags) {
        return Ok(admitted);
    }
    let place = &instance.place;
    Ok(match filter.name.as_str() {
        "instance-state-name" => filter.admits(instance.state.name()),
        // Filters by code mean the low byte: the high one is AWS's.
        "instance-state-code" => filter.admits(&instance.state.code().to_string()),
        "instance-id" => filter.admits(&instance.id),
        "instance-type" => filter.admits(&place.instance_type),
        "availability-zone" => filter.admits(&place.zone),
        "subnet-id" => filter.admits(&place.subnet),
        "private-ip-address" => filter.admits(&instance.private_ip),
        "instance-lifecycle" => place.life_cycle == LifeCycle::Spot && filter.admits("spot"),
        "spot-instance-request-id" => instance.spot.as_ref().is_some_and(|spot| filter.admits(&spot.id)),
        _ => return Err(unknown_filter(filter)),
    })
}

fn state(state: State) -> Xml {
    Xml::new().text("code", state.code_with_high_byte()).text("name", state.name())
}

pub(crate) fn described(world: &World, instance: &Instance) -> Xml {
    let gone = instance.state == State::Terminated;
    let timings = &world.settings.timings;
    let has_address = instance.first || world.now >= instance.launched + timings.running_after + timings.address_after;
    let address = Some(&instance.private_ip).filter(|_| !gone && has_address);
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
        .text("architecture", "x86_64")
        .option("instanceLifecycle", instance.spot.as_ref().map(|_| "spot"))
        .option("spotInstanceRequestId", instance.spot.as_ref().map(|spot| &spot.id))
        .and(tag_set(&instance.tags))
        .list("groupSet", "item", [])
        .nest("metadataOptions", metadata_options(world));
    if instance.reason.is_empty() {
        return xml;
    }
    xml.nest("stateReason", Xml::new().text("code", &instance.reason).text("message", &instance.reason))
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

fn terminate_instances(world: &mut World, query: &Query) -> Answer {
    let ids = query.list("InstanceId");
    if ids.is_empty() {
        return Err(Failure::missing_parameter("InstanceId"));
    }
    if let Some(id) = ids.iter().find(|id| world.instance(id).is_none()) {
        return Err(unknown_instance(id));
    }
    let mut changes = Vec::new();
    for id in &ids {
        let before = world.instance(id).map_or(State::Terminated, |one| one.state);
        world.terminate(id, "Client.UserInitiatedShutdown");
        let after = world.instance(id).map_or(State::Terminated, |one| one.state);
        changes.push(
            Xml::new().text("instanceId", id).nest("currentState", state(after)).nest("previousState", state(before)),
        );
    }
    Ok(Xml::new().list("instancesSet", "item", changes))
}

/// A resource that bears tags, by its id, with the type that DescribeTags shows.
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

fn describe_tags(world: &World, query: &Query) -> Answer {
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

fn no_such_resource(id: &str) -> Failure {
    if id.starts_with("i-") {
        return unknown_instance(id);
    }
    Failure::new("InvalidID", format!("The ID '{id}' is not valid"))
}

fn create_tags(world: &mut World, query: &Query) -> Answer {
    let tags = query.tags("Tag");
    if let Some((key, _)) = tags.iter().find(|(key, _)| key.starts_with("aws:")) {
        let message = format!("Tag keys starting with 'aws:' are reserved for internal use: {key}");
        return Err(Failure::new("InvalidParameterValue", message));
    }
    for id in query.list("ResourceId") {
        tags_of(world, &id).ok_or_else(|| no_such_resource(&id))?.extend(tags.clone());
    }
    Ok(done())
}

/// A tag named without a value goes whatever its value; with one, only if it is that.
fn delete_tags(world: &mut World, query: &Query) -> Answer {
    let named = query.structures("Tag");
    for id in query.list("ResourceId") {
        let tags = tags_of(world, &id).ok_or_else(|| no_such_resource(&id))?;
        tags.retain(|key, value| {
            let meant =
                |one: &Query| one.get("Key") == Some(key) && one.get("Value").is_none_or(|wanted| wanted == value);
            !named.iter().any(meant)
        });
    }
    Ok(done())
}

fn describe_subnets(world: &World, query: &Query) -> Answer {
    let ids = query.list("SubnetId");
    if let Some(id) = ids.iter().find(|id| world.subnet(id).is_none()) {
        return Err(Failure::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist")));
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
