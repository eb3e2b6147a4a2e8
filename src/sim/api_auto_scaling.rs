//! Auto Scaling 2011-01-01: the calls that change a group or its members; the describing calls have their own file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answers::{answered_before, remember_answer};
use super::api_auto_scaling_describe::{self as describe, group};
use super::auto_scaling_group::{AutoScalingGroup, LifecycleHook, Member};
use super::instance::{InstancePlace, InstanceState, Keeper};
use super::launch_template::TemplateReference;
use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::settings::LifeCycle;
use super::world::World;
use super::xml::Xml;

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<ApiAnswer> {
    Some(match action {
        "DescribeAutoScalingGroups" => describe::auto_scaling_groups(world, query),
        "DescribeAutoScalingInstances" => describe::auto_scaling_instances(world, query),
        "DescribeLifecycleHooks" => describe::lifecycle_hooks(world, query),
        "DescribeTrafficSources" => describe::traffic_sources(world, query),
        "DetachInstances" => detach_instances(world, query),
        "AttachInstances" => attach_instances(world, query),
        "TerminateInstanceInAutoScalingGroup" => terminate_instance_in_auto_scaling_group(world, query),
        "LaunchInstances" => launch_instances_once(world, query),
        "CompleteLifecycleAction" => complete_lifecycle_action(world, query),
        "RecordLifecycleActionHeartbeat" => record_lifecycle_action_heartbeat(world, query),
        "EnterStandby" => enter_standby(world, query),
        "ExitStandby" => exit_standby(world, query),
        "PutLifecycleHook" => put_lifecycle_hook(world, query),
        "CreateAutoScalingGroup" => create_auto_scaling_group(world, query),
        "UpdateAutoScalingGroup" => update_auto_scaling_group(world, query),
        _ => return None,
    })
}

fn decrements(query: &Query) -> Result<bool, Refusal> {
    let decrement = query.truth("ShouldDecrementDesiredCapacity")?;
    decrement.ok_or_else(|| Refusal::missing_parameter("ShouldDecrementDesiredCapacity"))
}

/// Refuses a decrement that would take the group below its minimum.
fn keeps_minimum(group: &AutoScalingGroup, fewer: usize) -> Result<(), Refusal> {
    if (group.desired as usize) < group.min as usize + fewer {
        let (name, min) = (&group.name, group.min);
        let message = format!(
            "Currently, desiredSize equals minSize ({min}). Terminating instance without replacement will violate \
             group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's \
             min size. ({name})"
        );
        return Err(Refusal::validation(message));
    }
    Ok(())
}

fn detach_instances(world: &mut World, query: &Query) -> ApiAnswer {
    let decrement = decrements(query)?;
    let group = group(world, query)?;
    let name = group.name.clone();
    let ids = query.list("InstanceIds.member");
    for id in &ids {
        let member = group.member(id);
        let member = member.ok_or_else(|| {
            Refusal::validation(format!("The instance {id} is not part of Auto Scaling group {name}."))
        })?;
        if !matches!(member.state, "InService" | "Standby") {
            return Err(Refusal::validation(format!("The instance {id} is not in InService or Standby.")));
        }
    }
    if decrement {
        keeps_minimum(group, ids.len())?;
    }
    let mut activities = Vec::new();
    for id in &ids {
        world.detach(&name, id, decrement);
        activities.push(activity(world, &name, &format!("Detaching EC2 instance: {id}"), id));
    }
    world.recount_group(&name);
    Ok(Xml::new().list("Activities", "member", activities))
}

fn activity(world: &mut World, name: &str, description: &str, id: &str) -> Xml {
    let activity = world.uuid();
    let now = world.clock.iso_millis(world.now);
    Xml::new()
        .text("ActivityId", activity)
        .text("AutoScalingGroupName", name)
        .text("Description", description)
        .text("Cause", format!("At {now} instance {id} was taken out of service in response to a user request."))
        .text("StartTime", &now)
        .text("StatusCode", "InProgress")
        .text("Progress", 50)
        .text("Details", "{}")
}

fn attach_instances(world: &mut World, query: &Query) -> ApiAnswer {
    let group = group(world, query)?;
    let (name, target_groups) = (group.name.clone(), group.target_groups.clone());
    let ids = query.list("InstanceIds.member");
    if group.desired as usize + ids.len() > group.max as usize {
        let message = format!("AutoScalingGroup by name {name} would exceed its MaxSize {}", group.max);
        return Err(Refusal::validation(message));
    }
    for id in &ids {
        let free = world.group_of(id).is_none();
        if !free || world.instance(id).is_none_or(|instance| instance.state != InstanceState::Running) {
            let message = format!("Invalid Instance ID(s) specified: [{id}] is not in correct state");
            return Err(Refusal::validation(message));
        }
    }
    for id in &ids {
        if let Some(instance) = world.instance_mut(id) {
            instance.keeper = Some(Keeper::AutoScalingGroup(name.clone()));
            instance.tags.insert("aws:autoscaling:groupName".to_owned(), name.clone());
            instance.target_lifecycle_state = Some("InService".to_owned());
        }
        if let Some(group) = world.group_mut(&name) {
            group.desired += 1;
            group.members.push(Member::new(id, "InService"));
        }
        world.register_instance(&target_groups, id);
    }
    Ok(Xml::new())
}

