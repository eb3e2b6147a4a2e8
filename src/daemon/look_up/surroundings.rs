//! The surroundings of a launch of ours: subnets with their zones, where others run, and what the templates say.
//!
//! Invariant: without them the choice of pools is worse, but a successor comes. A look-up that fails is a gap.

use std::collections::BTreeMap;

use crate::cloud::Aws;
use crate::cloud::launch_template::TemplateFacts;
use crate::core::model::{FleetType, Instance, InstanceState, LaunchConfiguration, LaunchTemplate, Owner};
use crate::core::plan::{MissingTemplate, OwnSubnet, Surroundings, TemplateTraits};
use crate::core::retry::{Failure, FailureKind};
use crate::daemon::gap::Gap;
use crate::daemon::parties::Parties;

/// The tag that EC2 sets on what was launched from a template.
pub(super) const TEMPLATE_ID_TAG: &str = "aws:ec2launchtemplate:id";

/// Finds the subnets with their zones, where the group's members run, and what the templates say of the launch. Finds
/// nothing for owners that choose by themselves.
pub(super) async fn find_surroundings(
    asked: &Parties,
    owner: &Owner,
    fellows: Option<Result<Vec<Instance>, Failure>>,
    gaps: &mut Vec<Gap>,
) -> Surroundings {
    let (template_id, subnets, traits) = match owner {
        Owner::LaunchTemplate(template) => {
            let among = fellows.as_ref().and_then(|fellows| fellows.as_deref().ok()).unwrap_or_default();
            match template_surroundings(asked, template, among).await {
                Ok(surroundings) => surroundings,
                Err(failure) => {
                    gaps.push(Gap::new(format!("launch template {}", template.id_or_name), failure));
                    let id = Some(template.id_or_name.clone()).filter(|id| id.starts_with("lt-"));
                    (id, asked.config.successor.subnets.clone(), TemplateTraits::default())
                }
            }
        }
        Owner::Fleet(_, fleet) if fleet.request_type != FleetType::Maintain => {
            let configurations = &fleet.launch_configurations;
            let template = configurations.first().map(|configuration| configuration.template.id_or_name.clone());
            let traits = fleet_traits(&asked.aws, configurations).await;
            (template.filter(|id| id.starts_with("lt-")), subnets_of(configurations), traits)
        }
        _ => return Surroundings::default(),
    };
    let surroundings = zones_of(asked, &subnets, gaps).await;
    let fellows = match (fellows, template_id) {
        (Some(fellows), _) => fellows,
        (None, Some(id)) => {
            let describe = || asked.aws.ec2.describe_instances_by_tag(TEMPLATE_ID_TAG, &id);
            asked.patiently(describe).await
        }
        (None, None) => Ok(Vec::new()),
    };
    let running_by_zone = running_by_zone(known_or(fellows, "where the template's instances run", gaps));
    let own_subnet =
        traits.own_subnet.map(|_| OwnSubnet { zone: surroundings.zone_of_subnet.values().next().cloned() });
    Surroundings { running_by_zone, traits: TemplateTraits { own_subnet, ..traits }, ..surroundings }
}

/// The number of running instances by zone. A zone without one is absent.
fn running_by_zone(instances: Vec<Instance>) -> BTreeMap<String, usize> {
    let mut zones = BTreeMap::new();
    for instance in instances.into_iter().filter(|instance| instance.state == InstanceState::Running) {
        *zones.entry(instance.availability_zone).or_default() += 1;
    }
    zones
}

/// The surroundings as far as these subnets tell of them.
async fn zones_of(asked: &Parties, subnets: &[String], gaps: &mut Vec<Gap>) -> Surroundings {
    let mut surroundings = Surroundings::default();
    match subnets {
        [] => return surroundings,
        [ours] if asked.identity.subnet_id.as_ref() == Some(ours) && !asked.identity.availability_zone.is_empty() => {
            surroundings.zone_of_subnet.insert(ours.clone(), asked.identity.availability_zone.clone());
            return surroundings;
        }
        _ => {}
    }
    match asked.patiently(|| asked.aws.ec2.describe_subnets(subnets)).await {
        Ok(described) => {
            let zones = described.into_iter().map(|subnet| (subnet.subnet_id, subnet.availability_zone));
            surroundings.zone_of_subnet.extend(zones);
            let unknown = subnets.iter().filter(|subnet| !surroundings.zone_of_subnet.contains_key(*subnet)).cloned();
            surroundings.unknown_subnets = unknown.collect();
        }
        Err(failure) => {
            gaps.push(Gap::new("the zones of the subnets", failure));
            surroundings.subnets_without_zone.extend(subnets.iter().cloned());
        }
    }
    surroundings
}

