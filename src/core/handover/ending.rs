//! Decides whether a handover has ended, and how the end is reported.

use std::time::Duration;

use super::Handover;
use super::course::seed;
use super::crowd::Bucket;
use super::duties::Duties;
use super::facts::Facts;
use super::last_look::LastLook;
use super::leave::Leave;
use super::other_targets::OtherTargets;
use super::register::TARGETS_A_CALL;
use super::successor::SuccessorDuties;
use super::watch::LOOK_HOLDS;
use super::words::seconds;
use crate::core::call::Answer;
use crate::core::duty::{Attempts, Due, Duty, DutyId, DutyReport};
use crate::core::incident::Outcome;
use crate::core::model::{BootInstant, HookTime, Instance, MilestoneKind, Signal, TargetGroupArn, TargetHealth};
use crate::core::plan::Plan;
use crate::core::retry::{Failure, FailureKind};

/// With less time left than this a successor that has died is not replaced.
const LEAST_LEFT: Duration = Duration::from_secs(25);

impl Handover {
    /// The fate of each duty so far.
    pub fn reports(&self) -> Vec<DutyReport> {
        let (duties, begun_at) = (&self.duties, self.facts.begun_at);
        let mut reports = duties.look_ups_reports(begun_at);
        if duties.registrations_are_known() && duties.leaves.is_empty() && self.facts.incident.missing.is_empty() {
            reports.push(DutyReport::new("leave", true, "this instance is in no target group"));
        }
        let unknown = "target-groups names it, and there is no such target group in this region";
        // Nothing is tried for such a group, so the end does not wait for it.
        let missing = |name: &String| DutyReport::new(format!("leave {name}"), false, unknown).settled();
        reports.extend(self.facts.incident.missing.iter().map(missing));
        let unclear = |group: &TargetGroupArn| {
            let what = "it is not known whether this instance is in it";
            DutyReport::new(format!("leave {}", group.name()), false, what).settled()
        };
        reports.extend(self.facts.incident.unclear_groups().map(unclear));
        let is_alone = |index: usize| duties.other_targets.get(index).is_some_and(OtherTargets::is_alone);
        let leaves = duties.leaves.iter().enumerate();
        reports.extend(leaves.map(|(index, leave)| leave.fate(begun_at, is_alone(index))));
        reports.extend(duties.quiet.report(begun_at));
        reports.extend(duties.successor.iter().flat_map(|successor| successor.reports(begun_at)));
        reports.extend(duties.hooks.iter().filter_map(|hook| hook.report(begun_at)));
        reports.extend(duties.mark.report(begun_at));
        reports.extend(duties.last_looks.iter().flatten().filter_map(|look| look.report(begun_at)));
        reports
    }

    /// Ends the handover when nothing is left to try, or at the deadline. Returns whether it has ended.
    pub(super) fn end(&mut self, now: BootInstant) -> bool {
        self.facts.asked_at = now;
        if self.outcome().is_some() {
            return true;
        }
        let successor = self.duties.successor.as_ref();
        if successor.is_some_and(SuccessorDuties::owner_is_gone) {
            self.duties.look_for_plan_again(&self.facts.incident, now);
        } else if let Some(plan) = successor.and_then(SuccessorDuties::may_have_another_group) {
            self.duties.look_for_another_group(plan, &self.facts.incident, now);
        }
        // The usual case is decided cheaply: a target group is still to be left.
        let leaves_still = self.duties.leaves.iter().any(|leave| !leave.is_over());
        if leaves_still && !self.facts.incident.is_open() && now < self.facts.incident.deadline {
            return false;
        }
        let reports = self.reports();
        let complete = reports.iter().all(|report| report.done || report.aside);
        let settled = reports.iter().all(|report| report.settled);
        let stays = self.stays(now);
        let is_early = stays.is_none() && (now < self.facts.incident.deadline || self.group_waits());
        if is_early && !settled {
            self.duties.last_looks = None;
        }
        if is_early && (!settled || self.is_to_be_seen_again(now)) {
            return false;
        }
        let undone = || listed(reports.iter().filter(|it| !it.done).map(DutyReport::in_words));
        // Duties that were never needed are not reported.
        let duties = if stays.is_some() { Vec::new() } else { reports.clone() };
        let message = match stays {
            Some(why) => format!("this instance stays in service: {why}"),
            None if complete => format!("handed over completely in {}", seconds(now.since(self.facts.begun_at))),
            None if settled => format!("handed over in part: {}", undone()),
            None => format!("handed over in part, time is up: {}", undone()),
        };
        let (successor_id, incident) = (self.successor_id(), &mut self.facts.incident);
        let outcome = match incident.start.handed_over.clone().filter(|_| complete) {
            // The signal after that handover has found everything as it was.
            Some(before) if incident.has_found_no_change() => before,
            Some(_) => Outcome { complete, duties },
            None => {
                incident.reach(now, MilestoneKind::HandedOver, message, successor_id.into());
                Outcome { complete, duties }
            }
        };
        incident.end(outcome);
        true
    }