fn terminate_instance_in_auto_scaling_group(world: &mut World, query: &Query) -> ApiAnswer {
    let id = query.required("InstanceId")?;
    let decrement = decrements(query)?;
    let Some(group) = world.group_of(&id) else {
        let message = format!("Instance Id not found - No managed instance found for instance ID: {id}");
        return Err(Refusal::validation(message));
    };
    let name = group.name.clone();
    let in_service = group.member(&id).is_some_and(|member| matches!(member.state, "InService" | "Standby"));
    if !in_service {
        return Err(Refusal::validation(format!("The instance {id} is not in InService or Standby.")));
    }
    if decrement {
        keeps_minimum(group, 1)?;
        if let Some(group) = world.group_mut(&name) {
            group.desired = group.desired.saturating_sub(1);
        }
    }
    world.terminate_member(&name, &id);
    let activity = activity(world, &name, &format!("Terminating EC2 instance: {id}"), &id);
    Ok(Xml::new().nest("Activity", activity))
}

/// The members that a call names. Each has to be in this state.
fn members_in(world: &World, query: &Query, state: &str) -> Result<(String, Vec<String>), Refusal> {
    let group = group(world, query)?;
    let ids = query.list("InstanceIds.member");
    match ids.iter().find(|id| group.member(id).is_none_or(|member| member.state != state)) {
        Some(id) => Err(Refusal::validation(format!("The instance {id} is not in {state}."))),
        None => Ok((group.name.clone(), ids)),
    }
}

fn enter_standby(world: &mut World, query: &Query) -> ApiAnswer {
    let decrement = decrements(query)?;
    let (name, ids) = members_in(world, query, "InService")?;
    if decrement {
        keeps_minimum(group(world, query)?, ids.len())?;
    }
    ids.iter().for_each(|id| world.enter_standby(&name, id, decrement));
    Ok(Xml::new().list("Activities", "member", []))
}

fn exit_standby(world: &mut World, query: &Query) -> ApiAnswer {
    let (name, ids) = members_in(world, query, "Standby")?;
    ids.iter().for_each(|id| world.exit_standby(&name, id));
    Ok(Xml::new().list("Activities", "member", []))
}

/// LaunchInstances launches in the caller's name, so the caller needs the permissions of a launch.
fn denied_in_passing(world: &World) -> Option<Refusal> {
    const NEEDED: [&str; 5] =
        ["ec2:CreateFleet", "ec2:DescribeLaunchTemplateVersions", "ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"];
    let passes_role = world.settings.role.is_some();
    let mut needed = NEEDED.into_iter().filter(|action| passes_role || *action != "iam:PassRole");
    let denied = needed.find(|action| world.denies(action))?;
    Some(Refusal::denied("autoscaling", &world.settings, denied))
}

fn launch_instances_once(world: &mut World, query: &Query) -> ApiAnswer {
    if let Some(denied) = denied_in_passing(world) {
        return Err(denied);
    }
    let token = query.required("ClientToken")?;
    if world.launches_in_progress.get(&token).is_some_and(|until| *until > world.now) {
        let message = "The request with this client token is still in progress.";
        return Err(Refusal::with_status(500, "IdempotentCallInProgress", message));
    }
    if let Some(answer) = answered_before(world, "LaunchInstances", query, &token)? {
        return Ok(answer);
    }
    let takes = world.settings.timings.launch_instances_takes;
    let answer = launch_instances(world, query, &token)?;
    world.launches_in_progress.insert(token.clone(), world.now + takes);
    world.answers_after = takes;
    remember_answer(world, "LaunchInstances", query, &token, &answer);
    Ok(answer)
}

