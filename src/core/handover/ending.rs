//! When a handover has ended, and how that is told.

use super::outcome::{join, seconds};
use super::successor::SuccessorDuties;
use super::{Answer, Handover, Outcome, Report, seed};
use crate::core::model::{BootInstant, MilestoneKind};
use crate::core::plan::Plan;

impl Handover {
    /// Ends the handover when nothing is left to try, or at the deadline. Returns whether it has ended.
    pub(super) fn end(&mut self, now: BootInstant) -> bool {
        self.journal.seen = now;
        if self.outcome.is_some() {
            return true;
        }
        if self.successor.as_ref().is_some_and(SuccessorDuties::owner_is_gone) {
            self.look_ups.look_for_plan_again(now);
        }
        // The usual case, and a cheap one.
        let leaves_still = self.leaves.iter().any(|leave| !leave.is_over());
        if leaves_still && !self.terms.is_open() && now < self.terms.deadline {
            return false;
        }
        let reports = self.reports();
        let complete = reports.iter().all(|report| report.done || report.aside);
        let settled = reports.iter().all(|report| report.settled);
        let stays = self.stays(now);
        let is_early = stays.is_none() && (now < self.terms.deadline || self.group_waits());
        // Nothing is told as it was a while ago: the successor may have died since.
        let mut is_to_be_seen = || self.successor.as_mut().is_some_and(|successor| successor.is_to_be_seen_again(now));
        if is_early && (!settled || is_to_be_seen()) {
            return false;
        }
        let undone = || join(reports.iter().filter(|it| !it.done).map(|it| format!("{}: {}", it.duty, it.what)));
        // Of duties that there was no need for nothing is told.
        let duties = if stays.is_some() { Vec::new() } else { reports.clone() };
        let message = match stays {
            Some(why) => format!("this instance stays in service: {why}"),
            None if complete => format!("handed over completely in {}", seconds(now.since(self.begun_at))),
            None if settled => format!("handed over in part: {}", undone()),
            None => format!("handed over in part, time is up: {}", undone()),
        };
        self.journal.reach(now, MilestoneKind::HandedOver, message, self.successor_id().into());
        self.outcome = Some(Outcome { complete, duties });
        true
    }

    /// The fate of each duty so far.
    pub fn reports(&self) -> Vec<Report> {
        let mut reports: Vec<Report> = self.look_ups.reports();
        if self.look_ups.registrations_are_known() && self.leaves.is_empty() && self.missing.is_empty() {
            reports.push(Report::new("leave", true, "this instance is in no target group"));
        }
        let unknown = "target-groups names it, and there is no such target group in this region";
        // Nothing is tried there: the end does not wait for it.
        let missing = self.missing.iter().map(|name| Report::new(format!("leave {name}"), false, unknown).settled());
        reports.extend(missing);
        let is_alone = |index: usize| self.light.is_alone_in(index);
        let leaves = self.leaves.iter().enumerate();
        reports.extend(leaves.map(|(index, leave)| leave.report(self.begun_at, is_alone(index))));
        reports.push(self.quiet.report(self.begun_at));
        reports.extend(self.successor.iter().flat_map(|successor| successor.reports(self.begun_at)));
        reports.extend(self.hooks.iter().map(|hook| hook.report(self.begun_at)));
        reports.extend(self.mark.report());
        reports
    }

    /// By when this handover is over; `None` while it waits for a group's hooks, which have no deadline of ours.
    pub fn ends_by(&self) -> Option<BootInstant> {
        (!self.group_waits()).then_some(self.terms.deadline)
    }

    /// Tells whether the group terminates this instance and waits for its hooks, or may: they have no deadline of ours. Only
    /// an interruption that AWS has announced ends this instance before them.
    pub(super) fn group_waits(&self) -> bool {
        let waits = || self.successor.as_ref().is_some_and(|successor| successor.lifecycles.is_waited_for());
        self.terms.ends_by_group() && (self.look_ups.looks_for_group() || waits())
    }

    /// The hooks that hold this instance up are those of the group as it is now, whoever the plan says launches a successor.
    pub(super) fn look_for_group(&mut self, now: BootInstant) {
        if self.terms.ends_by_group() {
            self.look_ups.look_for_group(self.crowd, now);
        }
    }

    /// Takes the group that terminates this instance; nobody, where no group holds it any more.
    pub(super) fn group_answered(&mut self, now: BootInstant, answer: Answer) {
        let plan = match answer {
            Answer::Plan(plan) => *plan,
            other => return self.look_ups.group_failed(now, other),
        };
        self.look_ups.group_is_known();
        match (&mut self.successor, plan) {
            (None, plan) => self.learn_plan(plan, now),
            (Some(successor), Plan::Group { group, .. }) => {
                successor.lifecycles.learn(&group, &|hook| seed(&self.terms, hook));
            }
            (Some(_), _) => {}
        }
    }

    /// Why this instance, of which no interruption is announced, does not leave at all.
    fn stays(&self, now: BootInstant) -> Option<String> {
        if !self.terms.is_open() || self.is_leaving {
            return None;
        }
        let in_vain = self.successor.as_ref().and_then(SuccessorDuties::is_in_vain);
        let waited = seconds(self.terms.deadline.since(self.begun_at));
        in_vain.or_else(|| (now >= self.terms.deadline).then(|| format!("no successor was healthy within {waited}")))
    }
}