    /// Says once, when the reserve is reached, what is not done yet and who does it when this machine is gone. A later
    /// message may be lost with the machine.
    pub(super) fn say_what_is_unfinished(&mut self, now: BootInstant) {
        let incident = &self.facts.incident;
        let ends = incident.signal.is_real() && incident.announced_deadline().is_some() && !self.group_waits();
        let is_time = now >= incident.deadline - self.facts.effective_leave().reserve;
        if self.facts.told_unfinished || !(ends && is_time) {
            return;
        }
        self.facts.told_unfinished = true;
        let unfinished = self.reports().into_iter().filter(DutyReport::is_unfinished);
        let unfinished = listed(unfinished.map(|report| report.so_far().in_words()));
        if unfinished.is_empty() {
            return;
        }
        let then = self.duties.successor.as_ref().and_then(SuccessorDuties::afterwards);
        let then = then.map(|then| format!("; {then}")).unwrap_or_default();
        self.facts.warning = Some(format!("not done yet: {unfinished}{then}"));
    }

    /// Tells whether something is read again before the end: a successor may have died or become unhealthy meanwhile.
    fn is_to_be_seen_again(&mut self, now: BootInstant) -> bool {
        let successor = self.duties.successor.as_mut();
        let looks_at_successor = successor.is_some_and(|successor| successor.is_to_be_seen_again(now));
        self.looks_once_more(now) || looks_at_successor
    }

    /// The instant of the next look at the successor, now that this instance has handed over and waits for its end.
    pub(super) fn looks_after_at(&self) -> Option<BootInstant> {
        let at = self.duties.successor.as_ref()?.looks_after_at()?;
        self.is_looked_after(at).then_some(at)
    }

    /// Tells whether this instance has handed over at a notice and could still replace its successor at this instant.
    fn is_looked_after(&self, at: BootInstant) -> bool {
        let incident = &self.facts.incident;
        incident.signal == Signal::Notice && incident.is_complete() && at + LEAST_LEFT < incident.deadline
    }

    pub(super) fn look_after(&mut self, now: BootInstant) -> Vec<Due> {
        if self.looks_after_at().is_none_or(|at| now < at) {
            return Vec::new();
        }
        let left = self.facts.incident.deadline.since(now);
        let mut situation = self.facts.situation(now, &self.duties);
        let look = self.duties.successor.as_mut().and_then(|successor| successor.look_after(&mut situation));
        look.into_iter().map(|(duty, call)| Due { duty, limit: call.limit(left, 0), call }).collect()
    }

    /// Tells whether the answer shows that the successor is gone. Then the handover goes on.
    pub(super) fn begins_again(&mut self, now: BootInstant, id: DutyId, answer: &Answer) -> bool {
        let is_gone = |instances: &Vec<Instance>| instances.iter().any(|instance| !instance.state.is_alive());
        let shows = matches!(answer, Answer::Instances(seen) if is_gone(seen));
        let begins = id == DutyId::Watch && shows && self.is_looked_after(now);
        if begins {
            self.facts.incident.go_on_again();
            self.duties.last_looks = None;
        }
        begins
    }

    /// The instant by which this handover is over; `None` while it waits for a group's hooks, without a deadline.
    pub fn ends_by(&self) -> Option<BootInstant> {
        (!self.group_waits()).then_some(self.facts.incident.deadline)
    }

    /// Tells whether the group terminates this instance and waits for its hooks, or may do so. The hooks have no
    /// deadline of ours; only an interruption that AWS has announced ends this instance earlier.
    pub(super) fn group_waits(&self) -> bool {
        let waits = || self.duties.successor.as_ref().is_some_and(|successor| successor.lifecycles.is_waited_for());
        self.facts.incident.ends_by_group() && (self.duties.looks_for_group() || waits())
    }

    /// Looks up the group that terminates this instance. Its present hooks hold this instance, whatever the plan says
    /// about a successor and whoever has begun the termination.
    pub(super) fn look_for_group(&mut self, now: BootInstant) {
        if self.facts.incident.is_terminating() || self.hooks_time().is_some() {
            self.duties.look_for_group(&self.facts.incident, self.facts.crowd, now);
        }
    }

