//! Elastic Load Balancing 2015-12-01: the calls on target groups and load balancers.

use super::answers::page;
use super::instance::InstanceState;
use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::settings::{DrainingAddress, LoadBalancerType, TargetGroupSettings, TargetType};
use super::target_group::{Health, LoadBalancer, Named, Target, TargetGroup};
use super::world::World;
use super::xml::Xml;

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<ApiAnswer> {
    Some(match action {
        "DescribeTargetGroups" => describe_target_groups(world, query),
        "DescribeTargetHealth" => describe_target_health(world, query),
        "RegisterTargets" => register_targets(world, query),
        "DeregisterTargets" => deregister_targets(world, query),
        "DescribeTargetGroupAttributes" => describe_target_group_attributes(world, query),
        "ModifyTargetGroupAttributes" => modify_target_group_attributes(world, query),
        "DescribeLoadBalancers" => describe_load_balancers(world, query),
        "DescribeTags" => describe_tags(world, query),
        "CreateTargetGroup" => create_target_group(world, query),
        _ => return None,
    })
}

fn not_found() -> Refusal {
    Refusal::new("TargetGroupNotFound", "One or more target groups not found")
}

/// Rejects a whole list for one ARN of another service, such as VPC Lattice.
fn check_arns(arns: &[String]) -> Result<(), Refusal> {
    let is_ours =
        |arn: &&String| arn.split(':').nth(2) == Some("elasticloadbalancing") && arn.contains(":targetgroup/");
    match arns.iter().find(|arn| !is_ours(arn)) {
        Some(arn) => Err(Refusal::validation(format!("'{arn}' is not a valid target group ARN"))),
        None => Ok(()),
    }
}

fn group<'a>(world: &'a World, query: &Query) -> Result<&'a TargetGroup, Refusal> {
    let arn = query.required("TargetGroupArn")?;
    check_arns(std::slice::from_ref(&arn))?;
    world.target_group(&arn).ok_or_else(not_found)
}

fn describe_target_groups(world: &World, query: &Query) -> ApiAnswer {
    let arns = query.list("TargetGroupArns.member");
    let names = query.list("Names.member");
    check_arns(&arns)?;
    let groups = world.target_groups.iter();
    let known = |wanted: &String| groups.clone().any(|group| &group.arn == wanted || &group.name == wanted);
    if !arns.iter().chain(&names).all(known) {
        return Err(not_found());
    }
    let balancer = query.get("LoadBalancerArn");
    let all = groups.filter(|group| {
        let by_balancer = balancer.is_none_or(|arn| group.load_balancer.as_ref().is_some_and(|one| one.arn == arn));
        let by_arn = arns.is_empty() || arns.contains(&group.arn);
        by_balancer && by_arn && (names.is_empty() || names.contains(&group.name))
    });
    let (groups, next) = paged(all.collect(), query)?;
    let groups = groups.into_iter().map(target_group);
    Ok(Xml::new().list("TargetGroups", "member", groups).option("NextMarker", next))
}

/// A page of an ELB listing; 400 items by default and at most.
fn paged<T>(all: Vec<T>, query: &Query) -> Result<(Vec<T>, Option<String>), Refusal> {
    let size = query.number("PageSize")?.unwrap_or(400);
    if !(1..=400).contains(&size) {
        return Err(Refusal::validation("PageSize must be between 1 and 400"));
    }
    page(all, query, "Marker", Some(size)).ok_or_else(|| Refusal::validation("The marker is not valid"))
}

fn target_group(group: &TargetGroup) -> Xml {
    let network = matches!(group.protocol.as_str(), "TCP" | "UDP" | "TLS" | "TCP_UDP" | "QUIC" | "TCP_QUIC");
    let xml = Xml::new()
        .text("TargetGroupArn", &group.arn)
        .text("TargetGroupName", &group.name)
        .text("Protocol", &group.protocol)
        .text("Port", group.port)
        .text("VpcId", &group.vpc)
        .text("HealthCheckProtocol", if network { "TCP" } else { "HTTP" })
        .text("HealthCheckPort", "traffic-port")
        .text("HealthCheckEnabled", true)
        .text("HealthCheckIntervalSeconds", 30)
        .text("HealthCheckTimeoutSeconds", 5)
        .text("HealthyThresholdCount", 5)
        .text("UnhealthyThresholdCount", 2)
        .texts("LoadBalancerArns", "member", group.load_balancer.iter().map(|one| &one.arn))
        .text("TargetType", group.kind.as_str())
        .text("IpAddressType", if group.ipv6 { "ipv6" } else { "ipv4" });
    if network {
        return xml;
    }
    xml.text("HealthCheckPath", "/")
        .nest("Matcher", Xml::new().text("HttpCode", "200"))
        .text("ProtocolVersion", &group.protocol_version)
}

