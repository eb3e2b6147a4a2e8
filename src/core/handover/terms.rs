//! The subject of a handover, the facts known when it begins, and the manner in which it goes. Data, and conclusions from it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::call::HookKind;
use crate::core::config::{Hooks, Leave as LeaveSettings, When};
use crate::core::model::{Action, BootInstant, Identity, Incident, Registration, Signal, TargetGroupArn};
use crate::core::plan::{GroupRequest, Plan};

/// The subject of a handover. It is fixed at first sight, but for what a later signal of the same incident adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub identity: Identity,
    pub incident: Incident,
    pub signal: Signal,
    /// The signal that the owner goes by: also a recommendation that stands beside a scheduled event.
    #[serde(default)]
    pub owner_sees: Signal,
    /// The Auto Scaling group is terminating this instance, whatever signal came first: nobody asks for a successor, and
    /// nothing brings the instance back.
    pub terminating: bool,
    /// It takes this instance back into its warm pool: `terminating` too, but not the end.
    #[serde(default)]
    pub into_pool: bool,
    /// The notice's time, or a scheduled event's, where it had one.
    pub time: Option<Timestamp>,
    /// The code of a scheduled event.
    pub event: Option<String>,
    /// The deadline. For a recommendation a successor is waited for until then.
    pub deadline: BootInstant,
    /// Both clocks at one moment: AWS's and the boot's.
    pub clocks: (Timestamp, BootInstant),
    /// A member launched before this is no successor: AWS's time at the first signal of this incident, less some slack.
    pub successors_since: Option<Timestamp>,
    /// An earlier process of this boot may have begun this handover already.
    pub resumed: bool,
    /// It has: only for the words.
    #[serde(default)]
    pub after_restart: bool,
    /// An arrival gave way to this handover: until then what it asked for may land, be it a registration or a place in the
    /// group.
    #[serde(default)]
    pub arrival_lands_by: Option<BootInstant>,
    /// A weaker signal may have had a successor launched, under the same incident: ask for it again before leaving.
    #[serde(default)]
    pub serve_on: bool,
    /// The plan was made before the notice: what it names as members is no successor.
    pub planned_before: bool,
}

/// The settings of the handover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub leave: LeaveSettings,
    pub hooks: Hooks,
}

/// The facts known when the notice comes. `None` is looked up within the handover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub registrations: Option<Vec<Registration>>,
    /// Those found so far, where the look-up goes on.
    #[serde(default)]
    pub found: Vec<Registration>,
    pub plan: Option<Plan>,
    /// Target groups that the configuration names and AWS does not know: no handover is complete with them.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Target groups of which AWS does not tell whether this instance is in them.
    #[serde(default)]
    pub unclear: Vec<TargetGroupArn>,
    /// Hooks that have ended: the process after this one does not run them again.
    #[serde(default)]
    pub hooks_ended: Vec<HookKind>,
}

/// In which order a handover goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Everything in the first instant.
    AtOnce,
    /// Serve on until the successor does, but never too late to drain.
    ServeOn,
    /// No interruption is announced: leave once the successor is healthy, and otherwise stay.
    Open,
}

/// Tells whether this instance serves on when a notice comes, by its settings and its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNotice {
    /// It leaves in the first instant.
    AtOnce { why: &'static str },
    /// The owner launches a successor without taking this instance out. A plan that is not known yet is waited for.
    ServeOn,
    /// The group is asked to launch one more first (LaunchInstances). A refusal means at once.
    ServeOnIfAllowed,
}

impl OnNotice {
    pub fn of(when: When, plan: Option<&Plan>) -> OnNotice {
        match (when, plan) {
            (When::AtOnce, _) => OnNotice::AtOnce { why: "[leave] when is \"at-once\"" },
            (_, Some(plan)) if !plan.has_successor() => OnNotice::AtOnce { why: "no successor is launched" },
            (_, Some(Plan::Group { how, .. })) if *how != GroupRequest::Observe => OnNotice::ServeOnIfAllowed,
            (When::Auto | When::SuccessorHealthy, _) => OnNotice::ServeOn,
        }
    }
}

impl Terms {
    /// A plan that is not known yet leaves it open whether the owner launches first: serving on waits for it.
    pub(super) fn manner(&self, settings: &LeaveSettings, plan: Option<&Plan>) -> Manner {
        match self.signal {
            _ if self.terminating || self.incident.action == Some(Action::Hibernate) => Manner::AtOnce,
            Signal::LifecycleState => Manner::AtOnce,
            Signal::RebalanceRecommendation => Manner::Open,
            Signal::ScheduledEvent => Manner::ServeOn,
            Signal::Notice | Signal::Drill if self.serve_on => Manner::ServeOn,
            Signal::Notice | Signal::Drill => match OnNotice::of(settings.when, plan) {
                OnNotice::ServeOn | OnNotice::ServeOnIfAllowed => Manner::ServeOn,
                OnNotice::AtOnce { .. } => Manner::AtOnce,
            },
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.signal == Signal::RebalanceRecommendation && !self.terminating
    }

    /// The group terminates this instance, and nothing that AWS has announced ends it at a known time.
    pub(super) fn ends_by_group(&self) -> bool {
        self.terminating && self.signal != Signal::Notice
    }

    /// A deadline that is one: none while no interruption is announced.
    pub(super) fn announced_deadline(&self) -> Option<BootInstant> {
        (!self.is_open()).then_some(self.deadline)
    }

    /// When that is by AWS's clock.
    pub fn deadline_by_aws(&self) -> Option<Timestamp> {
        let (aws, boot) = self.clocks;
        let deadline = self.announced_deadline()?;
        self.time.or_else(|| aws.checked_add(deadline.since(boot)).ok())
    }

    /// The time of an instant by AWS's clock.
    pub(super) fn time_of(&self, instant: BootInstant) -> Timestamp {
        let (aws, boot) = self.clocks;
        aws.checked_add(instant.since(boot)).unwrap_or(aws)
    }

    /// The instant of a time by AWS's clock.
    pub(super) fn instant_of(&self, time: Timestamp) -> BootInstant {
        let (aws, boot) = self.clocks;
        match Duration::try_from(time.duration_since(aws)) {
            Ok(after) => boot + after,
            Err(_) => boot - Duration::try_from(aws.duration_since(time)).unwrap_or_default(),
        }
    }
}
