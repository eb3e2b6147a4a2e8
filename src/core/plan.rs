//! The plan: from tags to an owner, from the owner to a plan, from a template to attempts. Pure.
//!
//! Invariants: an owner that replaces by itself is never asked, because then two successors would come. The parameters
//! of an attempt are frozen here, before its first call, because its client token allows no others.

mod group;
mod launch_plan;
mod pools;
mod raised;
mod second_owner;
mod served;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::config::{OwnerChoice, Successor};
use crate::core::model::{
    AutoScalingGroup, Fleet, FleetType, Identity, InstanceId, LaunchConfiguration, LaunchTemplate, LifeCycle,
    LifecycleHook, Owner, Signal, TargetGroupArn,
};

pub use crate::core::model::FleetKind;
pub use group::{GroupRequest, asks_launch_instances, may_launch_first};
pub use launch_plan::{
    BASE_CAPACITY_TAG, FLEET_TAG, LEAVING_TAG, LaunchPlan, MissingTemplate, ORIGIN_FLEET_TAG, OwnSubnet,
    PREDECESSOR_TAG, SPOT_FLEET_TAG, Surroundings, TEMPLATE_TAG, TemplateMarket, TemplateTraits,
};
pub use pools::crowded_zones;
use pools::overrides;
pub use raised::{
    Leftover, PutRight, RaisedCapacity, is_under_notice, leftover, leftover_of_survivor, units_under_notice,
};
pub(crate) use raised::{
    goes_at, member_hundredths, no_room_for_its_tag, noticed_at, on_demand_under_notice, spot_of_base, units,
    weight_hundredths,
};
pub use served::served_zones;

/// The owner as the tags tell it; AWS has to be asked for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clue {
    AutoScalingGroup(String),
    Fleet(FleetKind, String),
    LaunchTemplate(LaunchTemplate),
    Nobody(String),
}

/// The owner's name for a person.
impl fmt::Display for Clue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clue::AutoScalingGroup(name) => write!(f, "Auto Scaling group {name}"),
            Clue::Fleet(kind, id) => write!(f, "{kind} {id}"),
            Clue::LaunchTemplate(template) => write!(f, "launch template {}", template.id_or_name),
            Clue::Nobody(_) => f.write_str("no owner"),
        }
    }
}

impl Clue {
    /// Reads the instance's tags (docs/aws.md 4). `lifecycle_state` is the body of
    /// `autoscaling/target-lifecycle-state`. An instance that has any such state, but no tag of a group, was detached
    /// from its group, which has launched the successor already.
    pub fn read(tags: &BTreeMap<String, String>, lifecycle_state: Option<&str>, choice: &Successor) -> Clue {
        let tag = |key: &str| tags.get(key).filter(|value| !value.is_empty()).cloned();
        let group = Clue::group(tags);
        let spot_fleet = tag(SPOT_FLEET_TAG).map(|id| Clue::Fleet(FleetKind::Spot, id));
        let ec2_fleet = match tag(ORIGIN_FLEET_TAG) {
            None if tags.contains_key(PREDECESSOR_TAG) => None,
            origin => origin.or_else(|| tag(FLEET_TAG)).map(|id| Clue::Fleet(FleetKind::of_id(&id), id)),
        };
        let missing =
            |what: &str| Clue::Nobody(format!("[successor] owner asks for {what}, but the instance has no tag of one"));
        match choice.owner {
            OwnerChoice::None => Clue::Nobody("[successor] owner is \"none\"".to_owned()),
            OwnerChoice::AutoScalingGroup => group.unwrap_or_else(|| missing("an Auto Scaling group")),
            OwnerChoice::Ec2Fleet => ec2_fleet.unwrap_or_else(|| missing("an EC2 Fleet")),
            OwnerChoice::SpotFleet => spot_fleet.unwrap_or_else(|| missing("a Spot Fleet")),
            OwnerChoice::LaunchTemplate => template(tags, choice).unwrap_or_else(|| {
                Clue::Nobody("no launch template is configured and the instance has no tag of one".to_owned())
            }),
            OwnerChoice::Discover => match group {
                Some(group) => group,
                None if lifecycle_state.is_some_and(is_lifecycle_state) => {
                    Clue::Nobody(
                        "the instance is detached from its Auto Scaling group, which launched in its place if it was to keep \
                         its size"
                            .to_owned(),
                    )
                }
                None => spot_fleet.or(ec2_fleet).or_else(|| template(tags, choice)).unwrap_or_else(|| {
                    Clue::Nobody("the instance has no tag of a group, a fleet or a launch template".to_owned())
                }),
            },
        }
    }

