//! EC2 Fleets: CreateFleet, whose answer may hold instances *and* errors, and the calls that change a fleet.

use std::collections::BTreeSet;

use super::answers::{answered_before, done, filtered_by_tags, paged, remember_answer, tag_set, unknown_filter};
use super::api_launch_templates::{known, specified_tags};
use super::fleet::{Choice, Fleet, Override, TemplateConfig};
use super::instance::{Instance, InstancePlace};
use super::launch_template::TemplateReference;
use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::settings::{FleetType, LifeCycle, TargetUnit};
use super::world::World;
use super::xml::Xml;

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<ApiAnswer> {
    Some(match action {
        "CreateFleet" => create_fleet_once(world, query),
        "DescribeFleets" => describe_fleets(world, query),
        "DescribeFleetInstances" => describe_fleet_instances(world, query),
        "ModifyFleet" => modify_fleet(world, query),
        "DeleteFleets" => delete_fleets(world, query),
        _ => return None,
    })
}

fn create_fleet_once(world: &mut World, query: &Query) -> ApiAnswer {
    let Some(token) = query.string("ClientToken") else { return create_fleet(world, query) };
    if token.len() > 64 || !token.is_ascii() {
        return Err(Refusal::new("InvalidParameterValue", "ClientToken must be at most 64 ASCII characters"));
    }
    if let Some(answer) = answered_before(world, "CreateFleet", query, &token)? {
        return Ok(answer);
    }
    let answer = create_fleet(world, query)?;
    remember_answer(world, "CreateFleet", query, &token, &answer);
    Ok(answer)
}

fn create_fleet(world: &mut World, query: &Query) -> ApiAnswer {
    let fleet = parse_fleet(world, query)?;
    refuse_duplicates(world, &fleet)?;
    refuse_market_options(world, &fleet)?;
    let (id, type_) = (fleet.id.clone(), fleet.type_);
    let wanted = [(LifeCycle::OnDemand, fleet.on_demand_target), (LifeCycle::Spot, fleet.spot_target())];
    let minimum = query.number("SpotOptions.MinTargetCapacity")?.or(query.number("OnDemandOptions.MinTargetCapacity")?);
    world.fleets.push(fleet);
    if type_ == FleetType::Maintain {
        world.recount_fleet(&id);
        return Ok(Xml::new().text("fleetId", &id));
    }
    for (life_cycle, count) in wanted {
        launch_at_once(world, &id, life_cycle, count, minimum.unwrap_or(0));
    }
    let fleet = world.fleet(&id).ok_or_else(|| no_such_fleet(&id))?;
    let answer = Xml::new().text("fleetId", &id);
    Ok(if type_ == FleetType::Instant { answer.and(outcome(fleet)) } else { answer })
}

/// Refuses the whole request if two overrides have one type in one zone, as AWS does.
fn refuse_duplicates(world: &World, fleet: &Fleet) -> Result<(), Refusal> {
    let mut pools = BTreeSet::new();
    for choice in world.choices(&fleet.configs, LifeCycle::Spot) {
        let InstancePlace { instance_type, zone, .. } = choice.place;
        if !zone.is_empty() && !pools.insert((instance_type.clone(), zone.clone())) {
            let message =
                format!("The fleet configuration contains duplicate instance pools: {instance_type} in {zone}");
            return Err(Refusal::new("InvalidFleetConfig", message));
        }
    }
    Ok(())
}

/// Refuses a template with market options if the settings say so. AWS's behaviour is not verified.
fn refuse_market_options(world: &World, fleet: &Fleet) -> Result<(), Refusal> {
    let mut versions = fleet.configs.iter().filter_map(|config| world.template_version(&config.template));
    if world.settings.fleets_take_market_options || !versions.any(|version| version.market.is_some()) {
        return Ok(());
    }
    let message = "The launch template must not have InstanceMarketOptions.";
    Err(Refusal::new("InvalidParameterCombination", message))
}