/// The targets that a call names.
fn named(query: &Query) -> Result<Vec<Named>, Refusal> {
    let targets = query.structures("Targets.member").into_iter();
    let targets = targets.map(|target| {
        let (port, zone) = (target.number("Port")?, target.string("AvailabilityZone"));
        Ok(Named { id: target.required("Id")?, port, zone })
    });
    targets.collect()
}

fn some_named(query: &Query) -> Result<Vec<Named>, Refusal> {
    let targets = named(query)?;
    if targets.is_empty() {
        return Err(Refusal::validation("1 validation error detected: Value at 'targets' must not be empty"));
    }
    Ok(targets)
}

fn describe_target_health(world: &World, query: &Query) -> ApiAnswer {
    let group = group(world, query)?;
    let wanted = named(query)?;
    let descriptions: Vec<Xml> = if wanted.is_empty() {
        let shown = |one: &Target| {
            let shown = description(&one.id, one.port, one.zone.as_deref(), world.health(group, one));
            let shift = Xml::new().text("State", "zonal_shift_active");
            if world.is_shifted(one) { shown.nest("AdministrativeOverride", shift) } else { shown }
        };
        group.targets.iter().map(shown).collect()
    } else {
        let describe = |named: &Named| {
            let port = named.port.unwrap_or(group.port);
            description(&named.id, port, named.zone.as_deref(), world.named_health(group, named))
        };
        wanted.iter().map(describe).collect()
    };
    Ok(Xml::new().list("TargetHealthDescriptions", "member", descriptions))
}

fn description(id: &str, port: u16, zone: Option<&str>, (state, reason, why): Health) -> Xml {
    let target = Xml::new().text("Id", id).text("Port", port).option("AvailabilityZone", zone);
    let health = Xml::new().text("State", state).option("Reason", reason).option("Description", why);
    Xml::new().nest("Target", target).text("HealthCheckPort", port).nest("TargetHealth", health)
}

fn register_targets(world: &mut World, query: &Query) -> ApiAnswer {
    let group = group(world, query)?;
    let targets = some_named(query)?;
    check_server_ids(group, query)?;
    for target in &targets {
        registrable(world, group, target)?;
    }
    let arn = group.arn.clone();
    for target in &targets {
        world.register_target(&arn, target);
    }
    Ok(Xml::new())
}

fn check_server_ids(group: &TargetGroup, query: &Query) -> Result<(), Refusal> {
    let wants_one = matches!(group.protocol.as_str(), "QUIC" | "TCP_QUIC");
    let targets = query.structures("Targets.member");
    let is_without = |target: &Query| target.get("QuicServerId").is_none();
    match wants_one && targets.iter().any(is_without) {
        true => Err(Refusal::validation("You must specify a QUIC server ID for a target of this target group")),
        false => Ok(()),
    }
}

fn registrable(world: &World, group: &TargetGroup, target: &Named) -> Result<(), Refusal> {
    let id = &target.id;
    world.check_zone(group, target)?;
    let refuses = world.settings.draining_address == DrainingAddress::Refused;
    if refuses && group.drains_to_the_end() && group.drains(target) {
        let why = "is draining and cannot be registered until its deregistration is complete";
        return Err(Refusal::validation(format!("The target '{id}' {why}")));
    }
    if group.kind == TargetType::Ip {
        let address: Result<std::net::IpAddr, _> = id.parse();
        let kind = if group.ipv6 { "IPv6" } else { "IPv4" };
        let wrong = || Refusal::validation(format!("The IP address '{id}' is not a valid {kind} address"));
        return if address.is_ok_and(|it| it.is_ipv6() == group.ipv6) { Ok(()) } else { Err(wrong()) };
    }
    match world.instance(id).map(|instance| instance.state) {
        Some(InstanceState::Running) => Ok(()),
        Some(_) => Err(Refusal::new(
            "InvalidTarget",
            format!("The following targets are not in a running state and cannot be registered: '{id}'"),
        )),
        None => Err(Refusal::new("InvalidTarget", format!("Instance ID '{id}' is not valid"))),
    }
}

fn deregister_targets(world: &mut World, query: &Query) -> ApiAnswer {
    let arn = group(world, query)?.arn.clone();
    for target in some_named(query)? {
        world.deregister_target(&arn, &target);
    }
    Ok(Xml::new())
}

