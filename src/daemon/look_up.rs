//! The look-ups of the owner, its settings, and what the choice of pools needs; each makes calls of several edges.
//!
//! They serve before a notice comes and, for what is still unknown, in the two minutes. Nothing here is kept.

mod surroundings;

use std::collections::BTreeMap;
use std::time::Duration;

use super::gap::{Gap, Planned, patiently};
use super::parties::Parties;
use crate::cloud::imds::{Imds, ImdsError};
use crate::core::config::{OwnerChoice, Successor};
use crate::core::error_chain::error_chain;
use crate::core::model::{
    AutoScalingGroup, Fleet, FleetKind, FleetState, FleetType, Instance, LaunchTemplate, LifeCycle, Owner,
};
use crate::core::plan::{self, Clue, Plan, Surroundings};
use crate::core::retry::{Failure, FailureKind};
use surroundings::{TEMPLATE_ID_TAG, find_surroundings};

/// The name of a look-up that decides whether anybody is to be asked.
const REQUEST_LAUNCHES_AGAIN: &str = "whether this instance's Spot request launches again";

/// The tries of a metadata path that is refused, and the pause after each.
const REFUSED_AT_MOST: u32 = 3;
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Finds the plan: the tags, the owner, its settings, and what the choice of pools needs.
pub(super) async fn find_plan(asked: &Parties) -> Planned {
    let tags = match find_tags_or_named(asked).await {
        Ok(tags) => tags,
        Err(failure) => return Planned::unknown(Gap::new("this instance's tags", failure)),
    };
    let clue = match find_clue(asked, &tags).await {
        Ok(clue) => clue,
        Err(failure) => return Planned::unknown(Gap::new("this instance's owner", failure)),
    };
    let what = clue.to_string();
    match plan_of(asked, &tags, clue).await {
        Ok((plan, gaps)) => Planned { plan: Some(plan), gaps },
        Err(failure) => Planned::unknown(Gap::new(what, failure)),
    }
}

/// Finds the Auto Scaling group that holds this instance, whoever launches a successor: its hooks hold this instance
/// up. Hooks that nobody may read count as none.
pub(super) async fn find_group(asked: &Parties) -> Result<Plan, Failure> {
    let tags = find_tags(asked).await?;
    let clue = Clue::group(&tags).unwrap_or_else(|| Clue::Nobody("the instance has no tag of a group".to_owned()));
    let mut gaps = Vec::new();
    let owner = find_owner(asked, clue, &mut gaps).await?;
    match gaps.into_iter().find(|gap| gap.kind() != FailureKind::Denied) {
        Some(gap) => Err(gap.failure),
        None => Ok(Plan::of(&owner, &asked.identity, &Successor::default(), &Surroundings::default())),
    }
}

/// Finds the instance's tags that matter here: in its metadata, or at EC2 if the metadata does not show them. A role
/// that may not call DescribeTags may still call DescribeInstances, which shows the same.
pub(crate) async fn find_tags(asked: &Parties) -> Result<BTreeMap<String, String>, Failure> {
    const OWNER_TAGS: [&str; 4] = ["aws:autoscaling:groupName", plan::FLEET_TAG, plan::SPOT_FLEET_TAG, TEMPLATE_ID_TAG];
    const OTHER_TAGS: [&str; 4] =
        ["aws:ec2launchtemplate:version", plan::PREDECESSOR_TAG, plan::ORIGIN_FLEET_TAG, plan::TEMPLATE_TAG];
    match asked.imds.instance_tags(&[OWNER_TAGS, OTHER_TAGS].concat()).await {
        Ok(Some(tags)) if OWNER_TAGS.iter().any(|key| tags.contains_key(*key)) => Ok(tags),
        // The tags of a young instance show late, and not everywhere at once.
        Ok(_) | Err(_) => {
            let (ec2, id) = (&asked.aws.ec2, &asked.identity.instance_id);
            match patiently(&asked.identity, || ec2.describe_tags(id.as_str())).await {
                Err(failure) if failure.is_refusal() => {
                    let described = ec2.describe_instances(std::slice::from_ref(id)).await.unwrap_or_default();
                    described.into_iter().find(|it| it.instance_id == *id).map(|it| it.tags).ok_or(failure)
                }
                answer => answer,
            }
        }
    }
}

/// Finds the tags, or none where they fail and the configuration names the owner: then they are not needed.
pub(crate) async fn find_tags_or_named(asked: &Parties) -> Result<BTreeMap<String, String>, Failure> {
    match find_tags(asked).await {
        Err(_) if asked.config.successor.names_the_owner() => Ok(BTreeMap::new()),
        answer => answer,
    }
}