fn parse_fleet(world: &mut World, query: &Query) -> Result<Fleet, Refusal> {
    let type_ = match query.get("Type") {
        None | Some("maintain") => FleetType::Maintain,
        Some("request") => FleetType::Request,
        Some("instant") => FleetType::Instant,
        Some(other) => return Err(Refusal::malformed("Type", other)),
    };
    let configs = template_configs(world, query, "LaunchTemplateConfigs")?;
    if configs.is_empty() {
        return Err(Refusal::missing_parameter("LaunchTemplateConfigs"));
    }
    let several = |one: &Override| one.subnet.as_ref().is_some_and(|subnets| subnets.contains(','));
    if type_ == FleetType::Instant && configs.iter().flat_map(|config| &config.overrides).any(several) {
        let message = "An override of a fleet of type instant can name one subnet.";
        return Err(Refusal::new("InvalidFleetConfiguration", message));
    }
    let capacity = query.structure("TargetCapacitySpecification");
    let target = capacity.number("TotalTargetCapacity")?;
    let target: u32 = target.ok_or_else(|| Refusal::missing_parameter("TotalTargetCapacity"))?;
    let spot = capacity.number("SpotTargetCapacity")?.unwrap_or(0);
    let on_demand: u32 = capacity.number("OnDemandTargetCapacity")?.unwrap_or(0);
    let unit = unit(&capacity)?.unwrap_or_default();
    let default_life_cycle = match capacity.get("DefaultTargetCapacityType") {
        Some("spot") => LifeCycle::Spot,
        _ => LifeCycle::OnDemand,
    };
    let rest = target.saturating_sub(spot + on_demand);
    let by_default = if default_life_cycle == LifeCycle::OnDemand { rest } else { 0 };
    let excess = query.get("ExcessCapacityTerminationPolicy");
    Ok(Fleet {
        id: format!("fleet-{}", world.uuid()),
        type_,
        state: "active",
        is_expired: false,
        target,
        unit,
        on_demand_target: on_demand + by_default,
        default_life_cycle,
        replacement_strategy: query.string("SpotOptions.MaintenanceStrategies.CapacityRebalance.ReplacementStrategy"),
        terminates_excess: excess != Some("no-termination"),
        configs,
        target_groups: Vec::new(),
        tags: specified_tags(query, "fleet"),
        instance_tags: specified_tags(query, "instance"),
        created: world.now,
        client_token: query.string("ClientToken"),
        launching: 0,
        launched: Vec::new(),
        failed: Vec::new(),
        modifying: None,
    })
}

/// Reads `TargetCapacityUnitType`. This world does not count vCPUs.
fn unit(capacity: &Query) -> Result<Option<TargetUnit>, Refusal> {
    let known = [TargetUnit::Units, TargetUnit::MemoryMib];
    let Some(name) = capacity.get("TargetCapacityUnitType") else { return Ok(None) };
    let found = known.into_iter().find(|unit| unit.as_str() == name);
    found.map(Some).ok_or_else(|| Refusal::malformed("TargetCapacityUnitType", name))
}

/// The launch template configurations of a call. Each template has to exist and to be named with its version.
fn template_configs(world: &World, query: &Query, prefix: &str) -> Result<Vec<TemplateConfig>, Refusal> {
    let mut configs = Vec::new();
    for config in query.structures(prefix) {
        let specification = config.structure("LaunchTemplateSpecification");
        let template = TemplateReference {
            id: specification.string("LaunchTemplateId"),
            name: specification.string("LaunchTemplateName"),
            version: specification.string("Version"),
        };
        let version = template.version.as_deref();
        let version = version.ok_or_else(|| Refusal::missing_parameter("LaunchTemplateSpecification.Version"))?;
        if known(world, template.id.as_deref(), template.name.as_deref())?.number(Some(version)).is_none() {
            let message = format!("Could not find the specified version {version} for the launch template");
            return Err(Refusal::new("InvalidLaunchTemplateId.VersionNotFound", message));
        }
        let overrides = config.structures("Overrides").into_iter().map(|one| Override {
            instance_type: one.string("InstanceType"),
            subnet: one.string("SubnetId"),
            zone: one.string("AvailabilityZone"),
            priority: one.string("Priority"),
            weighted_capacity: one.string("WeightedCapacity"),
            memory_from: one.get("InstanceRequirements.MemoryMiB.Min").and_then(|least| least.parse().ok()),
        });
        configs.push(TemplateConfig { template, overrides: overrides.collect() });
    }
    Ok(configs)
}