    /// The Auto Scaling group that the tags name, whoever launches a successor.
    pub fn group(tags: &BTreeMap<String, String>) -> Option<Clue> {
        let name = tags.get("aws:autoscaling:groupName").filter(|name| !name.is_empty());
        name.cloned().map(Clue::AutoScalingGroup)
    }
}

/// Tells whether the word is a state of a group's member; anything else is no answer.
fn is_lifecycle_state(word: &str) -> bool {
    const STATES: [&str; 8] =
        ["InService", "Terminat", "Detach", "Standby", "EnteringStandby", "Pending", "Warmed:", "ReplaceRootVolume"];
    word.chars().all(|char| char.is_ascii_alphanumeric() || char == ':') && STATES.iter().any(|it| word.starts_with(it))
}

/// The launch template of the configuration, else of the instance's tags.
pub fn template(tags: &BTreeMap<String, String>, choice: &Successor) -> Option<Clue> {
    let tagged = |key: &str| tags.get(key).cloned();
    let version_of_tag =
        || tagged("aws:ec2launchtemplate:version").unwrap_or_else(|| LaunchTemplate::DEFAULT_VERSION.to_owned());
    let template = match &choice.launch_template {
        Some(chosen) => LaunchTemplate {
            id_or_name: chosen.id_or_name.clone(),
            version: chosen.version.clone().unwrap_or_else(|| LaunchTemplate::DEFAULT_VERSION.to_owned()),
        },
        None => match tagged("aws:ec2launchtemplate:id") {
            Some(id_or_name) => LaunchTemplate { id_or_name, version: version_of_tag() },
            None => {
                let origin = tagged(TEMPLATE_TAG)?;
                let (id, version) = origin.split_once(':')?;
                LaunchTemplate { id_or_name: id.to_owned(), version: version.to_owned() }
            }
        },
    };
    Some(Clue::LaunchTemplate(template))
}

