//! The instances among which a successor shows.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::core::incident::Incident;
use crate::core::model::{Fleet, GroupMember, Instance, InstanceId};
use crate::core::plan::{FleetKind, FleetRequest, GroupRequest, LEAVING_TAG, Plan};

/// The most ids in one DescribeInstances call: a choice of ours, for which AWS documents no limit.
pub(super) const INSTANCES_A_CALL: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Among {
    Group {
        name: String,
        known: BTreeSet<InstanceId>,
        /// The group launches by itself: its victims stay in service until they are replaced.
        rebalances: bool,
        /// Its desired capacity from before the notice, which LaunchInstances raises.
        desired_before: Option<i32>,
        /// The units that it lacked before the notice already: AWS may have no capacity for them.
        lacked: i32,
    },
    Fleet {
        kind: FleetKind,
        fleet: Box<Fleet>,
        how: FleetRequest,
    },
    /// Instances that carry a tag which names us as their predecessor.
    Tagged,
}

impl Among {
    /// Returns where the owner's successors show. Members known from before the notice are no successors. A later plan
    /// may list the successor itself, so then only the launch time tells.
    pub(super) fn of(plan: &Plan, incident: &Incident) -> Option<Among> {
        match plan {
            Plan::Group { group, how } => {
                let members =
                    group.members.iter().filter(|_| incident.planned_before).map(|member| member.instance_id.clone());
                // A member on its way out is replaced. This instance counts whatever state the metadata shows.
                let has_place = |it: &&GroupMember| it.is_counted() || it.instance_id == incident.id.instance_id;
                let held: i32 = group.members.iter().filter(has_place).map(GroupMember::units).sum();
                Some(Among::Group {
                    name: group.name.clone(),
                    known: members.collect(),
                    rebalances: *how == GroupRequest::Observe,
                    desired_before: incident.planned_before.then_some(group.desired_capacity),
                    lacked: if incident.planned_before { (group.desired_capacity - held).max(0) } else { 0 },
                })
            }
            Plan::Fleet { kind, fleet, how } => {
                Some(Among::Fleet { kind: *kind, fleet: Box::new(fleet.clone()), how: *how })
            }
            Plan::Launch(_) => Some(Among::Tagged),
            Plan::Nobody { .. } => None,
        }
    }

    /// Tells whether the launch time cannot be true: it is before this boot, and yet the group did not list the member
    /// beside this instance when it was looked up in this boot.
    pub(super) fn misdates(&self, instance: &Instance, incident: &Incident) -> bool {
        let Among::Group { known, .. } = self else { return false };
        let was_listed = !known.contains(&incident.id.instance_id) || known.contains(&instance.instance_id);
        !was_listed && instance.launch_time.is_some_and(|launched| launched < incident.booted())
    }
}

/// Tells whether the instance lives, is not leaving, and was launched since.
pub(super) fn is_successor(instance: &Instance, since: Option<Timestamp>) -> bool {
    instance.state.is_alive() && is_young(instance, since) && !instance.tags.contains_key(LEAVING_TAG)
}

/// Tells whether the instance was launched since, or its launch time is unknown.
pub(super) fn is_young(instance: &Instance, since: Option<Timestamp>) -> bool {
    instance.launch_time.zip(since).is_none_or(|(launched, since)| launched >= since)
}
