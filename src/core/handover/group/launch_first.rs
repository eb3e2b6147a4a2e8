//! The launch of a successor before this instance leaves: one zone after the other, and the progress of each token.

use std::time::Duration;

use crate::core::incident::{Incident, LaunchStep, LaunchWay};
use crate::core::model::{AutoScalingGroup, BootInstant, GroupState, InstanceId, LifeCycle};
use crate::core::retry::{Failure, FailureKind, growing, takes_turns};

/// This many faults in a row without AWS's error code are a refusal: an endpoint without LaunchInstances answers so.
const FAULTS_THAT_REFUSE: u32 = 3;
/// A launch that AWS leaves open for this long is given up if the group has not grown, and so is one that the group is
/// too busy for. Asked in another way, the group may still launch in time.
const OPEN_AT_MOST: Duration = Duration::from_secs(20);
/// Seconds between a refusal that is no reason to leave and the next launch.
const AGAIN_AFTER: [u64; 3] = [20, 40, 60];

pub(super) struct LaunchFirst {
    /// The zones to launch in, best first; one launch names one zone.
    zones: Vec<String>,
    pub(super) attempt: u32,
    pub(super) doubt: Doubt,
    /// AWS has answered since then that another change of the group is under way, or that it is throttled within.
    busy_since: Option<BootInstant>,
    /// The reason why the launch was refused. This instance then leaves as at-once, or not at all.
    pub(super) refused: Option<String>,
    /// AWS has refused every launch so far with an answer. The record tells the next process.
    all_refused: bool,
    /// The number of times that launching began again, after a refusal that was no reason to leave.
    begun_again: usize,
}

/// A launch that may have been done without a word from AWS. While there is one, nothing else is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    None,
    /// A call whose token is not asked for again: perhaps the previous process made it.
    Past,
    /// A call of this process that had no answer at this instant. The same token is asked for again.
    Unanswered(BootInstant),
    /// AWS says that the launch is under way: its token alone is asked for, to the end.
    InProgress,
}

/// The step that follows from a failed launch.
pub(super) enum Failed {
    Again,
    Refused,
    /// AWS has left the launch open for long: the group shows whether it was done.
    Compare,
}

impl LaunchFirst {
    pub(super) fn new(group: &AutoScalingGroup, incident: &Incident) -> LaunchFirst {
        LaunchFirst {
            zones: group.zones_for_a_successor(&incident.start.identity.availability_zone),
            attempt: 0,
            doubt: if incident.start.is_resumed() { Doubt::Past } else { Doubt::None },
            busy_since: None,
            refused: None,
            all_refused: false,
            begun_again: 0,
        }
    }

    pub(super) fn step(&self) -> LaunchStep {
        let refused = self.all_refused && !self.is_in_doubt();
        LaunchStep { attempt: self.attempt, way: LaunchWay::default(), refused }
    }

    /// Goes on from the launch step of the previous process.
    pub(super) fn resume(&mut self, step: LaunchStep) {
        (self.attempt, self.all_refused) = (step.attempt, step.refused);
        if step.refused {
            self.doubt = Doubt::None;
        }
    }

    pub(super) fn was_refused(&mut self) {
        self.all_refused = true;
    }

    /// Notes that a token is asked for. An earlier refusal says nothing about this call.
    pub(super) fn note_asked(&mut self) {
        self.all_refused = false;
    }

    pub(super) fn was_done(&mut self) {
        (self.refused, self.all_refused) = (None, false);
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt != Doubt::None
    }