    /// The progress of the group's termination hooks, if they are known and the group terminates this instance, at our
    /// call or by itself.
    pub(super) fn hooks_time(&self) -> Option<HookTime> {
        self.duties.successor.as_ref()?.lifecycles.time_begun()
    }

    /// Takes the group that terminates this instance, or a plan without one if no group holds this instance any more.
    pub(super) fn learn_group(&mut self, plan: Plan, now: BootInstant) {
        self.duties.find_group.take_if(|find| find.is_over());
        match (&mut self.duties.successor, plan) {
            (None, plan) => self.learn_plan(plan, now),
            (Some(successor), Plan::Group { group, .. }) => {
                successor.lifecycles.learn(&group, &|hook| seed(&self.facts.incident, hook));
            }
            (Some(_), _) => {}
        }
    }

    /// The reason why this instance does not leave at all, if no interruption is announced.
    fn stays(&self, now: BootInstant) -> Option<String> {
        if !self.facts.incident.is_open() || self.facts.incident.leaving_since.is_some() {
            return None;
        }
        let in_vain = self.duties.successor.as_ref().and_then(SuccessorDuties::is_in_vain);
        let waited = seconds(self.facts.incident.deadline.since(self.facts.begun_at));
        in_vain.or_else(|| {
            (now >= self.facts.incident.deadline).then(|| format!("no successor was healthy within {waited}"))
        })
    }

    /// Begins the last looks at the target groups not seen a moment ago. Tells whether one of them is still open.
    pub(super) fn looks_once_more(&mut self, now: BootInstant) -> bool {
        // The group ends this instance once its hooks are completed: nothing is left to be done.
        if self.duties.successor.as_ref().is_some_and(|successor| !successor.lifecycles.is_empty()) {
            return false;
        }
        if self.duties.last_looks.is_none() {
            self.duties.last_looks = Some(self.duties.last_looks_at(&mut self.facts, now));
        }
        self.duties.last_looks.iter().flatten().any(|look| !look.is_over())
    }

    /// Takes the last look at one target group. Returns what has changed since, for a person.
    pub(super) fn seen_at_last(&mut self, index: usize, rows: &[TargetHealth], now: BootInstant) -> Option<Failure> {
        let identity = &self.facts.incident.start.identity;
        let is_back = self.duties.leaves.get_mut(index).is_some_and(|leave| leave.is_seen_again(identity, rows, now));
        let successor = self.duties.successor.as_mut();
        let lost = successor.map(|successor| successor.looked_again(index, rows, now)).unwrap_or_default();
        if is_back {
            // This instance gets requests again.
            self.duties.quiet.begin_again(now);
        }
        if !is_back && lost.is_empty() {
            return None;
        }
        self.duties.last_looks = None;
        let group = self.duties.leaves.get(index)?.name();
        let ours =
            is_back.then(|| format!("somebody has registered this instance in {group} again, and it leaves again"));
        let theirs =
            lost.iter().map(|id| format!("successor {id} is not healthy in {group} any more, and is followed again"));
        let message = ours.into_iter().chain(theirs).collect::<Vec<_>>().join("; ");
        Some(Failure::of(FailureKind::Rejected, message))
    }
}

impl Duties {
    /// A look at each target group that was not seen a moment ago.
    fn last_looks_at(&self, facts: &mut Facts, now: BootInstant) -> Vec<LastLook> {
        let is_old = |seen_at: Option<BootInstant>| seen_at.is_none_or(|seen_at| now.since(seen_at) > LOOK_HOLDS);
        let groups = self.leaves.iter().enumerate().filter(|(index, leave)| {
            let successor = self.successor.as_ref().and_then(|successor| successor.seen_in(*index));
            is_old(leave.seen_at()) || successor.is_some_and(|seen_at| is_old(Some(seen_at)))
        });
        let look = |(index, leave): (usize, &Leave)| {
            let seed = seed(&facts.incident, &format!("last look at {}", leave.name()));
            let mut attempts = Attempts::new(DutyId::LastLook(index), now, seed);
            facts.crowd.spread_last(&mut attempts, now, facts.incident.deadline, Bucket::ELB_LOOKS);
            let (target_group, zone, mut targets) = leave.proof();
            targets.extend(self.successor.iter().flat_map(|successor| successor.targets_in(index)));
            targets.truncate(TARGETS_A_CALL);
            LastLook::new(target_group, zone, targets, attempts)
        };
        groups.map(look).collect()
    }
}

/// Joins reports by semicolons, because each has commas of its own.
fn listed(reports: impl Iterator<Item = String>) -> String {
    reports.collect::<Vec<_>>().join("; ")
}
