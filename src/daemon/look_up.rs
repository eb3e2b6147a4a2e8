//! The look-ups: owner, its settings, and what the choice of pools needs; each made of the calls of several edges.
//!
//! They serve before a notice comes and, for what is not known by then, in the two minutes. Nothing here is kept.

use std::collections::BTreeMap;

use tracing::warn;

use super::gap::{Gap, Planned, Tempo, patiently};
use crate::cloud::Aws;
use crate::cloud::imds::Imds;
use crate::core::call::CALL_LIMIT;
use crate::core::config::{Config, Successor};
use crate::core::error_chain::error_chain;
use crate::core::model::{
    AutoScalingGroup, Fleet, FleetState, FleetType, Identity, Instance, InstanceState, LaunchConfiguration,
    LaunchTemplate, LifeCycle, Owner,
};
use crate::core::plan::{self, Clue, OwnSubnet, Plan, Surroundings, TemplateTraits};
use crate::core::retry::{Failure, FailureKind};

/// The tag that EC2 sets on what was launched from a template.
const TEMPLATE_ID_TAG: &str = "aws:ec2launchtemplate:id";
/// The name of a look-up that decides whether anybody is to be asked.
const REQUEST_LAUNCHES_AGAIN: &str = "whether this instance's Spot request launches again";

/// Tags, owner, its settings, and what the choice of pools needs.
pub(super) async fn find_plan(aws: &Aws, imds: &Imds, identity: &Identity, config: &Config, tempo: Tempo) -> Planned {
    let tags = match find_tags(aws, imds, identity).await {
        Ok(tags) => tags,
        // Neither needs them.
        Err(_) if config.successor.names_the_owner() => BTreeMap::new(),
        Err(failure) => return Planned::unknown(Gap::new("this instance's tags", failure)),
    };
    let clue = match find_clue(imds, &tags, config).await {
        Ok(clue) => clue,
        Err(failure) => return Planned::unknown(Gap::new("this instance's owner", failure)),
    };
    let what = clue.to_string();
    let mut gaps = Vec::new();
    match make_plan(aws, identity, config, &tags, clue, tempo, &mut gaps).await {
        Ok(plan) => Planned { plan: Some(plan), gaps },
        Err(failure) => Planned::unknown(Gap::new(what, failure)),
    }
}

/// The Auto Scaling group that holds this instance, whoever launches a successor: its hooks hold this instance up. Hooks that
/// nobody may read are taken for none.
pub(super) async fn find_group(aws: &Aws, imds: &Imds, identity: &Identity) -> Result<Plan, Failure> {
    let tags = find_tags(aws, imds, identity).await?;
    let clue = Clue::group(&tags).unwrap_or_else(|| Clue::Nobody("the instance has no tag of a group".to_owned()));
    let mut gaps = Vec::new();
    let owner = find_owner(aws, identity, clue, Tempo::AtOnce, &mut gaps).await?;
    match gaps.into_iter().find(|gap| gap.kind() != FailureKind::Denied) {
        Some(gap) => Err(gap.into_bare()),
        None => Ok(Plan::of(&owner, identity, &Successor::default(), &Surroundings::default())),
    }
}

/// The instance's tags that matter here: from its metadata, or from EC2 where it does not show them.
pub(crate) async fn find_tags(
    aws: &Aws,
    imds: &Imds,
    identity: &Identity,
) -> Result<BTreeMap<String, String>, Failure> {
    const OWNER_TAGS: [&str; 4] =
        ["aws:autoscaling:groupName", "aws:ec2:fleet-id", "aws:ec2spot:fleet-request-id", TEMPLATE_ID_TAG];
    const OTHER_TAGS: [&str; 4] =
        ["aws:ec2launchtemplate:version", plan::PREDECESSOR_TAG, plan::ORIGIN_FLEET_TAG, plan::TEMPLATE_TAG];
    match imds.instance_tags(&[OWNER_TAGS, OTHER_TAGS].concat()).await {
        Ok(Some(tags)) if OWNER_TAGS.iter().any(|key| tags.contains_key(*key)) => Ok(tags),
        // The tags of a young instance show late, and not everywhere at once.
        Ok(_) | Err(_) => {
            patiently(identity, || aws.instances.describe_tags(identity.instance_id.as_str(), CALL_LIMIT)).await
        }
    }
}

