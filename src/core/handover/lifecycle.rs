//! The duty to see the termination hooks of an Auto Scaling group through: heartbeats while we work, and their completion
//! once this instance is quiet, so that the group goes on and does not wait for a hook's timeout.
//!
//! With a load balancer attached the group drains first and opens its hooks afterwards (docs/aws.md 4). "No active Lifecycle
//! Action" therefore says nothing by itself: the member's lifecycle state tells whether it is too early or over.

use std::time::Duration;

use super::call::HookResult;
use super::{Answer, Call, Pace, Report, View, seconds};
use crate::core::model::{AutoScalingGroup, BootInstant, GroupMember, HookTime, InstanceId, LifecycleHook};
use crate::core::retry::LOOK_UP;

/// A heartbeat at the latest so often, however patient the hook is.
const HEARTBEAT_AT_LEAST: Duration = Duration::from_secs(60);
/// The pauses between two looks at the member's state. A hook waits for 30 s at least.
const LOOK_PAUSES: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
];
/// After so many failures in a row the pauses grow to minutes.
const PATIENT_AFTER: u32 = 8;

/// All termination hooks of the group: they open together, and each is completed by itself.
pub(super) struct Lifecycles {
    group: String,
    hooks: Vec<Hook>,
    started: Option<BootInstant>,
    time: HookTime,
    state: Option<String>,
    look: Pace,
    looks: usize,
}

struct Hook {
    name: String,
    heartbeat_every: Duration,
    stage: Stage,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Working,
    Completing,
    Completed(BootInstant),
    /// The group has gone on without us, or with a process before this one.
    Over(BootInstant),
}

impl Hook {
    fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Completed(_) | Stage::Over(_))
    }
}

impl Lifecycles {
    pub(super) fn none() -> Lifecycles {
        Lifecycles::of(String::new(), &[], &|_| 0)
    }

    pub(super) fn new(group: &AutoScalingGroup, seed: &dyn Fn(&str) -> u64) -> Lifecycles {
        Lifecycles::of(group.name.clone(), &group.termination_hooks, seed)
    }

    fn of(group: String, hooks: &[LifecycleHook], seed: &dyn Fn(&str) -> u64) -> Lifecycles {
        let hook = |hook: &LifecycleHook| Hook {
            name: hook.name.clone(),
            heartbeat_every: (hook.heartbeat_timeout / 2).min(HEARTBEAT_AT_LEAST),
            stage: Stage::Working,
            pace: Pace::new(BootInstant::default(), seed(&hook.name)),
        };
        Lifecycles {
            hooks: hooks.iter().map(hook).collect(),
            started: None,
            time: HookTime::NotYet,
            state: None,
            look: Pace::new(BootInstant::default(), seed("lifecycle state")),
            looks: 0,
            group,
        }
    }