fn attributes(group: &TargetGroup) -> Xml {
    let pairs = group.attributes.iter().map(|(key, value)| Xml::new().text("Key", key).text("Value", value));
    Xml::new().list("Attributes", "member", pairs)
}

fn describe_target_group_attributes(world: &World, query: &Query) -> ApiAnswer {
    group(world, query).map(attributes)
}

fn modify_target_group_attributes(world: &mut World, query: &Query) -> ApiAnswer {
    let arn = group(world, query)?.arn.clone();
    let group = world.target_group_mut(&arn).ok_or_else(not_found)?;
    for (key, value) in query.tags("Attributes.member") {
        let delay = key == "deregistration_delay.timeout_seconds";
        if delay && !value.parse().is_ok_and(|seconds| (0..=3600).contains(&seconds)) {
            let message = format!("'{key}' attribute value must be between 0 and 3600");
            return Err(Refusal::validation(message));
        }
        group.attributes.insert(key, value);
    }
    Ok(attributes(group))
}

fn describe_load_balancers(world: &World, query: &Query) -> ApiAnswer {
    let arns = query.list("LoadBalancerArns.member");
    let names = query.list("Names.member");
    let all = world.target_groups.iter().filter_map(|group| group.load_balancer.as_ref());
    let known = |wanted: &String| all.clone().any(|one| &one.arn == wanted || &one.name == wanted);
    if !arns.iter().chain(&names).all(known) {
        return Err(Refusal::new("LoadBalancerNotFound", "One or more load balancers not found"));
    }
    let wanted = all.filter(|one| arns.is_empty() || arns.contains(&one.arn));
    let wanted = wanted.filter(|one| names.is_empty() || names.contains(&one.name));
    let (wanted, next) = paged(wanted.collect(), query)?;
    let created = world.clock.iso_millis(world.clock.started());
    let is_of = |group: &TargetGroup, one: &LoadBalancer| group.load_balancer.iter().any(|it| it.arn == one.arn);
    let balancers = wanted.into_iter().map(|one| {
        Xml::new()
            .text("LoadBalancerArn", &one.arn)
            .text("LoadBalancerName", &one.name)
            .text("DNSName", format!("{}-1.{}.elb.amazonaws.com", one.name, world.settings.region))
            .text("CreatedTime", &created)
            .text("Scheme", "internal")
            .text("VpcId", world.target_groups.iter().find(|group| is_of(group, one)).map_or("", |group| &group.vpc))
            .nest("State", Xml::new().text("Code", "active"))
            .text("Type", one.kind)
            .text("IpAddressType", "ipv4")
            .list(
                "AvailabilityZones",
                "member",
                world
                    .subnets
                    .iter()
                    .filter(|subnet| one.zones.is_empty() || one.zones.contains(&subnet.zone))
                    .map(|subnet| Xml::new().text("ZoneName", &subnet.zone).text("SubnetId", &subnet.id)),
            )
    });
    Ok(Xml::new().list("LoadBalancers", "member", balancers).option("NextMarker", next))
}

fn describe_tags(world: &World, query: &Query) -> ApiAnswer {
    let mut descriptions = Vec::new();
    for arn in query.list("ResourceArns.member") {
        let group = world.target_group(&arn).ok_or_else(not_found)?;
        let tags = group.tags.iter().map(|(key, value)| Xml::new().text("Key", key).text("Value", value));
        descriptions.push(Xml::new().text("ResourceArn", &arn).list("Tags", "member", tags));
    }
    Ok(Xml::new().list("TagDescriptions", "member", descriptions))
}

fn create_target_group(world: &mut World, query: &Query) -> ApiAnswer {
    let name = query.required("Name")?;
    if world.target_groups.iter().any(|group| group.name == name) {
        let message = format!("A target group with the same name '{name}' exists, but with different settings");
        return Err(Refusal::new("DuplicateTargetGroupName", message));
    }
    let settings = TargetGroupSettings {
        kind: if query.get("TargetType") == Some("ip") { TargetType::Ip } else { TargetType::Instance },
        protocol: query.required("Protocol")?,
        protocol_version: query.get("ProtocolVersion").unwrap_or("HTTP1").to_owned(),
        port: query.number("Port")?.ok_or_else(|| Refusal::missing_parameter("Port"))?,
        load_balancer: LoadBalancerType::None,
        name,
        vpc: query.string("VpcId"),
        ..TargetGroupSettings::default()
    };
    let arn = world.add_target_group(&settings);
    let tags = query.tags("Tags.member");
    let group = world.target_group_mut(&arn).ok_or_else(not_found)?;
    group.tags.extend(tags);
    Ok(Xml::new().list("TargetGroups", "member", [target_group(group)]))
}
