//! Auto Scaling's describing calls.

use super::answers::page;
use super::auto_scaling_group::{AutoScalingGroup, Member};
use super::launch_template::TemplateReference;
use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::world::World;
use super::xml::Xml;

/// A page of an Auto Scaling listing; 50 items by default.
fn paged<T>(all: Vec<T>, query: &Query) -> Result<(Vec<T>, Option<String>), Refusal> {
    let size = query.number("MaxRecords")?.unwrap_or(50);
    let wrong = || Refusal::new("InvalidNextToken", "The NextToken value is not valid.");
    page(all, query, "NextToken", Some(size)).ok_or_else(wrong)
}

/// The group that the call names, or AWS's error.
pub(crate) fn group<'a>(world: &'a World, query: &Query) -> Result<&'a AutoScalingGroup, Refusal> {
    let name = query.required("AutoScalingGroupName")?;
    let missing = || Refusal::validation("AutoScalingGroup name not found - AutoScalingGroup name not found");
    world.group(&name).ok_or_else(missing)
}

/// Describes groups. Unknown names are left out, without an error.
pub(crate) fn auto_scaling_groups(world: &World, query: &Query) -> ApiAnswer {
    let names = query.list("AutoScalingGroupNames.member");
    let wanted = world.auto_scaling_groups.iter().filter(|group| names.is_empty() || names.contains(&group.name));
    let (wanted, next) = paged(wanted.collect(), query)?;
    let groups = wanted.into_iter().map(|group| described(world, group));
    Ok(Xml::new().list("AutoScalingGroups", "member", groups).option("NextToken", next))
}

fn described(world: &World, group: &AutoScalingGroup) -> Xml {
    let subnets = group.subnets.iter().filter_map(|id| world.subnet(id));
    let tags = group.tags.iter().map(|(key, value)| {
        let tag = Xml::new().text("ResourceId", &group.name).text("ResourceType", "auto-scaling-group");
        tag.text("Key", key).text("Value", value).text("PropagateAtLaunch", true)
    });
    let suspended = world
        .settings
        .suspended_processes
        .iter()
        .map(|name| Xml::new().text("ProcessName", name).text("SuspensionReason", "User suspended"));
    let strategy = if world.settings.balanced_only { "balanced-only" } else { "balanced-best-effort" };
    let xml = Xml::new()
        .text("AutoScalingGroupName", &group.name)
        .text("AutoScalingGroupARN", &group.arn)
        .text("MinSize", group.units(group.min))
        .text("MaxSize", group.units(group.max))
        .text("DesiredCapacity", group.units(group.desired))
        .text("DefaultCooldown", 300)
        .texts("AvailabilityZones", "member", subnets.map(|subnet| &subnet.zone))
        .texts("LoadBalancerNames", "member", [""; 0])
        .texts("TargetGroupARNs", "member", &group.target_groups)
        .text("HealthCheckType", &group.health_check_type)
        .text("HealthCheckGracePeriod", 300)
        .list("Instances", "member", group.members.iter().map(|one| member(world, group, one)))
        .text("CreatedTime", world.clock.iso_millis(group.created))
        .list("SuspendedProcesses", "member", suspended)
        .text("VPCZoneIdentifier", group.subnets.join(","))
        .list("Tags", "member", tags)
        .texts("TerminationPolicies", "member", ["Default"])
        .text("NewInstancesProtectedFromScaleIn", false)
        .text("CapacityRebalance", group.capacity_rebalance)
        .nest("AvailabilityZoneDistribution", Xml::new().text("CapacityDistributionStrategy", strategy))
        .list(
            "TrafficSources",
            "member",
            sources(world, group).into_iter().map(|(arn, kind)| Xml::new().text("Identifier", arn).text("Type", kind)),
        );
    if group.mixed_types.is_empty() {
        return xml.nest("LaunchTemplate", template(world, &group.template));
    }
    xml.nest("MixedInstancesPolicy", mixed_instances_policy(world, group))
}

