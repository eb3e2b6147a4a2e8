//! The duty to see the termination hooks of an Auto Scaling group through: heartbeats while we work, and completion
//! once this instance is quiet. So the group goes on and does not wait for a hook's timeout.
//!
//! With a load balancer attached the group drains first and opens its hooks afterwards (docs/aws.md 4). So "No active
//! Lifecycle Action" says nothing by itself: the member's lifecycle state tells whether it is too early or over.

use std::time::Duration;

use super::course::{HandingOver, News, Situation};
use super::crowd::Bucket;
use super::words::seconds;
use crate::core::call::{Answer, Call, HookResult};
use crate::core::duty::{Attempts, Duty, DutyId, DutyReport, Patience, its_attempts};
use crate::core::incident::{Incident, Takes};
use crate::core::model::{AutoScalingGroup, BootInstant, GroupMember, HookTime};
use crate::core::retry::growing;

/// The longest pause between heartbeats, however patient the hook is.
const HEARTBEAT_AT_LEAST: Duration = Duration::from_secs(60);
/// The pauses between two looks at the member's state. A hook waits for 30 s at least.
const LOOK_PAUSES: [u64; 5] = [2, 3, 5, 10, 15];
/// After this many failures in a row the pauses grow to minutes: there may be an hour until the hook's timeout.
pub(super) const PATIENT_AFTER: u32 = 8;

/// All termination hooks of the group: they open together, and each is completed by itself.
#[derive(Default)]
pub(super) struct Lifecycles {
    /// The look at the member's state; `Some` if there are hooks.
    pub(super) look: Option<MemberState>,
    pub(super) hooks: Vec<TerminationHook>,
    started: Option<BootInstant>,
}

/// The duty to know in which lifecycle state the group holds this instance.
pub(super) struct MemberState {
    group: String,
    time: HookTime,
    state: Option<String>,
    /// The state is asked for when something depends on it: a heartbeat, or the completion.
    wanted_from: Option<BootInstant>,
    attempts: Attempts,
    looks: usize,
}

/// The duty to see one termination hook through.
pub(super) struct TerminationHook {
    group: String,
    name: String,
    heartbeat_every: Duration,
    stage: Stage,
    is_open: bool,
    /// The end is near, and the completion is tried once although the hook is not seen open.
    is_early: bool,
    /// IAM hides whether the hook is open.
    is_hidden: bool,
    attempts: Attempts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Working,
    Completing,
    Completed(BootInstant),
    /// The group has gone on, without us or after a previous process.
    Over(BootInstant),
}

impl Lifecycles {
    pub(super) fn new(group: &AutoScalingGroup, seed: &dyn Fn(&str) -> u64) -> Lifecycles {
        let attempts = |id, what: &str| {
            Attempts::new(id, BootInstant::default(), seed(what)).patient(Patience::After(PATIENT_AFTER))
        };
        let hooks = group.termination_hooks.iter().enumerate().map(|(index, hook)| TerminationHook {
            group: group.name.clone(),
            name: hook.name.clone(),
            heartbeat_every: (hook.heartbeat_timeout / 2).min(HEARTBEAT_AT_LEAST),
            stage: Stage::Working,
            is_open: false,
            is_early: false,
            is_hidden: false,
            attempts: attempts(DutyId::Lifecycle(index), &hook.name),
        });
        let look = (!group.termination_hooks.is_empty()).then(|| MemberState {
            group: group.name.clone(),
            time: HookTime::NotYet,
            state: None,
            wanted_from: None,
            attempts: attempts(DutyId::MemberState, "lifecycle state"),
            looks: 0,
        });
        Lifecycles { look, hooks: hooks.collect(), started: None }
    }

