//! The manner of a handover, its settings, and the facts known when it begins. Data, and conclusions from it.

use crate::core::config::{Hooks, Leave as LeaveSettings, When};
use crate::core::incident::Incident;
use crate::core::model::{Action, Registration, Signal, TargetGroupArn};
use crate::core::plan::{GroupRequest, Plan};

/// The settings of the handover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandoverSettings {
    pub leave: LeaveSettings,
    pub hooks: Hooks,
    /// The configuration lists the target groups, so the owner's list does not count.
    pub lists_target_groups: bool,
}

/// The facts that look-ups have found. The handover itself looks up what is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookedUp {
    pub registrations: Option<Vec<Registration>>,
    /// A doubtful plan is looked up again within the handover, and stands if no other can be found.
    pub plan: Option<Plan>,
    /// Target groups that the configuration names and AWS does not know.
    pub missing: Vec<String>,
    /// Target groups for which AWS does not tell whether this instance is in them.
    pub unclear: Vec<TargetGroupArn>,
    /// The configuration or the owner names a target group (or one of its ports) that did not hold this instance yet.
    /// Somebody may have registered it since, so the handover looks again.
    pub more_expected: bool,
    /// Target health shows this instance in some target group, and not on its way out of it.
    pub is_in_some: bool,
}

/// The order of a handover's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Everything in the first instant.
    AtOnce,
    /// Serve on until the successor does, but never too late to drain.
    ServeOn,
    /// No interruption is announced: leave once the successor is healthy, and otherwise stay.
    Open,
}

/// The decision whether this instance serves on when a notice comes, by its settings and its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnNotice {
    /// It leaves in the first instant.
    AtOnce { why: &'static str },
    /// The owner launches a successor without taking this instance out. A plan that is not known yet is waited for.
    ServeOn,
    /// The group is asked to launch one more first (LaunchInstances). A refusal means at once.
    ServeOnIfAllowed,
}

impl OnNotice {
    pub(crate) fn of(when: When, plan: Option<&Plan>) -> OnNotice {
        match (when, plan) {
            (When::AtOnce, _) => OnNotice::AtOnce { why: "[leave] when is \"at-once\"" },
            (_, Some(plan)) if !plan.has_successor() => OnNotice::AtOnce { why: "no successor is launched" },
            (_, Some(Plan::Group { group, how })) if *how != GroupRequest::Observe => {
                group.launches_none_first().map_or(OnNotice::ServeOnIfAllowed, |why| OnNotice::AtOnce { why })
            }
            (When::Auto | When::SuccessorHealthy, _) => OnNotice::ServeOn,
        }
    }
}

impl Incident {
    /// Decides the manner. While the plan is not known this instance may serve on, because the owner may launch first.
    pub(super) fn manner(&self, settings: &LeaveSettings, plan: Option<&Plan>) -> Manner {
        match self.signal {
            _ if self.is_terminating() || self.id.action == Some(Action::Hibernate) => Manner::AtOnce,
            Signal::LifecycleState => Manner::AtOnce,
            Signal::RebalanceRecommendation => Manner::Open,
            Signal::ScheduledEvent => Manner::ServeOn,
            Signal::Notice | Signal::Drill if self.start.serve_on => Manner::ServeOn,
            Signal::Notice | Signal::Drill => match OnNotice::of(settings.when, plan) {
                OnNotice::ServeOn | OnNotice::ServeOnIfAllowed => Manner::ServeOn,
                OnNotice::AtOnce { .. } => Manner::AtOnce,
            },
        }
    }
}