/// Launches `count` into the first pool with capacity; the pools before it become the fleet's errors. Below the minimum
/// it launches none.
fn launch_at_once(world: &mut World, id: &str, life_cycle: LifeCycle, count: u32, minimum: u32) {
    let Some(fleet) = world.fleet(id).filter(|_| count > 0) else { return };
    let mut failed = Vec::new();
    let mut open = None;
    for choice in world.choices(&fleet.configs, life_cycle) {
        match world.obstacle(&choice) {
            Some(obstacle) => failed.push((choice, obstacle)),
            None => {
                open = Some(choice);
                break;
            }
        }
    }
    let launches = open.filter(|_| count >= minimum);
    let launched = launches.map(|choice| {
        let ids = (0..count).map(|_| world.launch_fleet_member(id, &choice)).collect();
        (choice, ids)
    });
    if let Some(fleet) = world.fleet_mut(id) {
        fleet.launched.extend(launched);
        fleet.failed.extend(failed);
    }
}

/// The launches and the failures of an instant fleet; one answer may hold both.
fn outcome(fleet: &Fleet) -> Xml {
    let errors = fleet
        .failed
        .iter()
        .map(|(choice, failed)| chosen(choice).text("errorCode", failed.code).text("errorMessage", &failed.message));
    let instances = fleet.launched.iter().map(|(choice, ids)| {
        let xml = chosen(choice).texts("instanceIds", "item", ids).text("instanceType", &choice.place.instance_type);
        xml.text("availabilityZone", &choice.place.zone).text("subnetId", &choice.place.subnet)
    });
    Xml::new().list("errorSet", "item", errors).list("fleetInstanceSet", "item", instances)
}

fn chosen(choice: &Choice) -> Xml {
    let mut both = Xml::new().nest("launchTemplateSpecification", reference(&choice.template));
    let place = &choice.place;
    let overridden = choice.override_.as_ref().map(override_).unwrap_or_default();
    // If the override names no type the answer names the chosen one.
    let type_open = choice.override_.as_ref().is_none_or(|one| one.instance_type.is_none());
    let overridden = overridden.option("instanceType", Some(&place.instance_type).filter(|_| type_open));
    both = both.nest("overrides", overridden);
    Xml::new().nest("launchTemplateAndOverrides", both).text("lifecycle", place.life_cycle.as_str())
}

pub(crate) fn reference(template: &TemplateReference) -> Xml {
    Xml::new()
        .option("launchTemplateId", template.id.as_ref())
        .option("launchTemplateName", template.name.as_ref())
        .option("version", template.version.as_ref())
}

pub(crate) fn override_(one: &Override) -> Xml {
    Xml::new()
        .option("instanceType", one.instance_type.as_ref())
        .option("subnetId", one.subnet.as_ref())
        .option("availabilityZone", one.zone.as_ref())
        .option("weightedCapacity", one.weighted_capacity.as_ref())
        .option("priority", one.priority.as_ref())
        .and(requirements(one))
}

fn requirements(one: &Override) -> Xml {
    let Some(least) = one.memory_from else { return Xml::new() };
    let from = |least: u32| Xml::new().text("min", least);
    Xml::new().nest("instanceRequirements", Xml::new().nest("vCpuCount", from(1)).nest("memoryMiB", from(least)))
}

pub(crate) fn config(config: &TemplateConfig) -> Xml {
    let overrides = config.overrides.iter().map(override_);
    let template = Xml::new().nest("launchTemplateSpecification", reference(&config.template));
    template.list("overrides", "item", overrides)
}

fn no_such_fleet(id: &str) -> Refusal {
    Refusal::new("InvalidFleetId.NotFound", format!("The fleet ID '{id}' does not exist"))
}

fn ec2_fleet<'a>(world: &'a World, id: &str) -> Result<&'a Fleet, Refusal> {
    world.fleet(id).filter(|fleet| !fleet.is_spot_fleet()).ok_or_else(|| no_such_fleet(id))
}

