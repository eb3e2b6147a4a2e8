//! The duty to find out which instance the owner launched in our place. It only reads, seldom and with growing pauses.

use std::collections::BTreeSet;
use std::time::Duration;

use super::crowd::Bucket;
use super::{Answer, Call, Pace, Report, Terms, View};
use crate::core::model::{BootInstant, Instance, InstanceId};
use crate::core::plan::{FleetKind, LEAVING_TAG};
use crate::core::retry::Precedence;

/// The pauses between two looks.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(6)];
/// Where a launch is in doubt, something waits for the answer.
const FIRST_LOOK_IN_DOUBT_AFTER: Duration = Duration::from_secs(1);
/// An owner launches at once, and the launched instance takes longer to run; until then the bucket is left to those who
/// still ask for theirs.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(5);
/// So many looks, over seven seconds, until a launch that may have been done counts as not done.
const LOOKS_IN_DOUBT: usize = 4;
/// DescribeInstances takes more, but no group launches so many for one of us.
const AT_MOST: usize = 100;

pub(super) struct Find {
    among: Among,
    /// What is no successor, whatever else is found out.
    ignored: BTreeSet<InstanceId>,
    stage: Stage,
    pace: Pace,
    first_look_at: BootInstant,
    looks: usize,
    in_doubt: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Among {
    Group {
        name: String,
        known: BTreeSet<InstanceId>,
    },
    Fleet {
        kind: FleetKind,
        fleet_id: String,
    },
    /// Instances that carry the tag of their predecessor: us.
    Tagged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Members,
    Describe(Vec<InstanceId>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    NotYet,
    /// Not empty.
    Successors(Vec<Instance>),
    /// Looked often enough to be sure that a launch in doubt was not done.
    Nothing,
}

impl Find {
    pub(super) fn new(among: Among, now: BootInstant, seed: u64) -> Find {
        let ignored = match &among {
            Among::Group { known, .. } => known.clone(),
            Among::Fleet { .. } | Among::Tagged => BTreeSet::new(),
        };
        Find {
            among,
            ignored,
            stage: Stage::Members,
            pace: Pace::new(now + FIRST_LOOK_AFTER, seed).with(Precedence::Last),
            first_look_at: now + FIRST_LOOK_AFTER,
            looks: 0,
            in_doubt: false,
        }
    }

    pub(super) fn in_doubt(self) -> Find {
        let mut pace = self.pace;
        pace.next = pace.next - (FIRST_LOOK_AFTER - FIRST_LOOK_IN_DOUBT_AFTER);
        Find { in_doubt: true, pace, ..self }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub(super) fn ignore(&mut self, instances: impl Iterator<Item = InstanceId>) {
        self.ignored.extend(instances);
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>) -> Option<Call> {
        if self.stage == Stage::Members && !self.in_doubt {
            let bucket = match self.among {
                Among::Group { .. } => Bucket::AUTO_SCALING,
                Among::Fleet { .. } | Among::Tagged => Bucket::EC2_LOOKS,
            };
            view.crowd.spread_first(&mut self.pace, self.first_look_at, bucket);
            view.crowd.space_out(&mut self.pace, bucket);
        }
        if !self.pace.begin(view.now) {
            return None;
        }
        Some(match (&self.stage, &self.among) {
            (Stage::Describe(ids), _) => Call::DescribeInstances { instance_ids: ids.clone() },
            (Stage::Members, Among::Group { name, .. }) => Call::DescribeGroupMembers { group: name.clone() },
            (Stage::Members, Among::Fleet { kind, fleet_id }) => {
                Call::DescribeFleetMembers { kind: *kind, fleet_id: fleet_id.clone() }
            }
            (Stage::Members, Among::Tagged) => Call::DescribeSuccessorsByTag,
        })
    }

    pub(super) fn answered(&mut self, now: BootInstant, terms: &Terms, answer: Answer) -> Found {
        let members: Vec<InstanceId> = match answer {
            Answer::Instances(instances) => return self.described(now, terms, instances),
            Answer::GroupMembers(members) => {
                let staying = members.into_iter().filter(|member| !member.lifecycle_state.starts_with("Terminat"));
                staying.map(|member| member.instance_id).collect()
            }
            Answer::FleetMembers(members) => {
                members.into_iter().filter(|member| !member.under_notice).map(|member| member.instance_id).collect()
            }
            other => {
                self.pace.failed_by(now, other);
                return Found::NotYet;
            }
        };
        let ours = &terms.identity.instance_id;
        let new = members.into_iter().filter(|id| id != ours && !self.ignored.contains(id));
        let candidates: Vec<InstanceId> = new.take(AT_MOST).collect();
        if candidates.is_empty() {
            return self.look_again(now);
        }
        self.stage = Stage::Describe(candidates);
        self.pace.succeeded(now);
        Found::NotYet
    }

    /// Of the candidates those are successors that live and were launched since the signal.
    fn described(&mut self, now: BootInstant, terms: &Terms, instances: Vec<Instance>) -> Found {
        self.stage = Stage::Members;
        let since = terms.successors_since;
        let young = |instance: &Instance| match (instance.launch_time, since) {
            (Some(launched), Some(since)) => launched >= since,
            _ => true,
        };
        let (young, old): (Vec<Instance>, Vec<Instance>) = instances.into_iter().partition(young);
        if self.among != Among::Tagged {
            self.ignored.extend(old.into_iter().map(|instance| instance.instance_id));
        }
        let successors: Vec<Instance> = young
            .into_iter()
            .filter(|instance| instance.state.is_alive() && instance.instance_id != terms.identity.instance_id)
            .filter(|instance| !self.ignored.contains(&instance.instance_id))
            // Itself about to go: AutoSpotting#327.
            .filter(|instance| !instance.tags.contains_key(LEAVING_TAG))
            .collect();
        if successors.is_empty() {
            return self.look_again(now);
        }
        self.pace.succeeded(now);
        Found::Successors(successors)
    }

    fn look_again(&mut self, now: BootInstant) -> Found {
        self.looks += 1;
        if self.in_doubt && self.looks >= LOOKS_IN_DOUBT {
            return Found::Nothing;
        }
        let pause = PAUSES.get(self.looks - 1).or(PAUSES.last()).copied().unwrap_or_default();
        self.pace.succeeded(now + pause);
        Found::NotYet
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        self.pace.wake()
    }

    pub(super) fn report(&self) -> Report {
        let what = match &self.pace.last_failure {
            Some(_) => format!("which instance it is could not be found out: {}", self.pace.trouble()),
            None => "it has not shown yet".to_owned(),
        };
        Report::new("successor", false, what)
    }
}