/// The owner as the tags tell it.
pub(crate) async fn find_clue(imds: &Imds, tags: &BTreeMap<String, String>, config: &Config) -> Result<Clue, Failure> {
    let lifecycle_state = match imds.target_lifecycle_state().await {
        Ok(look) => look.body,
        // Without its group's tag a member that was detached looks like an instance that never was in a group.
        Err(error) if !tags.contains_key("aws:autoscaling:groupName") => {
            let why = error_chain(&error);
            return Err(Failure::unanswered(format!("the metadata does not tell of an Auto Scaling group: {why}")));
        }
        Err(_) => None,
    };
    Ok(Clue::read(tags, lifecycle_state.as_deref().map(str::trim), &config.successor))
}

/// The owner that the tags tell of, its settings, and what the choice of pools needs.
pub(crate) async fn plan_of(
    aws: &Aws,
    identity: &Identity,
    config: &Config,
    tags: &BTreeMap<String, String>,
    clue: Clue,
) -> Result<Plan, Failure> {
    let mut gaps = Vec::new();
    let plan = make_plan(aws, identity, config, tags, clue, Tempo::AtOnce, &mut gaps).await?;
    let decides = |gap: &Gap| gap.is_of_hooks() || gap.what() == REQUEST_LAUNCHES_AGAIN;
    match gaps.into_iter().find(|gap| decides(gap) || gap.kind() != FailureKind::Denied) {
        Some(gap) => Err(gap.into_bare()),
        None => Ok(plan),
    }
}

async fn make_plan(
    aws: &Aws,
    identity: &Identity,
    config: &Config,
    tags: &BTreeMap<String, String>,
    clue: Clue,
    tempo: Tempo,
    gaps: &mut Vec<Gap>,
) -> Result<Plan, Failure> {
    // AWS forgets an instant fleet some time after its last change; its instances live on with its tag.
    let by_fleet = matches!(clue, Clue::Ec2Fleet(_) | Clue::SpotFleet(_));
    let owner = find_owner(aws, identity, clue, tempo, gaps).await?;
    let owner = match (owner, plan::template(tags, &config.successor)) {
        (Owner::Nobody { why }, Some(template)) if by_fleet => {
            warn!("the launch template that the tags name stands in for the fleet: {why}");
            find_owner(aws, identity, template, tempo, gaps).await?
        }
        (owner, _) => owner,
    };
    let fellows = find_fellows(aws, identity, &owner, tempo).await;
    let mut unknown_request = None;
    if let (Owner::LaunchTemplate(template), LifeCycle::Spot) = (&owner, identity.life_cycle) {
        match launched_again(aws, identity, template, tempo).await {
            Ok(None) => {}
            Ok(Some(why)) => return Ok(Plan::nobody_ever(why)),
            Err(failure) => {
                let is_denied = failure.kind == FailureKind::Denied;
                gaps.push(Gap::new(REQUEST_LAUNCHES_AGAIN, failure));
                unknown_request = Some(template.id_or_name.clone()).filter(|_| is_denied);
            }
        }
    }
    // Without them the choice of pools is worse, and a successor is a successor.
    let surroundings = find_surroundings(aws, identity, config, &owner, fellows, tempo, gaps).await;
    Ok(match unknown_request {
        Some(template) if surroundings.traits.is_persistent => Plan::nobody_ever(asks_persistently(&template)),
        _ => Plan::of(&owner, identity, &config.successor, &surroundings),
    })
}