/// Launches at once: the members exist when the answer is sent, or the answer holds errors.
fn launch_instances(world: &mut World, query: &Query, token: &str) -> ApiAnswer {
    let group = group(world, query)?;
    let name = group.name.clone();
    let count = query.number("RequestedCapacity")?;
    let count: u32 = count.ok_or_else(|| Refusal::missing_parameter("RequestedCapacity"))?;
    // A part of a member counts as a member.
    let count = count.div_ceil(group.units(1));
    if group.desired + count > group.max {
        let message = format!("The requested capacity would exceed the MaxSize {} of group {name}.", group.max);
        return Err(Refusal::validation(message));
    }
    if !group.mixed_types.is_empty() && !matches!(group.on_demand_percentage, 0 | 100) {
        let message =
            "LaunchInstances is not supported for a mixed instances policy with both Spot and On-Demand capacity.";
        return Err(Refusal::validation(message));
    }
    let subnets = asked_subnets(world, group, query)?;
    let places = world.group_places(group, &subnets);
    let (open, full): (Vec<InstancePlace>, Vec<InstancePlace>) =
        places.into_iter().partition(|place| world.has_capacity(place));
    let mut xml = Xml::new().text("AutoScalingGroupName", &name).text("ClientToken", token);
    if let Some(place) = open.into_iter().next() {
        if let Some(group) = world.group_mut(&name) {
            group.desired += count;
        }
        let ids: Vec<String> = (0..count).map(|_| world.launch_member(&name, place.clone())).collect();
        let launched = pool(&place).texts("InstanceIds", "member", ids);
        xml = xml.list("Instances", "member", [launched]).list("Errors", "member", []);
    } else {
        let errors = full.iter().map(|place| {
            let message = format!("There is no capacity for {} in {}.", place.instance_type, place.zone);
            pool(place).text("ErrorCode", "InsufficientInstanceCapacity").text("ErrorMessage", message)
        });
        xml = xml.list("Instances", "member", []).list("Errors", "member", errors);
        retry_asynchronously(world, query, &name, count);
    }
    Ok(xml)
}

/// Raises the desired capacity after a failed launch with `retry-with-group-configuration`.
fn retry_asynchronously(world: &mut World, query: &Query, name: &str, count: u32) {
    if query.get("RetryStrategy") != Some("retry-with-group-configuration") {
        return;
    }
    if let Some(group) = world.group_mut(name) {
        group.desired += count;
    }
    world.recount_group(name);
}

fn pool(place: &InstancePlace) -> Xml {
    let market = if place.life_cycle == LifeCycle::Spot { "Spot" } else { "OnDemand" };
    Xml::new()
        .text("InstanceType", &place.instance_type)
        .text("MarketType", market)
        .text("SubnetId", &place.subnet)
        .text("AvailabilityZone", &place.zone)
}

/// The group's subnets that the call names, by id or by zone. For a group in several zones it has to name some.
fn asked_subnets(world: &World, group: &AutoScalingGroup, query: &Query) -> Result<Vec<String>, Refusal> {
    let subnets = query.list("SubnetIds.member");
    let zones = query.list("AvailabilityZones.member");
    let own = group.subnets.iter().filter_map(|id| world.subnet(id));
    if subnets.is_empty() && zones.is_empty() {
        if group.subnets.len() > 1 {
            let message = "Either AvailabilityZones or SubnetIds must be specified for groups with multiple zones.";
            return Err(Refusal::validation(message));
        }
        return Ok(group.subnets.clone());
    }
    let known_subnet = |id: &String| group.subnets.contains(id);
    let known_zone = |zone: &String| own.clone().any(|subnet| &subnet.zone == zone);
    if !subnets.iter().all(known_subnet) || !zones.iter().all(known_zone) {
        return Err(Refusal::validation("The zones or subnets are not part of the group's configuration."));
    }
    let wanted = own.filter(|subnet| subnets.is_empty() || subnets.contains(&subnet.id));
    let wanted = wanted.filter(|subnet| zones.is_empty() || zones.contains(&subnet.zone));
    Ok(wanted.map(|subnet| subnet.id.clone()).collect())
}

/// The hook of a lifecycle action, and the instance, which the call names by id or by token.
fn waiting(world: &World, query: &Query) -> Result<(String, LifecycleHook), Refusal> {
    let group = group(world, query)?;
    let name = query.required("LifecycleHookName")?;
    let missing = || Refusal::validation(format!("No Lifecycle Hook found with name {name}"));
    let hook = group.hooks.iter().find(|hook| hook.name == name).ok_or_else(missing)?;
    let (instance, token) = (query.get("InstanceId"), query.get("LifecycleActionToken"));
    let is_named = |member: &&Member| {
        let Some(action) = member.actions.iter().find(|action| action.hook == name) else { return false };
        token.is_none_or(|token| token == action.token) && instance.is_none_or(|id| id == member.instance)
    };
    let named = token.is_some() || instance.is_some();
    match group.members.iter().filter(|_| named).find(is_named) {
        Some(member) => Ok((member.instance.clone(), hook.clone())),
        None => Err(Refusal::validation(match (token, instance) {
            (None, Some(id)) => format!("No active Lifecycle Action found with instance ID {id}"),
            (token, _) => format!("No active Lifecycle Action found with token {}", token.unwrap_or_default()),
        })),
    }
}