    /// Takes the group as it is now. A hook that it no longer has is tried all the same: it may have opened before.
    pub(super) fn learn(&mut self, group: &AutoScalingGroup, seed: &dyn Fn(&str) -> u64) {
        let now = Lifecycles::new(group, seed);
        let known = self.hooks.len();
        for mut hook in now.hooks {
            if !self.hooks.iter().any(|known| known.name == hook.name) {
                hook.attempts.duty = DutyId::Lifecycle(self.hooks.len());
                self.hooks.push(hook);
            }
        }
        self.look = self.look.take().or(now.look);
        if let Some(look) = &mut self.look {
            look.group.clone_from(&group.name);
            // All hooks of a member open together, so the state is read again for a new one.
            if self.hooks.len() > known && look.time == HookTime::Over {
                look.time = HookTime::NotYet;
            }
        }
        for hook in &mut self.hooks {
            hook.group.clone_from(&group.name);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Notes that the group has begun to terminate this instance, or to take it back into its warm pool.
    pub(super) fn start(&mut self, now: BootInstant) {
        self.started.get_or_insert(now);
    }

    pub(super) fn time_begun(&self) -> Option<HookTime> {
        self.started.filter(|_| !self.hooks.is_empty()).map(|_| self.time())
    }

    fn time(&self) -> HookTime {
        self.look.as_ref().map_or(HookTime::NotYet, |look| look.time)
    }

    /// Tells whether the group waits for its hooks, or will.
    pub(super) fn is_waited_for(&self) -> bool {
        self.started.is_some() && self.time() != HookTime::Retained && !self.hooks.iter().all(TerminationHook::is_over)
    }

    /// Tells whether AWS takes heartbeats and completions now, or may. If IAM hides the member's state, a call that
    /// comes too early does no harm.
    pub(super) fn are_open(&self) -> bool {
        self.started.is_some() && (self.time() == HookTime::Open || self.is_hidden())
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.time() == HookTime::NotYet && self.look.as_ref().is_some_and(|look| look.attempts.was_denied())
    }

    /// Sets the instant from which on the look has to know the state.
    pub(super) fn want_state(&mut self) {
        let waits = self.is_waited_for() && self.time() == HookTime::NotYet;
        let soonest = self.hooks.iter().filter(|hook| !hook.is_over()).map(|hook| hook.heartbeat_every).min();
        if let Some(look) = &mut self.look {
            look.wanted_from = self.started.zip(soonest).filter(|_| waits).map(|(started, soonest)| started + soonest);
        }
    }

    /// Takes the members of the group, whoever has read them.
    pub(super) fn learn_members(&mut self, now: BootInstant, incident: &Incident, members: &[GroupMember]) {
        let Some(look) = self.look.as_mut().filter(|_| self.started.is_some()) else { return };
        let state = members
            .iter()
            .find(|member| member.instance_id == incident.id.instance_id)
            .map(|it| it.lifecycle_state.as_str());
        look.state = state.map(str::to_owned);
        look.time = HookTime::of(state, incident.group_takes == Some(Takes::IntoPool));
        if look.time == HookTime::Over {
            self.hooks.iter_mut().filter(|hook| !hook.is_over()).for_each(|hook| hook.end(Stage::Over(now)));
        }
        self.want_state();
    }

    /// Takes AWS's answer that no hook is open. The member's state tells whether it is too early or over.
    pub(super) fn hook_is_not_open(&mut self, now: BootInstant) {
        if let Some(look) = &mut self.look {
            look.time = HookTime::NotYet;
            if !look.attempts.was_denied() {
                look.attempts.next = now;
            }
        }
        self.want_state();
    }

    pub(super) fn reports(&self, begun_at: BootInstant) -> Vec<DutyReport> {
        self.hooks.iter().map(|hook| self.report(hook, begun_at).last()).collect()
    }

    fn report(&self, hook: &TerminationHook, begun_at: BootInstant) -> DutyReport {
        let duty = format!("termination hook {}", hook.name);
        let state = self.look.as_ref().and_then(|look| look.state.as_deref());
        let shown = state.unwrap_or("gone from the group");
        match (hook.stage, self.time()) {
            (Stage::Completed(at), _) => {
                DutyReport::new(duty, true, format!("completed after {}", seconds(at.since(begun_at))))
            }
            (Stage::Over(_), _) => DutyReport::new(duty, true, format!("over: the group has gone on ({shown})")),
            (_, HookTime::Retained) => {
                let what = format!("the group keeps this instance ({shown}), because somebody abandoned the hook");
                DutyReport::new(duty, false, what).settled()
            }
            _ if self.started.is_none() => {
                DutyReport::new(duty, false, "the group does not terminate this instance yet")
            }
            (_, HookTime::NotYet) if state.is_some() => {
                let what = format!("not open yet: the group drains first, for the deregistration delay ({shown})");
                DutyReport::new(duty, false, what)
            }
            (_, HookTime::NotYet) => {
                let trouble = self.look.as_ref().map(|look| look.attempts.trouble()).unwrap_or_default();
                DutyReport::new(duty, false, format!("the member's state is not known: {trouble}"))
            }
            _ => DutyReport::new(duty, false, format!("not completed: {}", hook.attempts.trouble())),
        }
    }
}

impl Duty<HandingOver> for MemberState {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        if situation.incident.ends_by_group() {
            situation.crowd.keep_apart(&mut self.attempts, situation.incident.start.clocks.1, Bucket::AUTO_SCALING);
        }
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let wanted = self.wanted_from.is_some_and(|from| situation.may_complete || situation.now >= from);
        wanted.then(|| Call::DescribeAutoScalingGroup { group: self.group.clone() })
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let Answer::GroupState(current) = answer else { return Err(answer) };
        let pause = growing(&LOOK_PAUSES, self.looks);
        self.looks += 1;
        self.attempts.succeeded(situation.now + pause);
        Ok(News::Members(current.unwrap_or_default().members))
    }

    /// This instance may be quiet before; the duty to be quiet wakes by itself.
    fn wake(&self, since: BootInstant) -> Option<BootInstant> {
        let (next, from) = (self.attempts.wake()?, self.wanted_from?);
        [next, next.max(from)].into_iter().find(|instant| *instant > since)
    }
}

impl TerminationHook {
    fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.attempts.end();
    }
}

