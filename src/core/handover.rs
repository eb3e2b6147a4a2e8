//! The handover: from a signal to its outcome. What to do next is decided here and nowhere else.
//!
//! A handover is a set of duties, each with its own stage and retries. [`Handover::due`] says which calls to begin now,
//! the daemon performs them, one task a call, and [`Handover::answered`] takes what came back. Invariants: no clock, no
//! network, no log, no randomness; no call is begun after the deadline; no duty waits for another's success unless the
//! work itself demands it; one call in flight a duty.

mod call;
mod capacity;
mod crowd;
mod ending;
mod find;
mod group;
mod hook;
mod journal;
mod launch;
mod leave;
mod lifecycle;
mod light;
mod look_ups;
mod mark;
mod outcome;
mod pace;
mod quiet;
mod register;
mod successor;
mod terms;
mod view;
mod watch;
mod words;

use std::time::Duration;

use jiff::Timestamp;

use crate::core::config::Leave as LeaveSettings;
use crate::core::model::{
    Action, BootInstant, InstanceId, Milestone, MilestoneKind, Registration, Signal, TargetGroupArn,
};
use crate::core::plan::Plan;
use crate::core::retry::{self, Failure};

use call::LOOK_UP_LIMIT;
pub use call::{Answer, CALL_LIMIT, Call, Due, Duty, HookKind, HookResult, LAUNCH_LIMIT};
use crowd::Crowd;
use group::AskGroup;
use hook::Hook;
use journal::{About, Journal};
use leave::Leave;
use light::{Light, Look};
use look_ups::LookUps;
use mark::Mark;
pub use outcome::{Outcome, Report};
use outcome::{join, seconds};
pub(crate) use pace::Pace;
use quiet::Quiet;
use successor::SuccessorDuties;
use terms::Manner;
pub use terms::{Known, OnNotice, Settings, Terms};
use view::View;
pub use words::in_drill;

/// The longest deregistration delay counts no more than this when serving on. A longer `settle` counts whole.
pub const COUNTED_DELAY: Duration = Duration::from_secs(30);
/// How long the deregistration of a hibernating instance goes alone before the successor is asked for all the same.
const ALONE_AT_MOST: Duration = Duration::from_secs(5);
/// A termination hook is completed so long before the deadline, whatever command of the user's still runs.
const LAST_CALLS: Duration = Duration::from_secs(3);

pub struct Handover {
    terms: Terms,
    settings: Settings,
    begun_at: BootInstant,
    look_ups: LookUps,
    registrations: Vec<Registration>,
    missing: Vec<String>,
    unclear: Vec<TargetGroupArn>,
    leaves: Vec<Leave>,
    /// Once begun, leaving goes on.
    is_leaving: bool,
    mark: Mark,
    crowd: Crowd,
    hooks: Vec<Hook>,
    quiet: Quiet,
    light: Light,
    successor: Option<SuccessorDuties>,
    journal: Journal,
    outcome: Option<Outcome>,
}