/// Finds the owner as the tags tell it.
pub(crate) async fn find_clue(asked: &Parties, tags: &BTreeMap<String, String>) -> Result<Clue, Failure> {
    // Without its group's tag a member that was detached looks like an instance that never was in a group.
    let is_needed = asked.config.successor.owner == OwnerChoice::Discover && Clue::group(tags).is_none();
    let lifecycle_state = match is_needed {
        false => None,
        true => lifecycle_state(&asked.imds).await.map_err(|error| {
            let why = error_chain(&error);
            Failure::unanswered(format!("the metadata does not tell of an Auto Scaling group: {why}"))
        })?,
    };
    Ok(Clue::read(tags, lifecycle_state.as_deref().map(str::trim), &asked.config.successor))
}

/// The lifecycle state in the metadata. AWS's service is overloaded (HTTP 503) or silent for a while, but another one
/// may refuse a path that it does not know with any status. What is refused several times is taken for absent.
async fn lifecycle_state(imds: &Imds) -> Result<Option<String>, ImdsError> {
    for _ in 0..REFUSED_AT_MOST {
        match imds.target_lifecycle_state().await {
            Err(ImdsError::Status(_) | ImdsError::TurnedOff) => tokio::time::sleep(REFUSED_PAUSE).await,
            answer => return answer.map(|look| look.body),
        }
    }
    Ok(None)
}

/// Makes the plan as [`plan_of`] does, and fails where a gap may hide what the owner needs.
pub(crate) async fn certain_plan_of(
    asked: &Parties,
    tags: &BTreeMap<String, String>,
    clue: Clue,
) -> Result<Plan, Failure> {
    let (plan, gaps) = plan_of(asked, tags, clue).await?;
    let decides = |gap: &Gap| gap.is_of_hooks() || gap.what() == REQUEST_LAUNCHES_AGAIN;
    match gaps.into_iter().find(|gap| decides(gap) || gap.kind() != FailureKind::Denied) {
        Some(gap) => Err(gap.failure),
        None => Ok(plan),
    }
}

/// Makes the plan for the owner of the tags, with its settings and what the choice of pools needs, as far as the
/// look-ups succeed; and the gaps that the others leave.
pub(crate) async fn plan_of(
    asked: &Parties,
    tags: &BTreeMap<String, String>,
    clue: Clue,
) -> Result<(Plan, Vec<Gap>), Failure> {
    let mut gaps = Vec::new();
    let plan = make_plan(asked, tags, clue, &mut gaps).await?;
    Ok((plan, gaps))
}

async fn make_plan(
    asked: &Parties,
    tags: &BTreeMap<String, String>,
    clue: Clue,
    gaps: &mut Vec<Gap>,
) -> Result<Plan, Failure> {
    // AWS forgets an instant fleet some time after its last change; its instances live on with its tag.
    let by_fleet = matches!(clue, Clue::Fleet(..));
    let owner = find_owner(asked, clue, gaps).await?;
    let (owner, stands_in_for) = match (owner, plan::template(tags, &asked.config.successor)) {
        (Owner::Nobody { why }, Some(template)) if by_fleet => (find_owner(asked, template, gaps).await?, Some(why)),
        (owner, _) => (owner, None),
    };
    let fellows = find_fellows(asked, &owner).await;
    let mut unknown_request = None;
    if let (Owner::LaunchTemplate(template), LifeCycle::Spot) = (&owner, asked.identity.life_cycle) {
        match launched_again(asked, template).await {
            Ok(None) => {}
            Ok(Some(why)) => return Ok(Plan::nobody_ever(why)),
            Err(failure) => {
                let is_denied = failure.kind == FailureKind::Denied;
                gaps.push(Gap::new(REQUEST_LAUNCHES_AGAIN, failure));
                unknown_request = Some(template.id_or_name.clone()).filter(|_| is_denied);
            }
        }
    }
    // Without the surroundings the choice of pools is worse, but any successor is better than none.
    let surroundings = find_surroundings(asked, &owner, fellows, gaps).await;
    let replaced_too = match Clue::second_owner(tags, &asked.config.successor) {
        Some(other) => replaces_too(asked, other).await,
        None => None,
    };
    let surroundings = Surroundings { stands_in_for, replaced_too, ..surroundings };
    Ok(match unknown_request {
        Some(template) if surroundings.traits.is_persistent => Plan::nobody_ever(asks_persistently(&template)),
        _ => Plan::of(&owner, &asked.identity, &asked.config.successor, &surroundings),
    })
}

/// Finds the instances of the template that is the owner. `None` for another owner, and for a template that is known
/// only by its name.
async fn find_fellows(asked: &Parties, owner: &Owner) -> Option<Result<Vec<Instance>, Failure>> {
    let Owner::LaunchTemplate(LaunchTemplate { id_or_name, .. }) = owner else { return None };
    let by_id = id_or_name.starts_with("lt-");
    let describe = || asked.aws.ec2.describe_instances_by_tag(TEMPLATE_ID_TAG, id_or_name);
    if by_id { Some(asked.first(describe, Vec::len).await) } else { None }
}