/// The plan: who is asked for the successor, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Plan {
    Group {
        group: AutoScalingGroup,
        how: GroupRequest,
    },
    Fleet {
        kind: FleetKind,
        fleet: Fleet,
        how: FleetRequest,
    },
    Launch(LaunchPlan),
    Nobody {
        why: String,
        /// Nothing that AWS shows later changes it.
        #[serde(default)]
        is_final: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FleetRequest {
    /// The fleet has a replacement strategy: it launches by itself.
    Observe,
    /// The fleet is of type `maintain`: its target capacity is raised.
    Raise,
}

impl Plan {
    /// Tells whether AWS may show an owner later: a young instance's tags and what they name show late (docs/aws.md 4).
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Plan::Nobody { is_final: false, .. })
    }

    /// Makes a plan that asks nobody, because AWS shows no owner yet.
    pub fn nobody(why: impl Into<String>) -> Plan {
        Plan::Nobody { why: why.into(), is_final: false }
    }

    /// Makes a plan that asks nobody, whatever AWS shows later.
    pub fn nobody_ever(why: impl Into<String>) -> Plan {
        Plan::Nobody { why: why.into(), is_final: true }
    }

    /// Plans for each owner what is done at a notice (docs/aws.md 4); [`Plan::at`] tells of the other signals. A
    /// `request` or `instant` fleet and a bare launch template become a [`LaunchPlan`].
    pub fn of(owner: &Owner, identity: &Identity, choice: &Successor, surroundings: &Surroundings) -> Plan {
        match owner {
            Owner::AutoScalingGroup(group) => {
                Plan::Group { group: group.clone(), how: GroupRequest::of(group, identity, Signal::Notice) }
            }
            Owner::Fleet(kind, fleet) => Plan::of_fleet(*kind, fleet, identity, choice, surroundings),
            Owner::LaunchTemplate(template) => {
                let configuration = LaunchConfiguration {
                    template: template.clone(),
                    overrides: overrides(identity, choice, surroundings),
                };
                let from = format!("launch template {}", template.id_or_name);
                Plan::Launch(LaunchPlan::new(from, &[configuration], BTreeMap::new(), identity, choice, surroundings))
            }
            Owner::Nobody { why } if choice.owner == OwnerChoice::None => Plan::nobody_ever(why.clone()),
            Owner::Nobody { why } => Plan::nobody(why.clone()),
        }
    }

    fn of_fleet(
        kind: FleetKind,
        fleet: &Fleet,
        identity: &Identity,
        choice: &Successor,
        surroundings: &Surroundings,
    ) -> Plan {
        if fleet.request_type == FleetType::Maintain {
            let how = FleetRequest::of(fleet, identity.life_cycle, Signal::Notice);
            return Plan::Fleet { kind, fleet: fleet.clone(), how };
        }
        if let Some(why) = fleet.cannot_be_launched_from() {
            return Plan::nobody_ever(why);
        }
        let tags = BTreeMap::from([(ORIGIN_FLEET_TAG.to_owned(), fleet.id.clone())]);
        let from = format!("the launch templates of {}", fleet.id);
        Plan::Launch(LaunchPlan::new(from, &fleet.launch_configurations, tags, identity, choice, surroundings))
    }

    /// The plan of the same owner at this signal.
    #[must_use]
    pub fn at(self, identity: &Identity, signal: Signal) -> Plan {
        match self {
            Plan::Group { group, .. } => {
                let how = GroupRequest::of(&group, identity, signal);
                Plan::Group { group, how }
            }
            Plan::Fleet { kind, fleet, .. } => {
                let how = FleetRequest::of(&fleet, identity.life_cycle, signal);
                Plan::Fleet { kind, fleet, how }
            }
            Plan::Launch(_) | Plan::Nobody { .. } => self,
        }
    }

    /// The plan of the same owner in a drill. Nobody takes this instance, so nobody terminates it, and an owner that
    /// launches by itself sees no signal.
    #[must_use]
    pub fn for_drill(self) -> Plan {
        match self {
            Plan::Group { group, how: GroupRequest::Terminate } => Plan::Group { group, how: GroupRequest::Detach },
            Plan::Group { how: GroupRequest::Observe, .. } | Plan::Fleet { how: FleetRequest::Observe, .. } => {
                Plan::nobody_ever(format!("{} launches by itself, at a real signal only", self.owner()))
            }
            plan => plan,
        }
    }

    /// The plan of a group whose Capacity Rebalancing was switched on or off since it was looked up.
    #[must_use]
    pub fn with_rebalancing(mut self, rebalances: bool, identity: &Identity, signal: Signal) -> Plan {
        if let Plan::Group { group, .. } = &mut self {
            group.capacity_rebalance = rebalances;
        }
        self.at(identity, signal)
    }

    /// The plan with this instance in the lifecycle state that the metadata shows, which is newer than the last
    /// look-up's. See [`GroupMember::moves_to`].
    #[must_use]
    pub fn with_member_state(mut self, instance_id: &InstanceId, target_state: &str) -> Plan {
        if let Plan::Group { group, .. } = &mut self {
            let ours = group.members.iter_mut().find(|member| member.instance_id == *instance_id);
            ours.into_iter().for_each(|member| member.moves_to(target_state));
        }
        self
    }

    /// The plan with the hooks that an earlier one knows of the same group, where AWS did not tell them this time.
    #[must_use]
    pub fn with_hooks_of(mut self, earlier: &Plan) -> Plan {
        if let (Plan::Group { group, how }, Plan::Group { group: before, .. }) = (&mut self, earlier)
            && group.name == before.name
        {
            group.termination_hooks.clone_from(&before.termination_hooks);
            group.launch_hooks.clone_from(&before.launch_hooks);
            if *how == GroupRequest::Detach && !group.termination_hooks.is_empty() {
                *how = GroupRequest::Terminate;
            }
        }
        self
    }

    /// The termination hooks of an Auto Scaling group.
    pub fn termination_hooks(&self) -> &[LifecycleHook] {
        match self {
            Plan::Group { group, .. } => &group.termination_hooks,
            _ => &[],
        }
    }

    /// The number of instances with the same owner, this one included, as far as the plan tells.
    pub fn fellows(&self) -> Option<usize> {
        match self {
            Plan::Group { group, .. } => Some(group.members.len()),
            Plan::Fleet { fleet, .. } => Some(fleet.instances_at_most()),
            Plan::Launch(launch) => launch.running,
            Plan::Nobody { .. } => None,
        }
    }

    /// False for a group's member that is not in service, as far as is known.
    pub fn is_in_service(&self, identity: &Identity) -> bool {
        let Plan::Group { group, .. } = self else { return true };
        group.members.iter().any(|it| it.instance_id == identity.instance_id && it.lifecycle_state == "InService")
    }

    /// The target groups in which the owner registers what it launches.
    pub fn owners_target_groups(&self) -> &[TargetGroupArn] {
        match self {
            Plan::Group { group, .. } => &group.target_groups,
            Plan::Fleet { fleet, .. } => &fleet.target_groups,
            Plan::Launch(_) | Plan::Nobody { .. } => &[],
        }
    }

    /// The traffic sources, other than target groups, in which the owner registers what it launches.
    pub fn other_traffic_sources(&self) -> &[String] {
        match self {
            Plan::Group { group, .. } => &group.other_traffic_sources,
            Plan::Fleet { .. } | Plan::Launch(_) | Plan::Nobody { .. } => &[],
        }
    }

    /// Remarks for a person about the launch: sentences without their full stops.
    pub fn remarks(&self) -> Vec<String> {
        match self {
            Plan::Launch(launch) => {
                launch.missing.iter().map(ToString::to_string).chain(launch.remarks.iter().cloned()).collect()
            }
            Plan::Fleet { fleet, how: FleetRequest::Raise, .. } => {
                raised::remark_on_its_tags(fleet).into_iter().collect()
            }
            Plan::Group { .. } | Plan::Fleet { .. } | Plan::Nobody { .. } => Vec::new(),
        }
    }

    /// Tells whether somebody launches a successor, asked or not.
    pub fn has_successor(&self) -> bool {
        !matches!(self, Plan::Nobody { .. } | Plan::Group { how: GroupRequest::Uncounted, .. })
    }

    /// The owner as the log and the milestones name it.
    pub fn owner(&self) -> &str {
        match self {
            Plan::Group { group, .. } => &group.name,
            Plan::Fleet { fleet, .. } => &fleet.id,
            Plan::Launch(launch) => &launch.from,
            Plan::Nobody { .. } => "nobody",
        }
    }

    /// A part of a sentence: how a successor comes before this instance leaves.
    pub fn successor_first(&self) -> String {
        match self {
            Plan::Group { group, how: GroupRequest::Terminate | GroupRequest::Detach } => {
                format!("have group {} launch one more", group.name)
            }
            other => other.to_string(),
        }
    }

    /// The owner's id or name alone, as in `lt-0abc`; `None` if there is no owner.
    pub fn owner_id(&self) -> Option<&str> {
        match self {
            Plan::Launch(launch) => launch.from.rsplit(' ').next(),
            Plan::Nobody { .. } => None,
            _ => Some(self.owner()),
        }
    }

    /// The owner's kind, as the configuration spells it.
    pub fn owner_kind(&self) -> &'static str {
        let kind = match self {
            Plan::Group { .. } => return "auto-scaling-group",
            Plan::Fleet { kind, .. } => *kind,
            Plan::Launch(launch) => match launch.origin_fleet() {
                Some(fleet) => FleetKind::of_id(fleet),
                None => return "launch-template",
            },
            Plan::Nobody { .. } => return "none",
        };
        match kind {
            FleetKind::Ec2 => "ec2-fleet",
            FleetKind::Spot => "spot-fleet",
        }
    }
}