    /// Tells whether the same token has to be asked for again, in any case.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.doubt, Doubt::Unanswered(_) | Doubt::InProgress)
    }

    pub(super) fn zone(&self) -> Option<String> {
        self.zones.get(self.attempt as usize % self.zones.len().max(1)).cloned()
    }

    /// Tells whether launching did not begin again yet.
    pub(super) fn is_first(&self) -> bool {
        self.begun_again == 0
    }

    /// The pause between a refusal in every zone and the next launch.
    pub(super) fn pause(&self) -> Duration {
        growing(&AGAIN_AFTER, self.begun_again)
    }

    /// Returns a remark about a refusal that is no reason to leave, once.
    pub(super) fn remark_on_staying(&self, group: &str) -> Option<String> {
        let why = self.refused.as_deref().filter(|_| self.is_first())?;
        Some(format!(
            "this instance stays in service until it is time to leave: group {group} could not launch a successor first: \
             {why}"
        ))
    }

    /// Begins again in every zone, under new tokens.
    pub(super) fn begin_again(&mut self) {
        self.begun_again += 1;
        let zones = self.zones.len().max(1) as u32;
        self.attempt = (self.attempt / zones + 1) * zones;
        (self.refused, self.all_refused, self.busy_since) = (None, false, None);
    }

    /// Asks for the same zone under another token: a throttled launch tells nothing about its capacity.
    pub(super) fn same_zone_again(&mut self) {
        self.attempt += self.zones.len().max(1) as u32;
    }

    /// Goes on to the next zone. Returns whether there is one.
    pub(super) fn next_zone(&mut self) -> bool {
        let has_next = !(self.attempt as usize + 1).is_multiple_of(self.zones.len().max(1));
        self.attempt += u32::from(has_next);
        self.all_refused &= !has_next;
        has_next
    }

    /// Notes whether an answer shows the group busy. Tells whether every answer has for so long that another way of
    /// asking is better.
    pub(super) fn is_busy_for_long(&mut self, now: BootInstant, is_busy: bool) -> bool {
        self.busy_since = self.busy_since.or(Some(now)).filter(|_| is_busy);
        self.busy_since.is_some_and(|since| now.since(since) >= OPEN_AT_MOST)
    }

    /// Takes a failure after so many others in a row.
    pub(super) fn failed(&mut self, now: BootInstant, failure: &Failure, failures: u32, incident: &Incident) -> Failed {
        self.doubt = match self.doubt {
            Doubt::None | Doubt::Past if failure.may_have_been_done() => Doubt::Unanswered(now),
            // The previous process had the same role, so it was denied too.
            Doubt::Past if failure.kind == FailureKind::Denied => Doubt::None,
            doubt => doubt,
        };
        let is_busy_for_long = self.is_busy_for_long(now, failure.is_busy());
        match (failure.kind, self.doubt) {
            (_, Doubt::None) if is_busy_for_long => Failed::Refused,
            (FailureKind::Rejected, _) if !failure.is_busy() => Failed::Refused,
            (FailureKind::Denied, _) => Failed::Refused,
            (FailureKind::Fault, _) if failure.code.is_none() && failures + 1 >= FAULTS_THAT_REFUSE => Failed::Refused,
            // Growth shows only if the group was known before the notice.
            (_, Doubt::Unanswered(since)) if incident.planned_before && now.since(since) >= OPEN_AT_MOST => {
                Failed::Compare
            }
            _ => Failed::Again,
        }
    }
}

/// Tells whether the group has grown since it was looked up.
pub(super) fn has_grown(group: &AutoScalingGroup, current: &GroupState) -> bool {
    let is_known = |id: &InstanceId| group.members.iter().any(|known| known.instance_id == *id);
    current.desired_capacity > group.desired_capacity
        || current.members.iter().any(|member| !is_known(&member.instance_id))
}

/// Tells whether the group has to be read before it is asked, because the last look is up to two hours old. In a crowd
/// it is not: the launches need the same bucket.
pub(super) fn may_have_changed(group: &AutoScalingGroup, incident: &Incident) -> bool {
    let matters = is_replaced_by_group(incident) || !group.termination_hooks.is_empty();
    matters && incident.planned_before && !takes_turns(group.members.len())
}

/// Tells whether Capacity Rebalancing, if it is on, replaces this instance.
pub(super) fn is_replaced_by_group(incident: &Incident) -> bool {
    incident.begun_by_notice && incident.start.identity.life_cycle == LifeCycle::Spot
}

/// Tells whether an earlier process may have handed over for this notice, and its record is lost.
pub(super) fn is_without_record(incident: &Incident) -> bool {
    incident.start.is_resumed() && incident.start.launches_since.is_some()
}