impl Handover {
    pub fn begin(terms: Terms, settings: Settings, known: Known, now: BootInstant) -> Handover {
        let hook = |kind: HookKind, command: &[String]| {
            let ended_before = known.hooks_ended.contains(&kind);
            (!command.is_empty()).then(|| Hook::new(kind, settings.hooks.timeout, ended_before, now))
        };
        let hooks = [hook(HookKind::Notice, &settings.hooks.notice), hook(HookKind::Drained, &settings.hooks.drained)];
        let mut handover = Handover {
            begun_at: now,
            look_ups: LookUps::none(seed(&terms, "look-ups")),
            registrations: Vec::new(),
            missing: known.missing,
            unclear: known.unclear,
            leaves: Vec::new(),
            is_leaving: false,
            mark: Mark::new(now, seed(&terms, "mark")),
            crowd: Crowd::new(now),
            hooks: hooks.into_iter().flatten().collect(),
            quiet: Quiet::new(now, seed(&terms, "quiet")),
            light: Light::default(),
            successor: None,
            journal: Journal { deadline: terms.announced_deadline(), owner: None, reached: Vec::new(), seen: now },
            outcome: None,
            terms,
            settings,
        };
        match known.registrations {
            Some(registrations) => handover.learn_registrations(registrations, now),
            None => handover.look_ups.look_for_registrations(None, now),
        }
        handover.learn_registrations(known.found, now);
        match known.plan {
            Some(plan) => handover.learn_plan(plan, now),
            None => handover.look_ups.look_for_plan(now),
        }
        handover.look_for_group(now);
        handover.say_begun(now);
        handover
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The facts known by now, which the record keeps for the next process.
    pub fn known(&self) -> Known {
        let known = self.look_ups.registrations_are_known();
        Known {
            registrations: known.then(|| self.registrations.clone()),
            found: if known { Vec::new() } else { self.registrations.clone() },
            plan: self.plan().cloned(),
            missing: self.missing.clone(),
            unclear: self.unclear.clone(),
            hooks_ended: self.hooks.iter().filter(|hook| hook.has_ended()).map(Hook::kind).collect(),
        }
    }

    pub fn plan(&self) -> Option<&Plan> {
        self.successor.as_ref().map(SuccessorDuties::plan)
    }

    /// Tells whether the group is asked for a successor before this instance leaves.
    pub(crate) fn launches_first(&self) -> bool {
        let asks = matches!(self.plan(), Some(Plan::Group { how, .. }) if how.asks());
        asks && self.manner() != Manner::AtOnce
    }

    pub fn successor_id(&self) -> Option<InstanceId> {
        self.successor.as_ref().and_then(SuccessorDuties::id)
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet.is_quiet()
    }

    /// Tells whether this instance goes: an interruption is announced, or it is leaving its target groups all the same.
    pub fn is_certain(&self) -> bool {
        !self.terms.is_open() || self.is_leaving
    }

    /// A notice, while this handover is under way: the same incident. Of a notice already known only a nearer time counts
    /// (aws/aws-node-termination-handler#146); after a recommendation the notice brings the deadline.
    pub fn noticed(&mut self, action: Action, time: Option<Timestamp>, deadline: BootInstant, now: BootInstant) {
        if self.outcome.is_some() {
            return;
        }
        // A drill's deadline is nobody's but ours.
        let is_drill = self.terms.signal == Signal::Drill;
        let was_open = self.terms.is_open() || is_drill;
        let is_news = is_drill || (self.terms.signal != Signal::Notice && self.terms.time != time);
        self.terms.deadline = if was_open { deadline } else { self.terms.deadline.min(deadline) };
        if self.terms.signal != Signal::Notice {
            self.terms.incident.action = Some(action);
            self.terms.time = time;
            self.terms.owner_sees = Signal::Notice;
        }
        if !self.terms.terminating {
            self.terms.signal = Signal::Notice;
        }
        self.journal.deadline = self.terms.announced_deadline();
        if is_news {
            self.become_urgent(now);
        }
    }

    /// AWS's time was in doubt, or of a weaker signal; by this the times of AWS's are reckoned from now on.
    pub fn correct_time(&mut self, aws_now: Timestamp, now: BootInstant) {
        self.terms.clocks = (aws_now, now);
    }

    /// The Auto Scaling group terminates this instance, while this handover is under way. `deadline` is taken where there
    /// was none.
    pub fn group_terminates(&mut self, into_pool: bool, deadline: BootInstant, now: BootInstant) {
        if self.terms.terminating || self.outcome.is_some() {
            return;
        }
        if self.terms.is_open() || self.terms.signal == Signal::Drill {
            self.terms.signal = Signal::LifecycleState;
            self.terms.incident.action = Some(Action::Terminate);
            self.terms.deadline = deadline;
        }
        self.terms.terminating = true;
        self.terms.into_pool = into_pool;
        self.journal.deadline = self.terms.announced_deadline();
        if let Some(successor) = &mut self.successor {
            successor.group_terminates(&self.terms, now);
        }
        self.look_for_group(now);
        if self.terms.signal == Signal::LifecycleState {
            self.say_begun(now);
        }
    }

    /// The announced interruption is off: no further call is given out.
    pub fn withdraw(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some(Outcome { complete: false, duties: Vec::new() });
        }
    }