fn complete_lifecycle_action(world: &mut World, query: &Query) -> ApiAnswer {
    let result = query.required("LifecycleActionResult")?;
    if !matches!(result.as_str(), "CONTINUE" | "ABANDON") {
        return Err(Refusal::malformed("LifecycleActionResult", &result));
    }
    let (id, hook) = waiting(world, query)?;
    world.complete_action(&id, &hook.name, &result);
    Ok(Xml::new())
}

fn record_lifecycle_action_heartbeat(world: &mut World, query: &Query) -> ApiAnswer {
    let (id, hook) = waiting(world, query)?;
    world.heartbeat(&id, &hook);
    Ok(Xml::new())
}

fn put_lifecycle_hook(world: &mut World, query: &Query) -> ApiAnswer {
    let name = group(world, query)?.name.clone();
    let hook = LifecycleHook {
        name: query.required("LifecycleHookName")?,
        transition: query.required("LifecycleTransition")?,
        heartbeat_timeout: Duration::from_secs(query.number("HeartbeatTimeout")?.unwrap_or(3600)),
        default_result: query.string("DefaultResult").unwrap_or_else(|| "ABANDON".to_owned()),
    };
    if let Some(group) = world.group_mut(&name) {
        group.hooks.retain(|one| one.name != hook.name);
        group.hooks.push(hook);
    }
    Ok(Xml::new())
}

fn create_auto_scaling_group(world: &mut World, query: &Query) -> ApiAnswer {
    let name = query.required("AutoScalingGroupName")?;
    if world.group(&name).is_some() {
        let message =
            format!("AutoScalingGroup by this name already exists - A group by the name {name} already exists");
        return Err(Refusal::new("AlreadyExists", message));
    }
    let number = |key: &str| query.number(key)?.ok_or_else(|| Refusal::missing_parameter(key));
    let (min, max) = (number("MinSize")?, number("MaxSize")?);
    let template = TemplateReference {
        id: query.string("LaunchTemplate.LaunchTemplateId"),
        name: query.string("LaunchTemplate.LaunchTemplateName"),
        version: query.string("LaunchTemplate.Version"),
    };
    let version = world.template_version(&template);
    let version = version.ok_or_else(|| Refusal::validation("You must use a valid fully-formed launch template."))?;
    let spot = version.market.as_deref() == Some("spot");
    let zones = query.list("AvailabilityZones.member");
    let by_zone = zones.iter().filter_map(|zone| world.subnet_of_zone(zone)).map(|subnet| subnet.id.clone());
    let by_id = query.get("VPCZoneIdentifier").unwrap_or_default().split(',').map(|id| id.trim().to_owned());
    let subnets = by_id.filter(|id| !id.is_empty()).chain(by_zone).collect();
    let account = &world.settings.account;
    let group = AutoScalingGroup {
        arn: format!(
            "arn:aws:autoscaling:{}:{account}:autoScalingGroup::autoScalingGroupName/{name}",
            world.settings.region
        ),
        min,
        max,
        desired: query.number("DesiredCapacity")?.unwrap_or(min),
        subnets,
        target_groups: query.list("TargetGroupARNs.member"),
        capacity_rebalance: query.truth("CapacityRebalance")?.unwrap_or(false),
        health_check_type: query.string("HealthCheckType").unwrap_or_else(|| "EC2".to_owned()),
        instance_type: version.instance_type.clone(),
        life_cycle: if spot { LifeCycle::Spot } else { LifeCycle::OnDemand },
        template,
        mixed_types: Vec::new(),
        weight: None,
        on_demand_percentage: 100,
        hooks: Vec::new(),
        members: Vec::new(),
        tags: query.tags("Tags.member").into_iter().collect::<BTreeMap<_, _>>(),
        created: world.now,
        launching: 0,
        name: name.clone(),
    };
    world.auto_scaling_groups.push(group);
    world.recount_group(&name);
    Ok(Xml::new())
}

fn update_auto_scaling_group(world: &mut World, query: &Query) -> ApiAnswer {
    let name = group(world, query)?.name.clone();
    let (min, max, desired) = (query.number("MinSize")?, query.number("MaxSize")?, query.number("DesiredCapacity")?);
    let rebalance = query.truth("CapacityRebalance")?;
    let Some(group) = world.group_mut(&name) else { return Ok(Xml::new()) };
    let (min, max) = (min.unwrap_or(group.min), max.unwrap_or(group.max));
    let desired = desired.unwrap_or(group.desired.clamp(min, max.max(min)));
    if !(min..=max).contains(&desired) {
        let message =
            format!("Desired capacity:{desired} must be between the specified min size:{min} and max size:{max}");
        return Err(Refusal::validation(message));
    }
    (group.min, group.max, group.desired) = (min, max, desired);
    group.capacity_rebalance = rebalance.unwrap_or(group.capacity_rebalance);
    world.terminate_excess_members(&name);
    world.recount_group(&name);
    Ok(Xml::new())
}
