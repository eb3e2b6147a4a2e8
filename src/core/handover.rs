//! The handover: from a signal to its outcome. What to do next is decided here and nowhere else.
//!
//! A handover is a list of duties. [`Handover::due`] says which calls to begin now, the daemon performs them, one task
//! a call, and [`Handover::answered`] takes the answers. Invariants: no clock, no network, no log, no randomness; no
//! call begins after the deadline; no duty waits for another's success unless the work itself demands it.

mod among;
mod ask;
mod capacity;
mod course;
mod crowd;
mod deaths;
mod duties;
mod ending;
mod facts;
mod find;
mod group;
mod hook;
mod last_look;
mod launch;
mod leave;
mod lifecycle;
mod look_ups;
mod manner;
mod mark;
mod other_targets;
mod quiet;
mod register;
mod successor;
mod watch;
mod words;

use std::time::Duration;

use jiff::Timestamp;

use crate::core::call::{Answer, LOOK_UP_LIMIT};
use crate::core::duty::{self, Attempts, Due, DutyId};
use crate::core::incident::{About, Incident, Outcome, Takes};
use crate::core::model::{Action, BootInstant, HookTime, InstanceId, Milestone, MilestoneKind, Registration, Signal};
use crate::core::plan::Plan;
use crate::core::retry::Failure;

use course::{News, seed};
use crowd::Crowd;
pub(crate) use crowd::FEW;
use duties::Duties;
pub(crate) use facts::time_to_drain;
use facts::{ALONE_AT_MOST, Facts, LAST_CALLS};
use leave::Leave;
use manner::Manner;
pub(crate) use manner::{HandoverSettings, LookedUp, OnNotice};
pub(crate) use other_targets::{one_stays, tags_of};
use successor::SuccessorDuties;
pub(crate) use words::{asked_at_a_notice, asked_in_a_drill};

pub struct Handover {
    facts: Facts,
    duties: Duties,
}

impl Handover {
    /// Begins a handover. It also leaves the target groups of registrations that the incident holds already.
    pub fn begin(
        mut incident: Incident,
        settings: HandoverSettings,
        looked_up: LookedUp,
        now: BootInstant,
    ) -> Handover {
        let found = std::mem::take(incident.registrations.known_mut());
        (incident.missing, incident.unclear) = (looked_up.missing, looked_up.unclear);
        let mut handover = Handover {
            duties: Duties::new(&incident, &settings, now),
            facts: Facts {
                begun_at: now,
                crowd: Crowd::new(now),
                asked_at: now,
                incident,
                settings,
                told_unfinished: false,
                warning: None,
            },
        };
        let named = || looked_up.plan.as_ref().map(Plan::owners_target_groups).unwrap_or_default().to_vec();
        match looked_up.registrations {
            None => handover.duties.look_for_registrations(None, &handover.facts.incident, now),
            // Only these: a scan of the whole account would use up the calls that others need for their proofs.
            Some(_) if looked_up.more_expected => {
                handover.duties.look_for_registrations(Some(named()), &handover.facts.incident, now);
            }
            Some(_) => {}
        }
        handover.learn_registrations(looked_up.registrations.unwrap_or_default(), now);
        handover.learn_registrations(found, now);
        match looked_up.plan {
            Some(plan) if !plan.is_doubtful() => handover.learn_plan(plan, now),
            // After the notice there is no later occasion to ask.
            doubted => handover.duties.look_for_plan(doubted, &handover.facts.incident, now),
        }
        handover.look_for_group(now);
        handover.say_begun(now);
        handover.note();
        handover
    }

    pub fn incident(&self) -> &Incident {
        &self.facts.incident
    }

    pub(crate) fn incident_mut(&mut self) -> &mut Incident {
        &mut self.facts.incident
    }

    /// Gives the incident back, as far as the handover has come.
    pub(crate) fn into_incident(self) -> Incident {
        self.facts.incident
    }

