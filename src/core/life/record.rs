//! The record of a handover: it serves people, and the process after a crash or a boot. Data; who writes it down is an edge.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::handover::{Handover, Known, Outcome};
use crate::core::model::{BootInstant, IncidentId, Milestone, MilestoneKind, Signal};

/// What `/var/lib/spot-relay/handover.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(rename = "incident")]
    pub id: IncidentId,
    #[serde(default)]
    pub signal: Signal,
    /// The Auto Scaling group terminates this instance.
    #[serde(default)]
    pub terminating: bool,
    /// The notice's time, where it had one.
    pub time: Option<Timestamp>,
    /// The id of a scheduled event.
    #[serde(default)]
    pub event: Option<String>,
    /// By AWS's clock.
    pub begun_at: Timestamp,
    /// On the boot clock of the incident's boot, as the milestones' instants.
    pub begun: BootInstant,
    pub deadline: BootInstant,
    pub known: Known,
    /// The plan was made before the first signal: its members are no successors, whichever process goes on.
    #[serde(default)]
    pub planned_before: bool,
    /// No weaker signal came before the notice.
    #[serde(default)]
    pub begun_by_notice: bool,
    pub milestones: Vec<Milestone>,
    /// `None` while it goes on.
    pub outcome: Option<Outcome>,
    /// This instance goes: an interruption is announced, or it left its target groups all the same.
    #[serde(default = "yes")]
    pub certain: bool,
    /// It was to go, and lives on: what the handover left is being put right.
    #[serde(default)]
    pub survived: bool,
    /// A handover by recommendation has taken place in this boot.
    #[serde(default)]
    pub recommended: bool,
    /// Its group was to launch before this instance leaves, answered or not, whatever came then.
    #[serde(default)]
    pub launched_first: bool,
    /// What became of an instance that lived on.
    #[serde(default)]
    pub closed: Option<Closed>,
}

/// How a record is closed: nothing of its handover is left to be put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closed {
    Reinstated,
    StayedOut,
    /// It never left: a recommendation without a successor.
    Stayed,
    Terminated,
}

fn yes() -> bool {
    true
}

impl Record {
    pub(super) fn of(handover: &Handover, begun_at: Timestamp, begun: BootInstant) -> Record {
        let incident = handover.incident();
        Record {
            id: incident.id.clone(),
            signal: incident.signal,
            terminating: incident.terminating,
            time: incident.time,
            event: None,
            begun_at,
            begun,
            deadline: incident.deadline,
            known: handover.known(),
            planned_before: incident.planned_before,
            begun_by_notice: incident.begun_by_notice,
            milestones: Vec::new(),
            outcome: None,
            certain: handover.is_certain(),
            survived: false,
            recommended: false,
            launched_first: incident.serve_on,
            closed: None,
        }
    }

    pub(super) fn follow(&mut self, handover: &Handover, milestones: &[Milestone]) {
        let incident = handover.incident();
        self.launched_first |= handover.launches_first();
        self.id.clone_from(&incident.id);
        self.signal = incident.signal;
        self.terminating = incident.terminating;
        self.time = incident.time;
        self.deadline = incident.deadline;
        self.known = handover.known();
        self.certain = handover.is_certain();
        self.milestones.extend_from_slice(milestones);
        self.outcome = handover.outcome().cloned();
    }

    /// AWS's time at its beginning was by a clock in doubt; this is the right one.
    pub(super) fn correct_time(&mut self, aws_now: Timestamp, now: BootInstant) {
        self.begun_at = aws_now.saturating_sub(now.since(self.begun)).unwrap_or(aws_now);
    }

    /// AWS's time of an instant, by the clocks at its beginning.
    pub(super) fn aws_time_of(&self, instant: BootInstant) -> Timestamp {
        self.begun_at.saturating_add(instant.since(self.begun)).unwrap_or(self.begun_at)
    }

    /// Quiet, and not told to serve again since.
    pub fn was_quiet(&self) -> bool {
        let since = self.milestones.rsplit(|milestone| milestone.milestone == MilestoneKind::Survived).next();
        since.unwrap_or_default().iter().any(|milestone| milestone.milestone == MilestoneKind::Quiet)
    }

    /// Its handover came to its own end, complete or not: nobody withdrew what it was about.
    pub fn was_seen_through(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| !outcome.duties.is_empty())
    }

    /// By AWS's clock: the last that is told of it, once it is closed.
    pub(super) fn told_until(&self) -> Timestamp {
        let last = self.milestones.last().filter(|_| self.closed.is_some());
        last.map_or(Timestamp::MIN, |last| self.aws_time_of(last.at))
    }

    /// Its handover has ended, and the instance is to go.
    pub(super) fn is_over(&self) -> bool {
        self.closed.is_none() && self.outcome.is_some() && !self.survived
    }

    /// A handover by recommendation that goes on.
    pub(super) fn is_open_ended(&self) -> bool {
        self.signal == Signal::RebalanceRecommendation && self.outcome.is_none()
    }

    /// Tells whether its group may have launched a successor already, which asking in another way would launch again.
    pub(super) fn may_have_launched_first(&self, is_weaker: bool) -> bool {
        let asked = self.milestones.iter().any(|milestone| milestone.milestone == MilestoneKind::SuccessorRequested);
        (self.launched_first && self.outcome.is_none()) || ((self.launched_first || is_weaker) && asked)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.complete)
    }
}