    /// The group as it is now. A hook that it no longer has is tried all the same: it may have opened before.
    pub(super) fn learn(&mut self, group: &AutoScalingGroup, seed: &dyn Fn(&str) -> u64) {
        let known = self.hooks.len();
        for hook in Lifecycles::new(group, seed).hooks {
            if !self.hooks.iter().any(|known| known.name == hook.name) {
                self.hooks.push(hook);
            }
        }
        self.group.clone_from(&group.name);
        if self.hooks.len() > known && self.time != HookTime::Retained {
            self.time = HookTime::NotYet;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// The group has begun to terminate this instance, or to take it back into its warm pool.
    pub(super) fn start(&mut self, now: BootInstant) {
        self.started.get_or_insert(now);
    }

    /// The group waits for us, or will.
    pub(super) fn is_waited_for(&self) -> bool {
        self.started.is_some() && self.time != HookTime::Retained && !self.hooks.iter().all(Hook::is_done)
    }

    pub(super) fn look_pace(&self) -> &Pace {
        &self.look
    }

    pub(super) fn pace(&self, index: usize) -> Option<&Pace> {
        self.hooks.get(index).map(|hook| &hook.pace)
    }

    /// The state is asked for when something depends on it: a heartbeat, or the completion.
    fn looks_from(&self) -> Option<BootInstant> {
        let soonest = self.hooks.iter().filter(|hook| !hook.is_done()).map(|hook| hook.heartbeat_every).min()?;
        Some(self.started? + soonest)
    }

    /// A look at the member's state, where it has to be known.
    pub(super) fn look_due(&mut self, view: &View<'_>, may_complete: bool) -> Option<Call> {
        let wanted = may_complete || self.looks_from().is_some_and(|from| view.now >= from);
        let looks = self.is_waited_for() && self.time == HookTime::NotYet && wanted;
        (looks && self.look.begin(view.now)).then(|| Call::DescribeGroupMembers { group: self.group.clone() })
    }

    /// Heartbeats and completions, by hook.
    pub(super) fn due(&mut self, view: &View<'_>, may_complete: bool) -> Vec<(usize, Call)> {
        if self.started.is_none() || self.time != HookTime::Open {
            return Vec::new();
        }
        let group = &self.group;
        let call = |(index, hook): (usize, &mut Hook)| {
            if hook.stage == Stage::Working && may_complete && !hook.pace.in_flight {
                hook.stage = Stage::Completing;
                hook.pace.succeeded(view.now);
            }
            if hook.is_done() || !hook.pace.begin(view.now) {
                return None;
            }
            let (group, name) = (group.clone(), hook.name.clone());
            Some((
                index,
                match hook.stage {
                    Stage::Completing => {
                        Call::CompleteLifecycleAction { group, hook: name, result: HookResult::Continue }
                    }
                    _ => Call::RecordLifecycleActionHeartbeat { group, hook: name },
                },
            ))
        };
        self.hooks.iter_mut().enumerate().filter_map(call).collect()
    }

    /// The members of the group were read, for whatever reason.
    pub(super) fn saw(&mut self, now: BootInstant, us: &InstanceId, into_pool: bool, members: &[GroupMember]) {
        if self.started.is_none() || self.hooks.is_empty() {
            return;
        }
        let state =
            members.iter().find(|member| member.instance_id == *us).map(|member| member.lifecycle_state.as_str());
        self.state = state.map(str::to_owned);
        self.time = HookTime::of(state, into_pool);
        if matches!(self.time, HookTime::Over) {
            self.hooks.iter_mut().filter(|hook| !hook.is_done()).for_each(|hook| {
                hook.stage = Stage::Over(now);
                hook.pace.succeeded(now);
            });
        }
    }

    pub(super) fn looked(&mut self, now: BootInstant, us: &InstanceId, into_pool: bool, answer: Answer) {
        match answer {
            Answer::GroupMembers(members) => {
                let pause = LOOK_PAUSES.get(self.looks).or(LOOK_PAUSES.last()).copied().unwrap_or_default();
                self.looks += 1;
                self.look.succeeded(now + pause);
                self.saw(now, us, into_pool, &members);
            }
            other => failed_patiently(&mut self.look, now, other),
        }
    }

    pub(super) fn answered(&mut self, now: BootInstant, index: usize, answer: Answer) {
        let Some(hook) = self.hooks.get_mut(index) else { return };
        match (hook.stage, answer) {
            (Stage::Working, Answer::Accepted) => hook.pace.succeeded(now + hook.heartbeat_every),
            (Stage::Completing, Answer::Accepted) => {
                hook.stage = Stage::Completed(now);
                hook.pace.succeeded(now);
            }
            // While another hook holds the member this one is completed already, by a call whose answer was lost.
            (_, Answer::Failed(failure)) if failure.message.contains("No active Lifecycle Action") => {
                let again = hook.pace.failures > 0;
                failed_patiently(&mut hook.pace, now, Answer::Failed(failure));
                if again {
                    hook.stage = Stage::Over(now);
                    hook.pace.succeeded(now);
                }
                self.time = HookTime::NotYet;
                self.look.next = now;
            }
            (_, other) => failed_patiently(&mut hook.pace, now, other),
        }
    }

    pub(super) fn wakes(&self) -> Vec<BootInstant> {
        if !self.is_waited_for() {
            return Vec::new();
        }
        if self.time == HookTime::Open {
            return self.hooks.iter().filter(|hook| !hook.is_done()).filter_map(|hook| hook.pace.wake()).collect();
        }
        let from = self.looks_from().unwrap_or_default();
        // Quiet may come before; what makes this instance quiet has its own instants.
        self.look.wake().into_iter().flat_map(|next| [next, next.max(from)]).collect()
    }

    pub(super) fn reports(&self, begun_at: BootInstant) -> Vec<Report> {
        self.hooks.iter().map(|hook| self.report(hook, begun_at)).collect()
    }

    fn report(&self, hook: &Hook, begun_at: BootInstant) -> Report {
        let duty = format!("termination hook {}", hook.name);
        let state = self.state.as_deref().unwrap_or("gone from the group");
        match (hook.stage, self.time) {
            (Stage::Completed(at), _) => {
                Report::new(duty, true, format!("completed after {}", seconds(at.since(begun_at))))
            }
            (Stage::Over(_), _) => Report::new(duty, true, format!("over: the group has gone on ({state})")),
            (_, HookTime::Retained) => {
                let what = format!("the group retains this instance ({state}): the hook was abandoned");
                Report::new(duty, false, what).settled()
            }
            _ if self.started.is_none() => Report::new(duty, false, "the group does not terminate this instance yet"),
            (_, HookTime::NotYet) if self.state.is_some() => {
                let what = format!("not open yet: the group drains first, for the deregistration delay ({state})");
                Report::new(duty, false, what)
            }
            (_, HookTime::NotYet) => {
                Report::new(duty, false, format!("the member's state is not known: {}", self.look.trouble()))
            }
            _ => Report::new(duty, false, format!("not completed: {}", hook.pace.trouble())),
        }
    }
}

/// There may be an hour until the hook's timeout.
pub(super) fn failed_patiently(pace: &mut Pace, now: BootInstant, answer: Answer) {
    pace.failed_by(now, answer);
    if pace.failures > PATIENT_AFTER {
        pace.next = now + LOOK_UP.pause(pace.failures - PATIENT_AFTER, pace.seed);
    }
}
