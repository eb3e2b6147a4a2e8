//! The handover: from a notice to its outcome. What to do next is decided here and nowhere else.
//!
//! A handover is a set of duties, each with its own stage and retries. [`Handover::due`] says which calls to begin now,
//! the daemon performs them, one task a call, and [`Handover::answered`] takes what came back. Invariants: no clock, no
//! network, no log, no randomness; no call is begun after the deadline; no duty waits for another's success unless the
//! work itself demands it; one call in flight a duty.

mod call;
mod capacity;
mod find;
mod group;
mod journal;
mod launch;
mod leave;
mod lifecycle;
mod outcome;
mod pace;
mod quiet;
mod register;
mod successor;
mod watch;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{Leave as LeaveSettings, When};
use crate::model::{Action, BootInstant, Identity, Incident, Milestone, MilestoneKind, Registration, TargetGroupArn};
use crate::plan::Plan;
use crate::retry::{self, Failure};

pub use call::{Answer, CALL_LIMIT, Call, Due, Duty};
use journal::{About, Journal};
use leave::Leave;
pub use outcome::{Outcome, Report};
use outcome::{join, seconds};
use pace::Pace;
use quiet::Quiet;
use successor::SuccessorDuties;

/// Of the longest deregistration delay no more than this is counted when serving on: the notice has no more to give.
const COUNTED_DELAY: Duration = Duration::from_secs(60);
/// How long the deregistration of a hibernating instance goes alone before the successor is asked for all the same.
const ALONE_AT_MOST: Duration = Duration::from_secs(5);

/// What a handover is about; fixed at first sight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub identity: Identity,
    pub incident: Incident,
    /// The notice's time, where it had one.
    pub time: Option<Timestamp>,
    pub deadline: BootInstant,
    /// A member launched before this is no successor: AWS's time at the first signal of this incident, less some slack.
    pub successors_since: Option<Timestamp>,
    /// An earlier process of this boot may have begun this handover already.
    pub resumed: bool,
    /// The plan was made before the notice: what it names as members is no successor.
    pub planned_before: bool,
}

/// What is known when the notice comes. `None` is looked up within the handover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub registrations: Option<Vec<Registration>>,
    pub plan: Option<Plan>,
    /// Target groups that the configuration names and AWS does not know: no handover is complete with them.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// What every duty may know of the others, as of now.
struct View<'a> {
    now: BootInstant,
    terms: &'a Terms,
    settings: &'a LeaveSettings,
    /// Leave the target groups now rather than serve on.
    may_leave: bool,
    /// When every deregistration had been accepted.
    left_at: Option<BootInstant>,
    /// Every deregistration went out and was answered once, whatever the answer.
    deregistration_tried: bool,
    /// Target health shows every registration `unused`: the load balancer is done with this instance.
    all_unused: bool,
    quiet: bool,
    registrations: &'a [Registration],
}

impl View<'_> {
    fn reserve_reached(&self) -> bool {
        self.now >= self.terms.deadline - self.settings.reserve
    }
}

/// A look-up of something that was not known when the notice came.
struct LookUp {
    call: Call,
    pace: Pace,
    answered: bool,
}

pub struct Handover {
    terms: Terms,
    settings: LeaveSettings,
    begun_at: BootInstant,
    /// The look-ups of registrations; more than one where the owner names target groups that are quicker to ask.
    look_ups: Vec<LookUp>,
    find_plan: Option<Pace>,
    registrations: Vec<Registration>,
    missing: Vec<String>,
    leaves: Vec<Leave>,
    quiet: Quiet,
    successor: Option<SuccessorDuties>,
    journal: Journal,
    outcome: Option<Outcome>,
}