/// The instances of the template that is the owner, as EC2 shows them. `None` for another owner, and for a template that is
/// known by its name alone.
async fn find_fellows(
    aws: &Aws,
    identity: &Identity,
    owner: &Owner,
    tempo: Tempo,
) -> Option<Result<Vec<Instance>, Failure>> {
    let Owner::LaunchTemplate(LaunchTemplate { id_or_name, .. }) = owner else { return None };
    let by_id = id_or_name.starts_with("lt-");
    let describe = || aws.instances.describe_instances_by_tag(TEMPLATE_ID_TAG, id_or_name, CALL_LIMIT);
    if by_id { Some(tempo.first(identity, describe, Vec::len).await) } else { None }
}

async fn find_owner(
    aws: &Aws,
    identity: &Identity,
    clue: Clue,
    tempo: Tempo,
    gaps: &mut Vec<Gap>,
) -> Result<Owner, Failure> {
    let gone = |what: String| Owner::Nobody { why: format!("AWS knows no {what}, which its tags name") };
    Ok(match clue {
        Clue::AutoScalingGroup(name) => {
            let ask = || aws.autoscaling.group_without_hooks(&name, CALL_LIMIT);
            let members = |group: &Option<AutoScalingGroup>| group.as_ref().map_or(0, |group| group.members.len());
            match tempo.first(identity, ask, members).await? {
                Some(group) if group.members.iter().any(|member| member.instance_id == identity.instance_id) => {
                    // The hooks of a large group are asked for later, or at a notice.
                    let puts_off = tempo.puts_off(Some(group.members.len()));
                    let group = match puts_off {
                        true => group,
                        false => with_hooks(aws, identity, group, tempo, gaps).await,
                    };
                    Owner::AutoScalingGroup(group)
                }
                Some(_) => Owner::Nobody { why: format!("the instance is no member of group {name} any more") },
                None => gone(format!("Auto Scaling group {name}")),
            }
        }
        Clue::Ec2Fleet(id) => {
            match tempo.first(identity, || aws.ec2_fleet.describe_fleet(&id, CALL_LIMIT), launched_by).await? {
                Some(fleet) => unless_ended(fleet, Owner::Ec2Fleet),
                None => gone(format!("EC2 Fleet {id}")),
            }
        }
        Clue::SpotFleet(id) => {
            let ask = || aws.spot_fleet.describe_spot_fleet_request(&id, CALL_LIMIT);
            match tempo.first(identity, ask, launched_by).await? {
                Some(fleet) => unless_ended(fleet, Owner::SpotFleet),
                None => gone(format!("Spot Fleet {id}")),
            }
        }
        Clue::LaunchTemplate(template) => Owner::LaunchTemplate(template),
        Clue::Nobody(why) => Owner::Nobody { why },
    })
}

fn launched_by(fleet: &Option<Fleet>) -> usize {
    let fulfilled = fleet.as_ref().map(|fleet| fleet.capacity.fulfilled);
    fulfilled.and_then(|fulfilled| usize::try_from(fulfilled).ok()).unwrap_or_default()
}

/// A deleted, cancelled or failed fleet owns nothing, though its instances live; and from some nobody else can launch.
fn unless_ended(fleet: Fleet, owner: impl Fn(Fleet) -> Owner) -> Owner {
    match &fleet.state {
        FleetState::Ended(state) => {
            Owner::Nobody { why: format!("{} is {state} and launches nothing any more", fleet.id) }
        }
        FleetState::Active | FleetState::Modifying => match fleet.cannot_be_launched_from() {
            Some(why) => Owner::Nobody { why },
            None => owner(fleet),
        },
    }
}

/// The reason why nobody is to be asked: the Spot request of this instance launches again by itself (docs/aws.md 4).
async fn launched_again(
    aws: &Aws,
    identity: &Identity,
    template: &LaunchTemplate,
    tempo: Tempo,
) -> Result<Option<String>, Failure> {
    let ask = || aws.instances.persistent_request(&identity.instance_id, CALL_LIMIT);
    let request = tempo.patiently(identity, ask).await?;
    Ok(request.map(|request| {
        let again = match request.behavior.as_str() {
            "terminate" => "launches another instance by itself when this one ends",
            _ => "starts this instance again by itself",
        };
        format!(
            "Spot request {} is of type persistent and {again}, and a successor from {} beside it would be a second one \
             (cancel the request, or launch with a request of type one-time, to have a successor launched here)",
            request.id, template.id_or_name
        )
    }))
}

