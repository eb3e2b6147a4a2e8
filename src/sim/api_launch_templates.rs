//! EC2's launch templates.

use std::collections::BTreeMap;

use super::answers::{filtered_by_tags, paged, tag_set, unknown_filter};
use super::launch_template::{LaunchTemplate, TemplateVersion};
use super::query::Query;
use super::refusal::{ApiAnswer, Refusal};
use super::world::World;
use super::xml::Xml;

pub(crate) fn perform(world: &mut World, action: &str, query: &Query) -> Option<ApiAnswer> {
    Some(match action {
        "DescribeLaunchTemplates" => describe_launch_templates(world, query),
        "DescribeLaunchTemplateVersions" => describe_launch_template_versions(world, query),
        "CreateLaunchTemplate" => create_launch_template(world, query),
        _ => return None,
    })
}

/// The template of this id or name, or AWS's error for each.
pub(crate) fn known<'a>(world: &'a World, id: Option<&str>, name: Option<&str>) -> Result<&'a LaunchTemplate, Refusal> {
    world.launch_template(id, name).ok_or_else(|| match (id, name) {
        (Some(id), _) => Refusal::new(
            "InvalidLaunchTemplateId.NotFound",
            format!("The specified launch template, with template ID {id}, does not exist."),
        ),
        (None, Some(name)) => Refusal::new(
            "InvalidLaunchTemplateName.NotFoundException",
            format!("The specified launch template, with template name {name}, does not exist."),
        ),
        (None, None) => Refusal::missing_parameter("LaunchTemplateId"),
    })
}

fn described(world: &World, template: &LaunchTemplate) -> Xml {
    Xml::new()
        .text("launchTemplateId", &template.id)
        .text("launchTemplateName", &template.name)
        .text("createTime", world.clock.iso_millis(template.created))
        .text("createdBy", format!("arn:aws:iam::{}:root", world.settings.account))
        .text("defaultVersionNumber", template.default_version)
        .text("latestVersionNumber", template.latest())
        .and(tag_set(&template.tags))
}

fn describe_launch_templates(world: &World, query: &Query) -> ApiAnswer {
    let (ids, names) = (query.list("LaunchTemplateId"), query.list("LaunchTemplateName"));
    for id in &ids {
        known(world, Some(id), None)?;
    }
    for name in &names {
        known(world, None, Some(name))?;
    }
    let named = |one: &&LaunchTemplate| {
        ids.is_empty() && names.is_empty() || ids.contains(&one.id) || names.contains(&one.name)
    };
    let mut found = Vec::new();
    for template in world.launch_templates.iter().filter(named) {
        let mut admitted = true;
        for filter in query.filters() {
            admitted &= match filtered_by_tags(&filter, &template.tags) {
                Some(admitted) => admitted,
                None if filter.name == "launch-template-name" => filter.admits(&template.name),
                None => return Err(unknown_filter(&filter)),
            };
        }
        if admitted {
            found.push(template);
        }
    }
    let (found, next) = paged(found, query)?;
    let items = found.into_iter().map(|template| described(world, template));
    Ok(Xml::new().list("launchTemplates", "item", items).option("nextToken", next))
}