async fn find_owner(asked: &Parties, clue: Clue, gaps: &mut Vec<Gap>) -> Result<Owner, Failure> {
    let gone = |what: String| Owner::Nobody { why: format!("AWS knows no {what}, which its tags name") };
    Ok(match clue {
        Clue::AutoScalingGroup(name) => {
            let ask = || asked.aws.autoscaling.group_without_hooks(&name);
            let members = |group: &Option<AutoScalingGroup>| group.as_ref().map_or(0, |group| group.members.len());
            match asked.first(ask, members).await? {
                Some(group) if group.members.iter().any(|member| member.instance_id == asked.identity.instance_id) => {
                    // The hooks of a large group are asked for later, or at a notice.
                    let puts_off = asked.tempo.puts_off(Some(group.members.len()));
                    let group = match puts_off {
                        true => group,
                        false => with_hooks(asked, group, gaps).await,
                    };
                    Owner::AutoScalingGroup(group)
                }
                Some(_) => Owner::Nobody { why: format!("the instance is no member of group {name} any more") },
                None => gone(format!("Auto Scaling group {name}")),
            }
        }
        Clue::Fleet(kind, id) => match asked.first(|| asked.aws.ec2.fleet(kind, &id), launched_by).await? {
            Some(fleet) => unless_ended(kind, fleet),
            None => gone(format!("{kind} {id}")),
        },
        Clue::LaunchTemplate(template) => Owner::LaunchTemplate(template),
        Clue::Nobody(why) => Owner::Nobody { why },
    })
}

/// Tells in a sentence that the owner of the tags launches too, beside the configured template. `None` if a fleet
/// cannot be read.
async fn replaces_too(asked: &Parties, other: Clue) -> Option<String> {
    let name = other.to_string();
    let maintains = match other {
        Clue::AutoScalingGroup(_) => true,
        other => match find_owner(asked, other, &mut Vec::new()).await {
            Ok(Owner::Fleet(_, fleet)) => fleet.request_type == FleetType::Maintain,
            _ => false,
        },
    };
    maintains.then(|| {
        format!(
            "[successor] owner is \"launch-template\", and {name}, which the tags name, replaces this instance too once it is \
             gone: two are launched in its place (leave owner at \"discover\" to have one)"
        )
    })
}

fn launched_by(fleet: &Option<Fleet>) -> usize {
    fleet.as_ref().map_or(0, Fleet::instances_at_most)
}

/// Makes an owner of a fleet. A deleted, cancelled or failed one owns nothing, and from some nobody can launch.
fn unless_ended(kind: FleetKind, fleet: Fleet) -> Owner {
    match &fleet.state {
        FleetState::Ended(state) => {
            Owner::Nobody { why: format!("{} is {state} and launches nothing any more", fleet.id) }
        }
        FleetState::Active | FleetState::Modifying => match fleet.cannot_be_launched_from() {
            Some(why) => Owner::Nobody { why },
            None => Owner::Fleet(kind, fleet),
        },
    }
}

/// The reason why nobody is to be asked: the Spot request of this instance launches again by itself (docs/aws.md 4).
async fn launched_again(asked: &Parties, template: &LaunchTemplate) -> Result<Option<String>, Failure> {
    let ask = || asked.aws.ec2.persistent_request(&asked.identity.instance_id);
    let request = asked.patiently(ask).await?;
    Ok(request.map(|request| {
        let again = match request.behavior.as_str() {
            "terminate" => "launches another instance by itself when this one ends",
            _ => "starts this instance again by itself",
        };
        format!(
            "Spot request {} is of type persistent and {again}, and a successor from {} beside it would be a second one \
             (cancel the request and restart spot-relay, or launch with one of type one-time, to have a successor launched here)",
            request.id, template.id_or_name
        )
    }))
}

/// The reason to launch nothing, if the Spot request cannot be read but its template asks for a persistent one. Beside
/// such a request a successor of ours is one too many at every interruption.
fn asks_persistently(template: &str) -> String {
    format!(
        "{template} asks for a Spot request of type persistent, which launches again by itself, and \
         ec2:DescribeSpotInstanceRequests is denied, so nobody knows whether this instance's is one: a successor from the \
         template could be a second one (allow it: spot-relay policy prints what)"
    )
}

/// Adds the group's hooks. A group whose hooks nobody may read is asked as one without: to detach, which runs none.
async fn with_hooks(asked: &Parties, group: AutoScalingGroup, gaps: &mut Vec<Gap>) -> AutoScalingGroup {
    let read = || async {
        let mut group = group.clone();
        asked.aws.autoscaling.add_hooks(&mut group).await.map(|()| group)
    };
    match asked.patiently(read).await {
        Ok(group) => group,
        Err(failure) => {
            gaps.push(Gap::of_hooks(&group.name, failure));
            group
        }
    }
}