    /// Writes the progress of the duties into the incident.
    fn note(&mut self) {
        let all_are_known = self.duties.registrations_are_known();
        let launches_first = self.launches_first();
        let launch = self.duties.successor.as_ref().and_then(SuccessorDuties::step);
        let incident = &mut self.facts.incident;
        incident.launch = launch.or(incident.launch);
        incident.registrations.are_all_known(all_are_known);
        incident.launched_first |= launches_first;
    }

    pub fn plan(&self) -> Option<&Plan> {
        self.facts.incident.plan.as_ref()
    }

    /// Tells whether the group is asked for a successor before this instance leaves.
    fn launches_first(&self) -> bool {
        let asks = matches!(self.plan(), Some(Plan::Group { how, .. }) if how.asks());
        asks && self.manner() != Manner::AtOnce
    }

    pub fn successor_id(&self) -> Option<InstanceId> {
        self.duties.successor.as_ref().and_then(SuccessorDuties::id)
    }

    pub fn is_quiet(&self) -> bool {
        self.duties.quiet.is_quiet()
    }

    /// Tells whether a call is in flight that changes something at AWS.
    pub(crate) fn is_writing(&self) -> bool {
        self.duties.list().any(|duty| duty.attempts().is_writing())
    }

    /// Takes a notice that comes meanwhile: the incident stays the same. A known notice's new time counts only if it is
    /// nearer (aws/aws-node-termination-handler#146). After a recommendation the notice brings the deadline.
    pub fn noticed(&mut self, action: Action, time: Option<Timestamp>, deadline: BootInstant, now: BootInstant) {
        if self.outcome().is_some() {
            return;
        }
        let incident = &mut self.facts.incident;
        // The deadline of a drill was our own choice, so the notice's deadline replaces it.
        let is_drill = !incident.signal.is_real();
        let was_open = incident.is_open() || is_drill;
        let is_new = incident.signal != Signal::Notice && incident.time.is_none() && time.is_some();
        let is_news = is_drill || is_new;
        incident.deadline = if was_open { deadline } else { incident.deadline.min(deadline) };
        if incident.signal != Signal::Notice {
            incident.id.action = Some(action);
            incident.time = time;
            incident.start.owner_sees = Signal::Notice;
        }
        // A termination that the group began by itself goes on to complete the group's hooks.
        if incident.signal != Signal::LifecycleState {
            incident.signal = Signal::Notice;
        }
        if is_news {
            self.become_urgent(now);
        }
        self.note();
    }

    /// Takes a nearer time of the scheduled event. A difference of two seconds may come from the clocks.
    pub fn has_to_end_by(&mut self, deadline: BootInstant) {
        if deadline + Duration::from_secs(2) < self.facts.incident.deadline {
            self.facts.incident.deadline = deadline;
            self.note();
        }
    }

    /// Takes the news that the Auto Scaling group terminates this instance. `deadline` is taken if there was none.
    pub fn group_terminates(&mut self, takes: Takes, deadline: BootInstant, now: BootInstant) {
        let incident = &mut self.facts.incident;
        if incident.is_terminating() || incident.outcome.is_some() {
            return;
        }
        if incident.is_open() || !incident.signal.is_real() {
            incident.signal = Signal::LifecycleState;
            incident.id.action = Some(Action::Terminate);
            incident.deadline = deadline;
        }
        incident.group_takes = Some(takes);
        if let Some(successor) = &mut self.duties.successor {
            successor.group_terminates(incident, now);
        }
        self.look_for_group(now);
        if self.facts.incident.signal == Signal::LifecycleState {
            self.say_begun(now);
        }
        self.note();
    }

    /// Ends the handover without further calls, because the announced interruption is off.
    pub fn withdraw(&mut self) {
        if self.outcome().is_none() {
            self.facts.incident.end(Outcome { complete: false, duties: Vec::new() });
        }
    }