fn describe_launch_template_versions(world: &World, query: &Query) -> ApiAnswer {
    let template = known(world, query.get("LaunchTemplateId"), query.get("LaunchTemplateName"))?;
    let asked = query.list("LaunchTemplateVersion");
    let mut numbers = Vec::new();
    for version in &asked {
        let number = template.number(Some(version)).ok_or_else(|| {
            let message = format!("Could not find the specified version {version} for the launch template");
            Refusal::new("InvalidLaunchTemplateId.VersionNotFound", message)
        })?;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    if asked.is_empty() {
        numbers = template.versions.keys().rev().copied().collect();
    }
    let (numbers, next) = paged(numbers, query)?;
    let versions =
        numbers.into_iter().filter_map(|number| Some(version(world, template, number, template.version(number)?)));
    Ok(Xml::new().list("launchTemplateVersionSet", "item", versions).option("nextToken", next))
}

fn version(world: &World, template: &LaunchTemplate, number: usize, version: &TemplateVersion) -> Xml {
    let mut data = Xml::new().text("imageId", &version.image).text("instanceType", &version.instance_type);
    if let Some(name) = &version.instance_profile {
        data = data.nest("iamInstanceProfile", Xml::new().text("name", name));
    }
    if let Some(market) = &version.market {
        let request_type = if version.is_persistent { "persistent" } else { "one-time" };
        let spot = Xml::new().option("maxPrice", version.max_price.as_ref());
        let spot = spot.option("spotInstanceType", Some(request_type).filter(|_| version.is_persistent));
        let options = Xml::new().text("marketType", market);
        let is_plain = version.max_price.is_none() && !version.is_persistent;
        let options = if is_plain { options } else { options.nest("spotOptions", spot) };
        data = data.nest("instanceMarketOptions", options);
    }
    data = data.option("keyName", version.key_name.as_ref()).option("userData", version.user_data.as_ref());
    if let Some(key) = &version.kms_key {
        let ebs = Xml::new().text("encrypted", true).text("kmsKeyId", key);
        let device = Xml::new().text("deviceName", "/dev/xvda").nest("ebs", ebs);
        data = data.list("blockDeviceMappingSet", "item", [device]);
    }
    if let Some(group) = &version.placement_group {
        data = data.nest("placement", Xml::new().text("groupName", group));
    }
    if let Some(id) = &version.capacity_reservation {
        let target = Xml::new().nest("capacityReservationTarget", Xml::new().text("capacityReservationId", id));
        data = data.nest("capacityReservationSpecification", target);
    }
    if let Some(subnet) = &version.subnet {
        let interface = Xml::new().text("deviceIndex", 0).text("subnetId", subnet);
        data = data.list("networkInterfaceSet", "item", [interface]);
    }
    let specifications = [("instance", &version.instance_tags), ("spot-instances-request", &version.spot_request_tags)];
    let specifications = specifications.into_iter().filter(|(_, tags)| !tags.is_empty());
    let specifications: Vec<Xml> =
        specifications.map(|(kind, tags)| Xml::new().text("resourceType", kind).and(tag_set(tags))).collect();
    if !specifications.is_empty() {
        data = data.list("tagSpecificationSet", "item", specifications);
    }
    let data = data.texts("securityGroupIdSet", "item", &version.security_groups);
    Xml::new()
        .text("launchTemplateId", &template.id)
        .text("launchTemplateName", &template.name)
        .text("versionNumber", number)
        .text("createTime", world.clock.iso_millis(template.created))
        .text("createdBy", format!("arn:aws:iam::{}:root", world.settings.account))
        .text("defaultVersion", number == template.default_version)
        .nest("launchTemplateData", data)
}

fn create_launch_template(world: &mut World, query: &Query) -> ApiAnswer {
    let name = query.required("LaunchTemplateName")?;
    if world.launch_template(None, Some(&name)).is_some() {
        let message = "Launch template name already in use.";
        return Err(Refusal::new("InvalidLaunchTemplateName.AlreadyExistsException", message));
    }
    let data = query.structure("LaunchTemplateData");
    let version = TemplateVersion {
        instance_type: data.string("InstanceType").unwrap_or_default(),
        image: data.string("ImageId").unwrap_or_default(),
        subnet: data.string("NetworkInterface.1.SubnetId"),
        instance_profile: data.string("IamInstanceProfile.Name"),
        security_groups: data.list("SecurityGroupId"),
        market: data.string("InstanceMarketOptions.MarketType"),
        max_price: data.string("InstanceMarketOptions.SpotOptions.MaxPrice"),
        is_persistent: data.get("InstanceMarketOptions.SpotOptions.SpotInstanceType") == Some("persistent"),
        instance_tags: specified_tags(&data, "instance"),
        spot_request_tags: specified_tags(&data, "spot-instances-request"),
        key_name: data.string("KeyName"),
        kms_key: data.string("BlockDeviceMapping.1.Ebs.KmsKeyId"),
        placement_group: data.string("Placement.GroupName"),
        capacity_reservation: data
            .string("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId"),
        user_data: data.string("UserData"),
    };
    let template = LaunchTemplate {
        id: world.id("lt"),
        name,
        created: world.now,
        tags: specified_tags(query, "launch-template"),
        versions: BTreeMap::from([(1, version)]),
        default_version: 1,
    };
    let answer = Xml::new().nest("launchTemplate", described(world, &template));
    world.launch_templates.push(template);
    Ok(answer)
}

/// The tags for one type of resource in a call's tag specifications.
pub(crate) fn specified_tags(query: &Query, resource_type: &str) -> BTreeMap<String, String> {
    let specifications = query.structures("TagSpecification").into_iter();
    let matching = specifications.filter(|one| one.get("ResourceType") == Some(resource_type));
    matching.flat_map(|one| one.tags("Tag")).collect()
}