/// The traits of a fleet's templates. It has launched from them before: only a launch on demand may meet trouble.
async fn fleet_traits(aws: &Aws, configurations: &[LaunchConfiguration]) -> TemplateTraits {
    let mut traits = TemplateTraits::default();
    let mut templates: Vec<&LaunchTemplate> = configurations.iter().map(|it| &it.template).collect();
    templates.dedup();
    for template in templates {
        match describe(aws, template).await {
            Ok((facts, missing)) => {
                if let Some(facts) = facts {
                    traits.tags_spot_requests |= facts.traits.tags_spot_requests;
                    traits.names_addresses |= facts.traits.names_addresses;
                    traits.names_interface |= facts.traits.names_interface;
                }
                traits.missing.extend(missing);
            }
            Err(failure) => traits.unread.push(cannot_be_read(template, &failure)),
        }
    }
    traits
}

fn cannot_be_read(template: &LaunchTemplate, failure: &Failure) -> String {
    format!("launch template {} cannot be read: {failure}", template.id_or_name)
}

/// The facts of a template. If the version that is named has been deleted, those of the default version, from which the
/// successor is then launched.
async fn describe(
    aws: &Aws,
    template: &LaunchTemplate,
) -> Result<(Option<TemplateFacts>, Option<MissingTemplate>), Failure> {
    let facts = aws.ec2.describe_launch_template(template).await?;
    if facts.is_some() {
        return Ok((facts, None));
    }
    let facts = match template.by_default_version() {
        Some(default) => aws.ec2.describe_launch_template(&default).await?,
        None => None,
    };
    let missing = MissingTemplate { template: template.clone(), has_default: facts.is_some() };
    Ok((facts, Some(missing)))
}

/// The answer, or nothing and a gap if the look-up failed.
fn known_or<T: Default>(answer: Result<T, Failure>, what: &str, gaps: &mut Vec<Gap>) -> T {
    answer.unwrap_or_else(|failure| {
        gaps.push(Gap::new(what, failure));
        T::default()
    })
}

fn subnets_of(configurations: &[LaunchConfiguration]) -> Vec<String> {
    let pools = configurations.iter().flat_map(|configuration| &configuration.overrides);
    let named = pools.filter_map(|pool| pool.subnet_id.as_deref());
    let named = named.flat_map(|subnets| subnets.split(',').map(str::trim));
    let mut subnets: Vec<String> = named.filter(|subnet| !subnet.is_empty()).map(str::to_owned).collect();
    subnets.sort();
    subnets.dedup();
    subnets
}

/// The template's id, by which its instances are counted; the subnets: its own, else the configured ones, else this
/// instance's; and its traits. `fellows` are the template's instances, as far as they are known.
async fn template_surroundings(
    asked: &Parties,
    template: &LaunchTemplate,
    fellows: &[Instance],
) -> Result<(Option<String>, Vec<String>, TemplateTraits), Failure> {
    let chosen = &asked.config.successor.subnets;
    let id = Some(template.id_or_name.clone()).filter(|id| id.starts_with("lt-"));
    let mut traits = TemplateTraits::default();
    let (facts, missing) = match asked.patiently(|| describe(&asked.aws, template)).await {
        // The launch goes by the configuration alone then.
        Err(failure) if failure.kind == FailureKind::Denied => {
            traits.unread.push(cannot_be_read(template, &failure));
            (None, None)
        }
        described => described?,
    };
    let id = id.or_else(|| facts.as_ref().map(|facts| facts.id.clone()));
    traits.missing.extend(missing);
    if let Some(facts) = facts {
        traits = TemplateTraits { missing: traits.missing, ..facts.traits };
        if let Some(subnet) = facts.subnet_id {
            traits.own_subnet = Some(OwnSubnet::default());
            return Ok((id, vec![subnet], traits));
        }
    }
    if !chosen.is_empty() {
        return Ok((id, chosen.clone(), traits));
    }
    // EC2 is the source of truth; the metadata tells the subnet where EC2 does not.
    let ours = fellows.iter().find(|fellow| fellow.instance_id == asked.identity.instance_id);
    if let Some(subnet) = ours.and_then(|ours| ours.subnet_id.clone()) {
        return Ok((id, vec![subnet], traits));
    }
    let us = || asked.aws.ec2.describe_instances(std::slice::from_ref(&asked.identity.instance_id));
    let us = match (asked.patiently(us).await, &asked.identity.subnet_id) {
        (Err(_), Some(subnet)) => return Ok((id, vec![subnet.clone()], traits)),
        (us, _) => us?,
    };
    Ok((id, us.into_iter().filter_map(|instance| instance.subnet_id).collect(), traits))
}