/// Describes fleets; instant fleets only if the call names their ids.
fn describe_fleets(world: &World, query: &Query) -> ApiAnswer {
    let ids = query.list("FleetId");
    for id in &ids {
        ec2_fleet(world, id)?;
    }
    let shown = |fleet: &&Fleet| match ids.is_empty() {
        true => !fleet.is_spot_fleet() && fleet.type_ != FleetType::Instant,
        false => ids.contains(&fleet.id),
    };
    let mut found = Vec::new();
    for fleet in world.fleets.iter().filter(shown) {
        let mut admitted = true;
        for filter in query.filters() {
            admitted &= match (filtered_by_tags(&filter, &fleet.tags), filter.name.as_str()) {
                (Some(admitted), _) => admitted,
                (None, "fleet-state") => filter.admits(fleet.state),
                (None, "type") => filter.admits(fleet.type_.as_str()),
                _ => return Err(unknown_filter(&filter)),
            };
        }
        if admitted {
            found.push(fleet);
        }
    }
    let (found, next) = paged(found, query)?;
    let items = found.into_iter().map(|fleet| described(world, fleet));
    Ok(Xml::new().list("fleetSet", "item", items).option("nextToken", next))
}

fn described(world: &World, fleet: &Fleet) -> Xml {
    let (state, target) = fleet.shown(world.now);
    let fulfilled = world.fulfilled(fleet, None);
    let status = if fulfilled < f64::from(fleet.target) { "pending_fulfillment" } else { "fulfilled" };
    let mut spot = Xml::new().text("allocationStrategy", "price-capacity-optimized");
    if let Some(strategy) = &fleet.replacement_strategy {
        let mut rebalance = Xml::new().text("replacementStrategy", strategy);
        if strategy == "launch-before-terminate" {
            rebalance = rebalance.text("terminationDelay", world.settings.timings.termination_delay.as_secs());
        }
        spot = spot.nest("maintenanceStrategies", Xml::new().nest("capacityRebalance", rebalance));
    }
    let capacity = Xml::new()
        .text("totalTargetCapacity", target)
        .text("onDemandTargetCapacity", fleet.on_demand_target)
        .text("spotTargetCapacity", target.saturating_sub(fleet.on_demand_target))
        .text("defaultTargetCapacityType", fleet.default_life_cycle.as_str())
        .option("targetCapacityUnitType", fleet.named_unit());
    let xml = Xml::new()
        .text("activityStatus", status)
        .text("createTime", world.clock.iso_millis(fleet.created))
        .text("fleetId", &fleet.id)
        .text("fleetState", state)
        .option("validUntil", fleet.is_expired.then(|| world.clock.iso_millis(fleet.created)))
        .option("clientToken", fleet.client_token.as_ref())
        .text("excessCapacityTerminationPolicy", if fleet.terminates_excess { "termination" } else { "no-termination" })
        .text("fulfilledCapacity", format!("{fulfilled:.1}"))
        .text("fulfilledOnDemandCapacity", format!("{:.1}", world.fulfilled(fleet, Some(LifeCycle::OnDemand))))
        .list("launchTemplateConfigs", "item", fleet.configs.iter().map(config))
        .nest("targetCapacitySpecification", capacity)
        .text("terminateInstancesWithExpiration", false)
        .text("type", fleet.type_.as_str())
        .text("replaceUnhealthyInstances", false)
        .nest("spotOptions", spot.text("instanceInterruptionBehavior", "terminate"))
        .nest("onDemandOptions", Xml::new().text("allocationStrategy", "lowest-price"))
        .and(tag_set(&fleet.tags));
    if fleet.type_ == FleetType::Instant { xml.and(outcome(fleet)) } else { xml }
}

fn describe_fleet_instances(world: &World, query: &Query) -> ApiAnswer {
    let fleet = ec2_fleet(world, &query.required("FleetId")?)?;
    if fleet.type_ == FleetType::Instant {
        let message = "DescribeFleetInstances does not support fleets of type instant";
        return Err(Refusal::new("UnsupportedOperation", message));
    }
    let members: Vec<&Instance> = world.fleet_members(fleet).collect();
    let (members, next) = paged(members, query)?;
    let items = members.into_iter().map(active_instance);
    Ok(Xml::new().text("fleetId", &fleet.id).list("activeInstanceSet", "item", items).option("nextToken", next))
}