    /// The calls to begin now. Each is performed once, within its limit, and answered with [`Handover::answered`].
    pub fn due(&mut self, now: BootInstant) -> Vec<Due> {
        if self.end(now) {
            return self.look_after(now);
        }
        let mut situation = self.facts.situation(now, &self.duties);
        situation.incident.swapped_out.clone_from(&situation.unneeded);
        let calls = self.duties.due(&mut situation);
        let is_found = situation.left_at.is_some();
        // While no target group is found there is nothing to leave.
        let is_leaving = situation.may_leave && (is_found || !self.duties.leaves.is_empty());
        if is_leaving {
            self.facts.incident.leave(now);
        }
        self.say_what_is_unfinished(now);
        self.note();
        // A group that terminates this instance has no deadline, because it waits for its hooks.
        let left = self.facts.incident.deadline.since(now);
        let left = if self.group_waits() { left.max(LOOK_UP_LIMIT) } else { left };
        duty::limited(calls, self.duties.list().map(|duty| duty.attempts()), left)
    }

    /// Takes the answer to a call of [`Handover::due`]. Returns the failure if it is one that is tried again: some of
    /// AWS's refusals mean that a thing is done.
    pub fn answered(&mut self, now: BootInstant, id: DutyId, answer: Answer) -> Option<Failure> {
        if self.outcome().is_some() && !self.begins_again(now, id, &answer) {
            self.duties.find(id)?.attempts_mut().was_answered();
            return None;
        }
        if answer.is_throttled() {
            self.facts.crowd.was_throttled(now);
        }
        if let Some(current) = answer.current() {
            self.facts.incident.is_shown(&current.members);
        }
        let hooks_before = self.hooks_time();
        if let Some(successor) = &mut self.duties.successor {
            successor.overhear(now, &self.facts.incident, id, &answer);
        }
        self.duties.hear_of_target_groups(&answer, &self.facts.incident, self.facts.crowd, now);
        let mut situation = self.facts.situation(now, &self.duties);
        let (news, failure) = duty::take(self.duties.find(id)?, now, &mut situation, answer);
        let failure = match (news, &mut self.duties.successor) {
            (
                news @ (News::Asked(_) | News::Found(_) | News::Watched(_) | News::Members(_) | News::HookNotOpen),
                Some(successor),
            ) => successor.learn(&mut situation, news).or(failure),
            (News::LastSeen(index, rows), _) => self.seen_at_last(index, &rows, now).or(failure),
            (news, _) => {
                self.learn(news, now);
                failure
            }
        };
        let hooks = self.hooks_time();
        if hooks != hooks_before && hooks == Some(HookTime::Open) {
            self.duties.look_for_group_again(&self.facts.incident, now);
        } else if hooks != hooks_before && hooks_before.is_none() {
            self.look_for_group(now);
        }
        self.note();
        failure
    }

    fn learn(&mut self, news: News, now: BootInstant) {
        match news {
            News::Registrations { found, unclear, missing } => {
                let known = &mut self.facts.incident.unclear;
                let unclear: Vec<_> = unclear.into_iter().filter(|group| !known.contains(group)).collect();
                known.extend(unclear);
                self.facts.incident.missing = missing;
                self.learn_registrations(found, now);
            }
            News::Targets(index, targets) => {
                // A port that the look-ups did not know is drained, succeeded and put back like the others.
                let known = self.facts.incident.registrations.known_mut().get_mut(index);
                known.into_iter().for_each(|known| known.targets.clone_from(&targets));
            }
            News::Plan(plan) if self.plan() != Some(&*plan) => self.learn_plan(*plan, now),
            News::Group(plan) => self.learn_group(*plan, now),
            _ => {}
        }
    }

    /// The instant at which [`Handover::due`] has to be asked again at the latest, if nothing is answered before.
    pub fn wake(&self) -> Option<BootInstant> {
        if self.outcome().is_some() {
            return self.looks_after_at();
        }
        let (deadline, leave) = (self.facts.incident.deadline, self.facts.effective_leave());
        let latest_leave = self.facts.latest_leave(&leave);
        let marks = [
            deadline,
            deadline - leave.reserve,
            deadline - LAST_CALLS,
            deadline - crowd::LAST_LOOK,
            latest_leave,
            latest_leave - other_targets::AHEAD,
            self.facts.begun_at + ALONE_AT_MOST,
        ];
        // Calls that were due at `asked_at` were given out then, or wait for an answer.
        let asked_at = self.facts.asked_at;
        let marks = marks.into_iter().filter(|instant| *instant > asked_at);
        marks.chain(duty::wake(self.duties.list(), asked_at)).min()
    }

