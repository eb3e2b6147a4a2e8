//! The requests to an Auto Scaling group. They depend on the group, on this instance's place in it, and on the signal:
//! one pure function decides, [`GroupRequest::of`].

use serde::{Deserialize, Serialize};

use crate::core::config::{Config, Rebalance, ScheduledEvents, When};
use crate::core::model::{AutoScalingGroup, Identity, LifeCycle, Signal};

/// The request by which a group learns that this instance goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupRequest {
    /// Capacity Rebalancing: the group launches by itself.
    Observe,
    /// TerminateInstanceInAutoScalingGroup: the termination hook runs, and keeps this instance alive meanwhile.
    Terminate,
    Detach,
    /// The desired capacity does not count this instance (Standby, or the warm pool): nobody takes its place, and the
    /// group is not asked for anything.
    Uncounted,
}

impl GroupRequest {
    /// Decides by the group with its members, by who this instance is, and by the signal (docs/aws.md 4).
    pub fn of(group: &AutoScalingGroup, identity: &Identity, signal: Signal) -> GroupRequest {
        let ours = group.members.iter().find(|member| member.instance_id == identity.instance_id);
        match ours {
            Some(member) if !member.is_counted() => GroupRequest::Uncounted,
            _ => GroupRequest::of_counted(group, identity.life_cycle, signal),
        }
    }

    fn of_counted(group: &AutoScalingGroup, life_cycle: LifeCycle, signal: Signal) -> GroupRequest {
        if group.capacity_rebalance && is_replaced_by_owner(life_cycle, signal) {
            GroupRequest::Observe
        } else if group.termination_hooks.is_empty() {
            GroupRequest::Detach
        } else {
            GroupRequest::Terminate
        }
    }

    /// Tells whether the group is asked for a successor.
    pub fn asks(self) -> bool {
        matches!(self, GroupRequest::Terminate | GroupRequest::Detach)
    }

    /// The requests that the signals of this configuration may lead to, each once, for an instance whose group is asked
    /// in this way at a notice.
    pub fn all(self, group: &AutoScalingGroup, config: &Config) -> Vec<GroupRequest> {
        let at_a_notice = match self {
            // The state is passing: at another moment the group counts this instance.
            GroupRequest::Uncounted => GroupRequest::of_counted(group, LifeCycle::Spot, Signal::Notice),
            other => other,
        };
        let mut requests = vec![at_a_notice];
        if config.watch.scheduled_events == ScheduledEvents::HandOver {
            requests.push(GroupRequest::of_counted(group, LifeCycle::Spot, Signal::ScheduledEvent));
        }
        requests.dedup();
        requests
    }
}

/// Tells whether the owner replaces by itself: it acts on the Spot signals of Spot instances alone.
pub(super) fn is_replaced_by_owner(life_cycle: LifeCycle, signal: Signal) -> bool {
    let is_of_spot = signal.is_notice() || signal == Signal::RebalanceRecommendation;
    life_cycle == LifeCycle::Spot && is_of_spot
}

/// Tells whether LaunchInstances may be called in a group that is asked in this way at a notice. Either the
/// configuration asks for it, or it is tried.
pub fn may_launch_first(config: &Config, at_a_notice: GroupRequest) -> bool {
    let is_tried = at_a_notice != GroupRequest::Observe && config.leave.when != When::AtOnce;
    is_tried || asks_launch_instances(config, at_a_notice)
}

/// Tells whether this configuration asks a group to launch one more before this instance leaves. `[leave] when =
/// "auto"` does not ask: it tries LaunchInstances once, and a refusal is an answer.
pub fn asks_launch_instances(config: &Config, at_a_notice: GroupRequest) -> bool {
    let at_spot_signals = at_a_notice != GroupRequest::Observe
        && (config.leave.when == When::SuccessorHealthy || config.watch.rebalance == Rebalance::HandOver);
    at_spot_signals || config.watch.scheduled_events == ScheduledEvents::HandOver
}