/// A part of a sentence: what happens on a notice besides leaving the target groups.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Group { group, how: GroupRequest::Observe } => {
                write!(f, "leave the successor to group {}, whose Capacity Rebalancing launches it", group.name)
            }
            Plan::Group { group, how: GroupRequest::Terminate } => write!(
                f,
                "terminate in group {} (which launches the successor) and complete its termination hook once quiet",
                group.name
            ),
            Plan::Group { group, how: GroupRequest::Detach } => {
                write!(f, "detach from group {}, which launches the successor", group.name)
            }
            Plan::Group { group, how: GroupRequest::Uncounted } => {
                write!(
                    f,
                    "launch no successor: group {} does not count this instance (Standby, or warm pool)",
                    group.name
                )
            }
            Plan::Fleet { fleet, how: FleetRequest::Observe, .. } => {
                write!(f, "leave the successor to {}, whose replacement strategy launches it", fleet.id)
            }
            Plan::Fleet { fleet, how: FleetRequest::Raise, .. } => {
                write!(f, "raise the target capacity of {} until the successor is there, then put it back", fleet.id)
            }
            Plan::Launch(launch) if launch.only_reclaimed => write!(
                f,
                "launch the successor from {}, in this instance's own zone and type, the worst place for it: \
                 name more subnets or instance-types under [successor]",
                launch.from
            ),
            Plan::Launch(LaunchPlan { from, stands_in_for: Some(why), .. }) => {
                write!(f, "launch the successor from {from}, because {why}")
            }
            Plan::Launch(launch) => write!(f, "launch the successor from {}", launch.from),
            Plan::Nobody { why, .. } => write!(f, "launch no successor: {why}"),
        }
    }
}

impl FleetRequest {
    fn of(fleet: &Fleet, life_cycle: LifeCycle, signal: Signal) -> FleetRequest {
        if fleet.replacement_strategy.is_some() && group::is_replaced_by_owner(life_cycle, signal) {
            FleetRequest::Observe
        } else {
            FleetRequest::Raise
        }
    }
}

#[cfg(test)]
mod tests;