    /// The calls to begin now. Each is performed once, within its limit, and answered with [`Handover::answered`].
    pub fn due(&mut self, now: BootInstant) -> Vec<Due> {
        if self.end(now) {
            return Vec::new();
        }
        let mut calls: Vec<(Duty, Call)> = Vec::new();
        let leave = self.effective_leave();
        let mut leaves = std::mem::take(&mut self.leaves);
        let mut hooks = std::mem::take(&mut self.hooks);
        let mut successor = self.successor.take();
        let mut quiet = std::mem::replace(&mut self.quiet, Quiet::new(now, 0));
        let mut mark = std::mem::replace(&mut self.mark, Mark::new(now, 0));
        let mut journal = std::mem::replace(&mut self.journal, Journal::silent());
        let view = self.view(now, &leave, &leaves, successor.as_ref(), &quiet, &hooks);
        // Of target groups that are not found yet nothing is begun.
        let is_leaving = view.may_leave && (view.left_at.is_some() || !leaves.is_empty());
        let (looks_who_serves, crowd) = (view.looks_who_serves, view.crowd);
        // The order matters: deregistrations leave first.
        for (index, leave) in leaves.iter_mut().enumerate() {
            calls.extend(leave.due(&view, &mut journal).map(|call| (Duty::Leave(index), call)));
        }
        let look = quiet.due(&view, &mut journal).map(|call| (Duty::Quiet, call));
        let view = View { quiet: quiet.is_quiet(), ..view };
        if let Some(successor) = &mut successor {
            calls.extend(successor.due(&view, &mut journal));
        }
        calls.extend(look);
        for hook in &mut hooks {
            calls.extend(hook.due(&view).map(|call| (Duty::Hook(hook.kind()), call)));
        }
        calls.extend(mark.due(&view).map(|call| (Duty::Mark, call)));
        self.is_leaving |= is_leaving;
        self.leaves = leaves;
        self.hooks = hooks;
        self.successor = successor;
        self.quiet = quiet;
        self.mark = mark;
        self.journal = journal;
        if looks_who_serves {
            let (registrations, is_marked) = (&self.registrations, self.mark.is_settled());
            let taken_out_of = self.successor.as_ref().map(|it| it.taken_out_of(AskGroup::leaves)).unwrap_or_default();
            let looks = Look { now, terms: &self.terms, registrations, taken_out_of, is_marked, crowd };
            calls.extend(self.light.due(&looks).into_iter().map(|(index, call)| (Duty::Light(index), call)));
        }
        calls.extend(self.look_ups.due(now));
        // A group that terminates this instance has no deadline: it waits for its hooks.
        let left = self.terms.deadline.since(now);
        let left = if self.group_waits() { left.max(LOOK_UP_LIMIT) } else { left };
        calls.into_iter().map(|(duty, call)| Due { duty, limit: call.limit(left), call }).collect()
    }

    /// Takes the answer to a call that [`Handover::due`] gave out. Returns the failure if it is one that is tried again:
    /// some of AWS's refusals mean that a thing is done.
    pub fn answered(&mut self, now: BootInstant, duty: Duty, answer: Answer) -> Option<Failure> {
        if self.outcome.is_some() {
            return None;
        }
        if answer.is_throttled() {
            self.crowd.was_throttled(now);
        }
        self.take(now, duty, answer);
        let death = self.successor.as_mut().and_then(SuccessorDuties::take_death);
        if death.is_some() {
            return death;
        }
        // The first, the second, the fourth: the log is to be read in a hurry.
        let pace = self.pace(duty).filter(|pace| pace.failures.is_power_of_two())?;
        pace.last_failure.clone()
    }

    fn pace(&self, duty: Duty) -> Option<&Pace> {
        match duty {
            Duty::FindRegistrations(_) | Duty::FindPlan | Duty::FindGroup => self.look_ups.pace(duty),
            Duty::Leave(index) => self.leaves.get(index).map(Leave::pace),
            Duty::Quiet => Some(self.quiet.pace()),
            Duty::Mark => Some(self.mark.pace()),
            Duty::Light(index) => self.light.pace(index),
            Duty::Hook(_) => None,
            Duty::Ask | Duty::Find | Duty::Watch | Duty::Register(_) | Duty::MemberState | Duty::Lifecycle(_) => {
                self.successor.as_ref().and_then(|successor| successor.pace(duty))
            }
        }
    }

    fn take(&mut self, now: BootInstant, duty: Duty, answer: Answer) {
        match duty {
            Duty::FindRegistrations(index) => {
                if let Some((registrations, unclear)) = self.look_ups.registrations_answered(now, index, answer) {
                    self.unclear.extend(unclear);
                    self.learn_registrations(registrations, now);
                }
            }
            Duty::FindPlan => match answer {
                Answer::Plan(plan) if self.look_ups.looks_for_plan() => self.learn_plan(*plan, now),
                other => self.look_ups.plan_failed(now, other),
            },
            Duty::FindGroup => self.group_answered(now, answer),
            Duty::Leave(index) => {
                if let (Some(leave), Some(known)) = (self.leaves.get_mut(index), self.registrations.get_mut(index)) {
                    leave.answered(now, &self.terms, answer, &mut self.journal);
                    // A port that the look-ups did not know is drained, succeeded and put back like the others.
                    known.targets = leave.targets().to_vec();
                }
            }
            Duty::Quiet => self.quiet.answered(now, answer),
            Duty::Mark => self.mark.answered(now, &self.terms, answer),
            Duty::Light(index) => self.light.answered(now, index, &self.terms, &self.registrations, answer),
            Duty::Hook(kind) => {
                if let Some(hook) = self.hooks.iter_mut().find(|hook| hook.kind() == kind) {
                    hook.answered(now, answer);
                }
            }
            Duty::Ask | Duty::Find | Duty::Watch | Duty::Register(_) | Duty::MemberState | Duty::Lifecycle(_) => {
                if let Some(successor) = &mut self.successor {
                    successor.answered(now, &self.terms, duty, answer, &mut self.journal);
                }
            }
        }
    }