    pub fn take_milestones(&mut self) -> Vec<Milestone> {
        self.facts.incident.take_untold()
    }

    /// News for a person, beside the milestones.
    pub(crate) fn take_news(&mut self) -> Option<String> {
        self.duties.quiet.take_news()
    }

    /// A warning to a person, beside the milestones.
    pub(crate) fn take_remark(&mut self) -> Option<String> {
        self.facts.warning.take().or_else(|| self.duties.successor.as_mut()?.take_remark())
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.facts.incident.outcome.as_ref()
    }

    /// Takes registrations that were found since the beginning; those known already are passed over.
    pub fn learn_registrations(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        if self.outcome().is_some() {
            return;
        }
        for registration in registrations {
            if self
                .facts
                .incident
                .registrations
                .known()
                .iter()
                .any(|known| known.target_group == registration.target_group)
            {
                continue;
            }
            let seed = seed(&self.facts.incident, registration.target_group.as_str());
            let attempts = Attempts::new(DutyId::Leave(self.duties.leaves.len()), now, seed);
            let leave = Leave::new(registration.clone(), self.facts.incident.start.arrival_lands_by, attempts);
            self.duties.leaves.push(leave);
            if self.is_quiet() {
                // Nobody has looked yet at the requests of this target group.
                self.duties.quiet.begin_again(now);
            }
            self.facts.incident.registrations.known_mut().push(registration);
        }
    }

    /// Takes what a scan of all target groups found: nothing is left to look up.
    pub fn learn_all_registrations(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        self.duties.everything_was_scanned();
        self.learn_registrations(registrations, now);
        self.note();
    }

    fn learn_plan(&mut self, plan: Plan, now: BootInstant) {
        let facts = &mut self.facts;
        let plan = plan.at(&facts.incident.start.identity, facts.incident.start.owner_sees);
        facts.crowd.learn_fellows(plan.fellows());
        facts.incident.plan = Some(plan.clone());
        if !plan.is_doubtful() {
            self.duties.find_plan = None;
        }
        if let (Plan::Group { group, .. }, false) = (&plan, self.duties.first_registrations_are_known()) {
            self.duties.look_for_registrations(Some(group.target_groups.clone()), &facts.incident, now);
        }
        let manner = facts.incident.manner(&facts.settings.leave, Some(&plan));
        let mut successor = SuccessorDuties::new(plan, &facts.incident, manner, now);
        facts.incident.launch.into_iter().for_each(|step| successor.resume(step));
        self.duties.successor = Some(successor);
    }

    /// Lets the duties that waited for a better moment go on at once, because time is short now.
    fn become_urgent(&mut self, now: BootInstant) {
        let manner = self.manner();
        if let Some(successor) = &mut self.duties.successor {
            successor.become_urgent(manner, &self.facts.incident, now);
        }
        self.say_begun(now);
    }

    fn manner(&self) -> Manner {
        self.facts.incident.manner(&self.facts.settings.leave, self.plan())
    }

    fn say_begun(&mut self, now: BootInstant) {
        let known = self.facts.incident.registrations.known();
        let registrations = (self.duties.registrations_are_known() || !known.is_empty()).then_some(known);
        let latest = self.facts.latest_leave(&self.facts.effective_leave());
        let (incident, manner) = (&self.facts.incident, (self.manner(), now < latest));
        let message = words::begun(incident, registrations, self.plan(), manner, now);
        let kind = if incident.is_open() { MilestoneKind::Recommended } else { MilestoneKind::Noticed };
        self.facts.incident.reach(now, kind, message, About::default());
    }
}

#[cfg(test)]
pub(crate) mod tests;