/// Beside a request that launches again a successor of ours is one too many, at every interruption. Where the request cannot
/// be read the template tells how it asks.
fn asks_persistently(template: &str) -> String {
    format!(
        "{template} asks for a Spot request of type persistent, which launches again by itself, and \
         ec2:DescribeSpotInstanceRequests is denied, so nobody knows whether this instance's is one: a successor from the \
         template could be a second one (allow it: spot-relay policy prints what)"
    )
}

/// A group whose hooks nobody may read is asked as one without: detached, which runs none.
async fn with_hooks(
    aws: &Aws,
    identity: &Identity,
    group: AutoScalingGroup,
    tempo: Tempo,
    gaps: &mut Vec<Gap>,
) -> AutoScalingGroup {
    let read = || async {
        let mut group = group.clone();
        aws.autoscaling.add_hooks(&mut group, CALL_LIMIT).await.map(|()| group)
    };
    match tempo.patiently(identity, read).await {
        Ok(group) => group,
        Err(failure) => {
            gaps.push(Gap::of_hooks(&group.name, failure));
            group
        }
    }
}

/// Subnets with their zones, where the group's members run, and what the templates say of the launch; nothing for owners
/// that choose by themselves.
async fn find_surroundings(
    aws: &Aws,
    identity: &Identity,
    config: &Config,
    owner: &Owner,
    fellows: Option<Result<Vec<Instance>, Failure>>,
    tempo: Tempo,
    gaps: &mut Vec<Gap>,
) -> Surroundings {
    let (template_id, subnets, traits) = match owner {
        Owner::LaunchTemplate(template) => {
            let among = fellows.as_ref().and_then(|fellows| fellows.as_deref().ok()).unwrap_or_default();
            match template_surroundings(aws, identity, config, template, among, tempo).await {
                Ok(surroundings) => surroundings,
                Err(failure) => {
                    gaps.push(Gap::new(format!("launch template {}", template.id_or_name), failure));
                    let id = Some(template.id_or_name.clone()).filter(|id| id.starts_with("lt-"));
                    (id, config.successor.subnets.clone(), TemplateTraits::default())
                }
            }
        }
        Owner::Ec2Fleet(fleet) | Owner::SpotFleet(fleet) if fleet.request_type != FleetType::Maintain => {
            let configurations = &fleet.launch_configurations;
            let template = configurations.first().map(|configuration| configuration.template.id_or_name.clone());
            let traits = fleet_traits(aws, configurations).await;
            (template.filter(|id| id.starts_with("lt-")), subnets_of(configurations), traits)
        }
        _ => return Surroundings::default(),
    };
    let around = zones_of(aws, identity, &subnets, tempo, gaps).await;
    let fellows = match (fellows, template_id) {
        (Some(fellows), _) => fellows,
        (None, Some(id)) => {
            let describe = || aws.instances.describe_instances_by_tag(TEMPLATE_ID_TAG, &id, CALL_LIMIT);
            tempo.patiently(identity, describe).await
        }
        (None, None) => Ok(Vec::new()),
    };
    let running_by_zone = running_by_zone(known_or(fellows, "where the template's instances run", gaps));
    let own_subnet = traits.own_subnet.map(|_| OwnSubnet { zone: around.zone_of_subnet.values().next().cloned() });
    Surroundings { running_by_zone, traits: TemplateTraits { own_subnet, ..traits }, ..around }
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
async fn zones_of(
    aws: &Aws,
    identity: &Identity,
    subnets: &[String],
    tempo: Tempo,
    gaps: &mut Vec<Gap>,
) -> Surroundings {
    let mut around = Surroundings::default();
    match subnets {
        [] => return around,
        [ours] if identity.subnet_id.as_ref() == Some(ours) && !identity.availability_zone.is_empty() => {
            around.zone_of_subnet.insert(ours.clone(), identity.availability_zone.clone());
            return around;
        }
        _ => {}
    }
    match tempo.patiently(identity, || aws.instances.describe_subnets(subnets, CALL_LIMIT)).await {
        Ok(described) => {
            let zones = described.into_iter().map(|subnet| (subnet.subnet_id, subnet.availability_zone));
            around.zone_of_subnet.extend(zones);
            let unknown = subnets.iter().filter(|subnet| !around.zone_of_subnet.contains_key(*subnet)).cloned();
            around.unknown_subnets = unknown.collect();
        }
        Err(failure) => {
            gaps.push(Gap::new("the zones of the subnets", failure));
            around.subnets_without_zone.extend(subnets.iter().cloned());
        }
    }
    around
}

/// A fleet has launched from its templates before: only on demand they may be in the way. What cannot be read says nothing.
async fn fleet_traits(aws: &Aws, configurations: &[LaunchConfiguration]) -> TemplateTraits {
    let mut traits = TemplateTraits::default();
    let mut templates: Vec<&LaunchTemplate> = configurations.iter().map(|it| &it.template).collect();
    templates.dedup();
    for template in templates {
        match aws.launch_templates.describe_launch_template(template, CALL_LIMIT).await {
            Ok(Some(facts)) => traits.tags_spot_requests |= facts.names.tags_spot_requests,
            Ok(None) => {}
            Err(failure) => warn!("launch template {} cannot be read: {failure}", template.id_or_name),
        }
    }
    traits
}

/// Nothing, where it could not be looked up.
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

/// The template's id, by which its instances are counted; the subnets: the template's own, else the configuration's, else
/// this instance's; and what it says of the launch. `fellows` are the template's instances, as far as they are known.
async fn template_surroundings(
    aws: &Aws,
    identity: &Identity,
    config: &Config,
    template: &LaunchTemplate,
    fellows: &[Instance],
    tempo: Tempo,
) -> Result<(Option<String>, Vec<String>, TemplateTraits), Failure> {
    let chosen = &config.successor.subnets;
    let id = Some(template.id_or_name.clone()).filter(|id| id.starts_with("lt-"));
    let describe = || aws.launch_templates.describe_launch_template(template, CALL_LIMIT);
    let facts = match tempo.patiently(identity, describe).await {
        // The launch goes by the configuration then.
        Err(failure) if failure.kind == FailureKind::Denied => {
            warn!("launch template {} cannot be read: {failure}", template.id_or_name);
            None
        }
        facts => facts?,
    };
    let id = id.or_else(|| facts.as_ref().map(|facts| facts.id.clone()));
    let mut traits = TemplateTraits::default();
    if let Some(facts) = facts {
        traits.market = facts.market;
        traits.tags_spot_requests = facts.names.tags_spot_requests;
        traits.is_persistent = facts.is_persistent;
        if let Some(subnet) = facts.subnet_id {
            traits.own_subnet = Some(OwnSubnet::default());
            return Ok((id, vec![subnet], traits));
        }
    }
    if !chosen.is_empty() {
        return Ok((id, chosen.clone(), traits));
    }
    // EC2 is the source of truth; the metadata tells the subnet where EC2 does not.
    let ours = fellows.iter().find(|fellow| fellow.instance_id == identity.instance_id);
    if let Some(subnet) = ours.and_then(|ours| ours.subnet_id.clone()) {
        return Ok((id, vec![subnet], traits));
    }
    let us = || aws.instances.describe_instances(std::slice::from_ref(&identity.instance_id), CALL_LIMIT);
    let us = match (tempo.patiently(identity, us).await, &identity.subnet_id) {
        (Err(_), Some(subnet)) => return Ok((id, vec![subnet.clone()], traits)),
        (us, _) => us?,
    };
    Ok((id, us.into_iter().filter_map(|instance| instance.subnet_id).collect(), traits))
}