pub(crate) fn active_instance(instance: &Instance) -> Xml {
    Xml::new()
        .text("instanceId", &instance.id)
        .text("instanceType", &instance.place.instance_type)
        .option("spotInstanceRequestId", instance.spot.as_ref().map(|spot| &spot.id))
        .text("instanceHealth", "healthy")
}

/// Only a live `maintain` fleet can be modified.
pub(crate) fn modifiable(fleet: &Fleet, what: &str) -> Result<(), Refusal> {
    if fleet.type_ == FleetType::Maintain && fleet.state == "active" {
        return Ok(());
    }
    let message = format!("{what}: {} is not a modifiable fleet request type.", fleet.id);
    Err(Refusal::new("FleetNotInModifiableState", message))
}

fn modify_fleet(world: &mut World, query: &Query) -> ApiAnswer {
    let id = query.required("FleetId")?;
    let fleet = ec2_fleet(world, &id)?;
    modifiable(fleet, "Fleet")?;
    let configs = template_configs(world, query, "LaunchTemplateConfig")?;
    let capacity = query.structure("TargetCapacitySpecification");
    let target = capacity.number("TotalTargetCapacity")?;
    // This world refuses a total without the fleet's unit. AWS's answer is not verified.
    if target.is_some() && unit(&capacity)?.unwrap_or_default() != fleet.unit {
        return Err(Refusal::new("InvalidParameterValue", "TargetCapacityUnitType is not the fleet's"));
    }
    let on_demand = capacity.number("OnDemandTargetCapacity")?;
    let fleet = world.fleet_mut(&id).ok_or_else(|| no_such_fleet(&id))?;
    match query.get("ExcessCapacityTerminationPolicy") {
        None => {}
        Some("termination") => fleet.terminates_excess = true,
        Some("no-termination") => fleet.terminates_excess = false,
        Some(other) => return Err(Refusal::malformed("ExcessCapacityTerminationPolicy", other)),
    }
    if !configs.is_empty() {
        fleet.configs = configs;
    }
    fleet.on_demand_target = on_demand.unwrap_or(fleet.on_demand_target);
    let terminates = fleet.terminates_excess;
    if let Some(target) = target {
        world.set_fleet_target(&id, target, terminates);
    }
    Ok(done())
}

/// Deletes fleets. An instant fleet always terminates its instances.
fn delete_fleets(world: &mut World, query: &Query) -> ApiAnswer {
    let terminates =
        query.truth("TerminateInstances")?.ok_or_else(|| Refusal::missing_parameter("TerminateInstances"))?;
    let (mut deleted, mut missed) = (Vec::new(), Vec::new());
    for id in query.list("FleetId") {
        let Ok(fleet) = ec2_fleet(world, &id) else {
            let error = Xml::new().text("code", "fleetIdDoesNotExist").text("message", format!("{id} does not exist"));
            missed.push(Xml::new().text("fleetId", &id).nest("error", error));
            continue;
        };
        let terminates = terminates || fleet.type_ == FleetType::Instant;
        let before = fleet.state;
        let after = if terminates { "deleted_terminating" } else { "deleted_running" };
        end_fleet(world, &id, after, terminates);
        let states = Xml::new().text("currentFleetState", after).text("previousFleetState", before);
        deleted.push(states.text("fleetId", &id));
    }
    let xml = Xml::new().list("successfulFleetDeletionSet", "item", deleted);
    Ok(xml.list("unsuccessfulFleetDeletionSet", "item", missed))
}

pub(crate) fn end_fleet(world: &mut World, id: &str, state: &'static str, terminates: bool) {
    if let Some(fleet) = world.fleet_mut(id) {
        fleet.state = state;
    }
    let members = world.fleet(id).filter(|_| terminates).map(|fleet| world.fleet_members(fleet).collect::<Vec<_>>());
    let members: Vec<String> = members.unwrap_or_default().into_iter().map(|one| one.id.clone()).collect();
    for member in members {
        world.terminate(&member, "Client.UserInitiatedShutdown");
    }
}