impl Handover {
    pub fn begin(terms: Terms, settings: LeaveSettings, known: Known, now: BootInstant) -> Handover {
        // Of a short notice the reserve is no more than a quarter.
        let reserve = settings.reserve.min(terms.deadline.since(now) / 4);
        let settings = LeaveSettings { reserve, ..settings };
        let mut handover = Handover {
            begun_at: now,
            look_ups: Vec::new(),
            find_plan: None,
            registrations: Vec::new(),
            missing: known.missing,
            leaves: Vec::new(),
            quiet: Quiet::new(now, seed(&terms, "quiet")),
            successor: None,
            journal: Journal { deadline: terms.deadline, owner: None, reached: Vec::new(), seen: now },
            outcome: None,
            terms,
            settings,
        };
        match known.registrations {
            Some(registrations) => handover.learn_registrations(registrations, now),
            None => handover.look_up(None, now),
        }
        match known.plan {
            Some(plan) => handover.learn_plan(plan, now),
            None => handover.find_plan = Some(Pace::new(now, seed(&handover.terms, "plan"))),
        }
        handover.say_noticed(now);
        handover
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What is known by now: what the record keeps for the next process.
    pub fn known(&self) -> Known {
        Known {
            registrations: self.registrations_are_known().then(|| self.registrations.clone()),
            plan: self.successor.as_ref().map(|successor| successor.plan().clone()),
            missing: self.missing.clone(),
        }
    }

    /// A shifted notice: the same incident, and a deadline that only comes nearer.
    pub fn shorten(&mut self, deadline: BootInstant) {
        self.terms.deadline = self.terms.deadline.min(deadline);
        self.journal.deadline = self.terms.deadline;
    }

    /// The calls to begin now. Each is performed once, within its limit, and answered with [`Handover::answered`].
    pub fn due(&mut self, now: BootInstant) -> Vec<Due> {
        if self.end(now) {
            return Vec::new();
        }
        let mut calls: Vec<(Duty, Call)> = Vec::new();
        let mut leaves = std::mem::take(&mut self.leaves);
        let mut successor = self.successor.take();
        let mut quiet = std::mem::replace(&mut self.quiet, Quiet::new(now, 0));
        let mut journal = std::mem::replace(&mut self.journal, Journal::silent());
        let view = self.view(now, &leaves, successor.as_ref(), &quiet);
        // The order matters: deregistrations leave first.
        for (index, leave) in leaves.iter_mut().enumerate() {
            calls.extend(leave.due(&view).map(|call| (Duty::Leave(index), call)));
        }
        if let Some(successor) = &mut successor {
            calls.extend(successor.due(&view, &mut journal));
        }
        calls.extend(quiet.due(&view, &mut journal).map(|call| (Duty::Quiet, call)));
        self.leaves = leaves;
        self.successor = successor;
        self.quiet = quiet;
        self.journal = journal;
        for (index, look_up) in self.look_ups.iter_mut().enumerate() {
            if !look_up.answered && look_up.pace.begin(now) {
                calls.push((Duty::FindRegistrations(index), look_up.call.clone()));
            }
        }
        if self.find_plan.as_mut().is_some_and(|pace| pace.begin(now)) {
            calls.push((Duty::FindPlan, Call::FindPlan));
        }
        let left = self.terms.deadline.since(now);
        calls.into_iter().map(|(duty, call)| Due { duty, limit: call.limit(left), call }).collect()
    }

    /// Takes the answer to a call that [`Handover::due`] gave out. Returns the failure if it is one that is tried again:
    /// some of AWS's refusals mean that a thing is done.
    pub fn answered(&mut self, now: BootInstant, duty: Duty, answer: Answer) -> Option<Failure> {
        if self.outcome.is_some() {
            return None;
        }
        self.take(now, duty, answer);
        self.pace(duty).and_then(|pace| pace.last_failure.clone())
    }

    fn pace(&self, duty: Duty) -> Option<&Pace> {
        match duty {
            Duty::FindRegistrations(index) => self.look_ups.get(index).map(|look_up| &look_up.pace),
            Duty::FindPlan => self.find_plan.as_ref(),
            Duty::Leave(index) => self.leaves.get(index).map(Leave::pace),
            Duty::Quiet => Some(self.quiet.pace()),
            Duty::Ask | Duty::Find | Duty::Watch | Duty::Register(_) | Duty::Lifecycle(_) => {
                self.successor.as_ref().and_then(|successor| successor.pace(duty))
            }
        }
    }

    fn take(&mut self, now: BootInstant, duty: Duty, answer: Answer) {
        match duty {
            Duty::FindRegistrations(index) => self.registrations_answered(now, index, answer),
            Duty::FindPlan => match answer {
                Answer::Plan(plan) => self.learn_plan(*plan, now),
                other => self.find_plan.iter_mut().for_each(|pace| pace.failed_by(now, other.clone())),
            },
            Duty::Leave(index) => {
                if let Some(leave) = self.leaves.get_mut(index) {
                    leave.answered(now, &self.terms, answer, &mut self.journal);
                }
            }
            Duty::Quiet => self.quiet.answered(now, answer),
            Duty::Ask | Duty::Find | Duty::Watch | Duty::Register(_) | Duty::Lifecycle(_) => {
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
        let reserve = self.terms.deadline - self.settings.reserve;
        let fixed = [self.terms.deadline, reserve, self.latest_leave(), self.begun_at + ALONE_AT_MOST];
        let look_ups = self.look_ups.iter().filter(|look_up| !look_up.answered).filter_map(|it| it.pace.wake());
        let paces = look_ups
            .chain(self.find_plan.iter().filter_map(Pace::wake))
            .chain(self.leaves.iter().filter_map(Leave::wake))
            .chain(self.quiet.wake())
            .chain(self.successor.iter().flat_map(SuccessorDuties::wakes));
        // What was due when due calls were last asked for was given out then, or waits for an answer.
        fixed.into_iter().chain(paces).filter(|instant| *instant > self.journal.seen).min()
    }

    pub fn take_milestones(&mut self) -> Vec<Milestone> {
        std::mem::take(&mut self.journal.reached)
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// For the status: what is going on, in a sentence.
    pub fn reports(&self) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        if !self.registrations_are_known() {
            let trouble = self.look_ups.iter().filter(|look_up| !look_up.answered).map(|it| it.pace.trouble());
            let what = format!("in which target groups this instance is could not be found out: {}", join(trouble));
            reports.push(Report::new("target groups", false, what));
        } else if self.leaves.is_empty() && self.missing.is_empty() {
            reports.push(Report::new("leave", true, "this instance is in no target group"));
        }
        let unknown = "target-groups names it, and there is no such target group in this region";
        reports.extend(self.missing.iter().map(|name| Report::new(format!("leave {name}"), false, unknown)));
        reports.extend(self.leaves.iter().map(|leave| leave.report(self.begun_at)));
        reports.push(self.quiet.report(self.begun_at));
        match &self.successor {
            Some(successor) => reports.extend(successor.reports(self.begun_at)),
            None => {
                let trouble = self.find_plan.as_ref().map(Pace::trouble).unwrap_or_default();
                let what = format!("who launches it could not be found out: {trouble}");
                reports.push(Report::new("successor", false, what));
            }
        }
        reports
    }

    /// Ends the handover when every duty is done, or at the deadline. Returns whether it has ended.
    fn end(&mut self, now: BootInstant) -> bool {
        self.journal.seen = now;
        if self.outcome.is_some() {
            return true;
        }
        let reports = self.reports();
        let complete = reports.iter().all(|report| report.done);
        if !complete && now < self.terms.deadline {
            return false;
        }
        let undone = join(reports.iter().filter(|it| !it.done).map(|it| format!("{}: {}", it.duty, it.what)));
        let message = if complete {
            format!("handed over completely in {}", seconds(now.since(self.begun_at)))
        } else {
            format!("handed over in part, time is up: {undone}")
        };
        let successor = self.successor.as_ref().and_then(SuccessorDuties::id);
        self.journal.reach(now, MilestoneKind::HandedOver, message, successor.into());
        self.outcome = Some(Outcome { complete, duties: reports });
        true
    }

    /// Takes registrations that were found since the notice; those known already are passed over.
    pub fn learn_registrations(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        if self.outcome.is_some() {
            return;
        }
        for registration in registrations {
            if self.registrations.iter().any(|known| known.target_group == registration.target_group) {
                continue;
            }
            let seed = seed(&self.terms, registration.target_group.as_str());
            self.leaves.push(Leave::new(registration.clone(), now, seed));
            self.registrations.push(registration);
        }
    }

    fn learn_plan(&mut self, plan: Plan, now: BootInstant) {
        self.find_plan = None;
        self.journal.owner = Some(plan.owner().to_owned());
        if let (Plan::Group { group, .. }, false) = (&plan, self.registrations_are_known()) {
            self.look_up(Some(group.target_groups.clone()), now);
        }
        self.successor = Some(SuccessorDuties::new(plan, &self.terms, &self.settings, now));
    }

    fn look_up(&mut self, among: Option<Vec<TargetGroupArn>>, now: BootInstant) {
        let pace = Pace::new(now, seed(&self.terms, "registrations"));
        self.look_ups.push(LookUp { call: Call::FindRegistrations { among }, pace, answered: false });
    }

    /// Takes what a scan of all target groups found: nothing is left to look up.
    pub fn learn_all_registrations(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        self.look_ups.iter_mut().for_each(|look_up| look_up.answered = true);
        self.learn_registrations(registrations, now);
    }

    fn registrations_answered(&mut self, now: BootInstant, index: usize, answer: Answer) {
        let Some(look_up) = self.look_ups.get_mut(index) else { return };
        match answer {
            Answer::Registrations(registrations) => {
                look_up.answered = true;
                self.learn_registrations(registrations, now);
            }
            other => look_up.pace.failed_by(now, other),
        }
    }

    fn registrations_are_known(&self) -> bool {
        self.look_ups.iter().all(|look_up| look_up.answered)
    }

    /// The last instant at which leaving still leaves time to drain.
    fn latest_leave(&self) -> BootInstant {
        let longest = self.registrations.iter().map(|registration| registration.deregistration_delay).max();
        let counted = longest.unwrap_or(COUNTED_DELAY).min(COUNTED_DELAY);
        self.terms.deadline - self.settings.reserve - self.settings.quiet_for - counted
    }

    fn view<'a>(
        &'a self,
        now: BootInstant,
        leaves: &[Leave],
        successor: Option<&SuccessorDuties>,
        quiet: &Quiet,
    ) -> View<'a> {
        let serve_on = self.settings.when == When::SuccessorHealthy
            && self.terms.incident.action != Action::Hibernate
            && now < self.latest_leave()
            && successor.is_none_or(SuccessorDuties::is_worth_waiting_for);
        let all_left = self.registrations_are_known().then(|| leaves.iter().map(Leave::accepted_at));
        let left_at = all_left.and_then(|instants| instants.collect::<Option<Vec<_>>>());
        View {
            now,
            terms: &self.terms,
            settings: &self.settings,
            may_leave: !serve_on,
            left_at: left_at.map(|instants| instants.into_iter().max().unwrap_or(self.begun_at)),
            deregistration_tried: now >= self.begun_at + ALONE_AT_MOST
                || (self.registrations_are_known() && leaves.iter().all(Leave::was_tried)),
            all_unused: !leaves.is_empty() && leaves.iter().all(Leave::is_unused),
            quiet: quiet.is_quiet(),
            registrations: &self.registrations,
        }
    }

    fn say_noticed(&mut self, now: BootInstant) {
        let action = self.terms.incident.action;
        let again = if self.terms.resumed { ", seen again after a restart" } else { "" };
        let groups = match self.registrations.as_slice() {
            _ if !self.registrations_are_known() => "leave the target groups once they are found".to_owned(),
            [] => "this instance is in no target group".to_owned(),
            registrations => format!("leave {}", join(registrations.iter().map(|it| it.name().to_owned()))),
        };
        let plan = match &self.successor {
            Some(successor) => successor.plan().to_string(),
            None => "find out who launches a successor".to_owned(),
        };
        let left = seconds(self.terms.deadline.since(now));
        let what = match action {
            Action::Hibernate => format!("AWS hibernates this instance, which may stand still at any moment{again}"),
            _ => format!("AWS will {action} this instance in {left}{again}"),
        };
        let message = format!("{what}; now: {groups}; {plan}");
        self.journal.reach(now, MilestoneKind::Noticed, message, About::default());
    }
}

fn seed(terms: &Terms, duty: &str) -> u64 {
    retry::seed(&format!("{} {} {duty}", terms.identity.instance_id, terms.incident.boot_id))
}

#[cfg(test)]
mod tests;