    /// When [`Handover::due`] has to be asked again at the latest, if nothing is answered before.
    pub fn wake(&self) -> Option<BootInstant> {
        if self.outcome.is_some() {
            return None;
        }
        let deadline = self.terms.deadline;
        let leave = self.effective_leave();
        let marks = [
            deadline,
            deadline - leave.reserve,
            deadline - LAST_CALLS,
            deadline - watch::LAST_LOOK,
            self.latest_leave(&leave),
            self.latest_leave(&leave) - light::AHEAD,
        ];
        let paces = self
            .look_ups
            .wakes()
            .chain(self.leaves.iter().filter_map(Leave::wake))
            .chain(self.quiet.wake())
            .chain(self.mark.wake())
            .chain(self.light.wakes())
            .chain(self.successor.iter().flat_map(SuccessorDuties::wakes));
        // What was due when due calls were last asked for was given out then, or waits for an answer.
        let fixed = marks.into_iter().chain([self.begun_at + ALONE_AT_MOST]);
        fixed.chain(paces).filter(|instant| *instant > self.journal.seen).min()
    }

    pub fn take_milestones(&mut self) -> Vec<Milestone> {
        std::mem::take(&mut self.journal.reached)
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Takes registrations that were found since the beginning; those known already are passed over.
    pub fn learn_registrations(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        if self.outcome.is_some() {
            return;
        }
        for registration in registrations {
            if self.registrations.iter().any(|known| known.target_group == registration.target_group) {
                continue;
            }
            let seed = seed(&self.terms, registration.target_group.as_str());
            self.leaves.push(Leave::new(registration.clone(), self.terms.arrival_lands_by, now, seed));
            self.registrations.push(registration);
        }
    }

    /// Takes what a scan of all target groups found: nothing is left to look up.
    pub fn learn_all_registrations(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        self.look_ups.everything_was_scanned();
        self.learn_registrations(registrations, now);
    }

    fn learn_plan(&mut self, plan: Plan, now: BootInstant) {
        let plan = plan.at(&self.terms.identity, self.terms.owner_sees);
        self.look_ups.plan_is_known();
        self.crowd.learn_fellows(plan.fellows());
        self.journal.owner = Some(plan.owner().to_owned());
        if let (Plan::Group { group, .. }, false) = (&plan, self.look_ups.registrations_are_known()) {
            self.look_ups.look_for_registrations(Some(group.target_groups.clone()), now);
        }
        let manner = self.terms.manner(&self.settings.leave, Some(&plan));
        self.successor = Some(SuccessorDuties::new(plan, &self.terms, manner, now));
    }

    /// Time is short now: what waited for a better moment goes on at once.
    fn become_urgent(&mut self, now: BootInstant) {
        let manner = self.manner();
        if let Some(successor) = &mut self.successor {
            successor.become_urgent(manner, &self.terms, now);
        }
        self.say_begun(now);
    }

    fn manner(&self) -> Manner {
        self.terms.manner(&self.settings.leave, self.plan())
    }

    /// The reserve of a short notice is no more than a quarter of it.
    fn effective_leave(&self) -> LeaveSettings {
        let reserve = self.settings.leave.reserve.min(self.terms.deadline.since(self.begun_at) / 4);
        LeaveSettings { reserve, ..self.settings.leave.clone() }
    }

    /// The last instant at which leaving still leaves time to drain; earlier among many who leave then.
    fn latest_leave(&self, leave: &LeaveSettings) -> BootInstant {
        let longest = self.registrations.iter().map(|registration| registration.deregistration_delay).max();
        let latest = self.terms.deadline - leave.reserve - time_to_drain(leave, longest.unwrap_or(COUNTED_DELAY));
        self.crowd.spread_leaving(latest, seed(&self.terms, "leave"))
    }

    fn say_begun(&mut self, now: BootInstant) {
        let known = self.look_ups.registrations_are_known();
        let registrations = known.then_some(self.registrations.as_slice());
        let serves_on = self.manner() == Manner::ServeOn;
        let message = words::begun(&self.terms, registrations, self.plan(), serves_on, now);
        let kind = if self.terms.is_open() { MilestoneKind::Recommended } else { MilestoneKind::Noticed };
        self.journal.reach(now, kind, message, About::default());
    }
}

/// The time that draining is given after serving on, of a target group with this deregistration delay.
pub fn time_to_drain(leave: &LeaveSettings, deregistration_delay: Duration) -> Duration {
    deregistration_delay.min(COUNTED_DELAY).max(leave.settle)
}

fn seed(terms: &Terms, duty: &str) -> u64 {
    retry::seed(&format!("{} {} {duty}", terms.identity.instance_id, terms.incident.boot_id))
}

#[cfg(test)]
pub(crate) mod tests;