fn mixed_instances_policy(world: &World, group: &AutoScalingGroup) -> Xml {
    let overrides = group.mixed_types.iter().map(|one| Xml::new().text("InstanceType", one));
    let launch_template = Xml::new().nest("LaunchTemplateSpecification", template(world, &group.template)).list(
        "Overrides",
        "member",
        overrides,
    );
    let distribution = Xml::new()
        .text("OnDemandAllocationStrategy", "prioritized")
        .text("OnDemandBaseCapacity", 0)
        .text("OnDemandPercentageAboveBaseCapacity", group.on_demand_percentage)
        .text("SpotAllocationStrategy", "price-capacity-optimized");
    Xml::new().nest("LaunchTemplate", launch_template).nest("InstancesDistribution", distribution)
}

/// The id, name and version of a template: Auto Scaling always answers with all three.
fn template(world: &World, reference: &TemplateReference) -> Xml {
    let template = world.referenced(reference);
    Xml::new()
        .option("LaunchTemplateId", template.map(|one| &one.id))
        .option("LaunchTemplateName", template.map(|one| &one.name))
        .option("Version", reference.version.as_ref())
}

fn member(world: &World, group: &AutoScalingGroup, member: &Member) -> Xml {
    let place = world.instance(&member.instance).map(|instance| &instance.place);
    let alive = world.instance(&member.instance).is_some_and(|instance| instance.alive());
    Xml::new()
        .text("InstanceId", &member.instance)
        .option("InstanceType", place.map(|place| &place.instance_type))
        .text("AvailabilityZone", place.map_or("", |place| &place.zone))
        .text("LifecycleState", member.state)
        .text("HealthStatus", if alive { "Healthy" } else { "Unhealthy" })
        .nest("LaunchTemplate", template(world, &group.template))
        .text("ProtectedFromScaleIn", member.is_protected)
        .option("WeightedCapacity", group.weight)
}

/// Describes members. Instances without a group are left out, without an error.
pub(crate) fn auto_scaling_instances(world: &World, query: &Query) -> ApiAnswer {
    let ids = query.list("InstanceIds.member");
    let members = world.auto_scaling_groups.iter().flat_map(|group| group.members.iter().map(move |one| (group, one)));
    let members = members.filter(|(_, member)| ids.is_empty() || ids.contains(&member.instance));
    let (members, next) = paged(members.collect(), query)?;
    let items =
        members.into_iter().map(|(group, one)| member(world, group, one).text("AutoScalingGroupName", &group.name));
    Ok(Xml::new().list("AutoScalingInstances", "member", items).option("NextToken", next))
}

pub(crate) fn lifecycle_hooks(world: &World, query: &Query) -> ApiAnswer {
    let group = group(world, query)?;
    let names = query.list("LifecycleHookNames.member");
    let hooks = group.hooks.iter().filter(|hook| names.is_empty() || names.contains(&hook.name)).map(|hook| {
        Xml::new()
            .text("LifecycleHookName", &hook.name)
            .text("AutoScalingGroupName", &group.name)
            .text("LifecycleTransition", &hook.transition)
            .text("HeartbeatTimeout", hook.heartbeat_timeout.as_secs())
            .text("GlobalTimeout", hook.heartbeat_timeout.as_secs() * 100)
            .text("DefaultResult", &hook.default_result)
    });
    Ok(Xml::new().list("LifecycleHooks", "member", hooks))
}

/// The traffic sources with their types.
fn sources<'a>(world: &'a World, group: &'a AutoScalingGroup) -> Vec<(&'a String, &'static str)> {
    let kind = |identifier: &str| match identifier.split(':').nth(2) {
        Some("elasticloadbalancing") => "elbv2",
        Some("vpc-lattice") => "vpc-lattice",
        _ => "elb",
    };
    let all = group.target_groups.iter().chain(&world.settings.other_traffic_sources);
    all.map(|identifier| (identifier, kind(identifier))).collect()
}

pub(crate) fn traffic_sources(world: &World, query: &Query) -> ApiAnswer {
    let group = group(world, query)?;
    let (page, next) = paged(sources(world, group), query)?;
    let sources = page.into_iter().map(|(arn, kind)| {
        let source = Xml::new().text("TrafficSource", arn).text("State", "InService");
        source.text("Identifier", arn).text("Type", kind)
    });
    Ok(Xml::new().list("TrafficSources", "member", sources).option("NextToken", next))
}