impl Duty<HandingOver> for TerminationHook {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        // A hook that is not open refuses the call, which does no harm.
        let is_last_chance = situation.reserve_reached() && !situation.incident.ends_by_group();
        let is_untried = self.attempts.failures == 0;
        self.is_early = !situation.hooks_are_open && situation.may_complete && is_last_chance && is_untried;
        (self.is_open, self.is_hidden) = (situation.hooks_are_open || self.is_early, situation.hooks_are_hidden);
        let may_complete = self.is_open && situation.may_complete;
        if self.stage == Stage::Working && may_complete && !self.attempts.in_flight {
            self.stage = Stage::Completing;
            self.attempts.succeeded(situation.now);
        }
    }

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        if !self.is_open {
            return None;
        }
        let (group, hook) = (self.group.clone(), self.name.clone());
        Some(match self.stage {
            Stage::Completing => Call::CompleteLifecycleAction { group, hook, result: HookResult::Continue },
            _ => Call::RecordLifecycleActionHeartbeat { group, hook },
        })
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let now = situation.now;
        match (self.stage, answer) {
            (Stage::Working, Answer::Accepted) => self.attempts.succeeded(now + self.heartbeat_every),
            (Stage::Completing, Answer::Accepted) => self.end(Stage::Completed(now)),
            // While another hook holds the member, this hook was completed by a call whose answer was lost.
            (_, Answer::Failed(failure)) if failure.message.contains("No active Lifecycle Action") => {
                let again = self.attempts.failures > 0 && !self.is_hidden;
                self.attempts.failed(now, failure);
                if again {
                    self.end(Stage::Over(now));
                } else if self.is_early {
                    self.stage = Stage::Working;
                }
                return Ok(News::HookNotOpen);
            }
            (_, other) => return Err(other),
        }
        Ok(News::None)
    }

    fn wake(&self, _: BootInstant) -> Option<BootInstant> {
        if !self.is_open { None } else { self.attempts.wake() }
    }
}
