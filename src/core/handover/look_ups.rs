//! The look-ups of what was not known when the handover began: this instance's target groups, and who launches a
//! successor. They run beside everything else, and what they find joins in at once. Where the group terminates this instance
//! it is looked up again: the hooks that it had hours ago need not be those that wait for us.

use super::call::Duty;
use super::crowd::{Bucket, Crowd};
use super::lifecycle::failed_patiently;
use super::{Answer, Call, Pace, Report, join};
use crate::core::model::{BootInstant, Registration, TargetGroupArn};
use crate::core::retry::{Failure, FailureKind};

pub(super) struct LookUps {
    /// More than one where the owner names target groups that are quicker to ask.
    registrations: Vec<LookUp>,
    plan: Option<Pace>,
    group: Option<Pace>,
    /// Why the group cannot be looked up.
    group_denied: Option<Failure>,
    /// The owner was gone: it was looked for once more.
    looked_again: bool,
    seed: u64,
}

struct LookUp {
    call: Call,
    pace: Pace,
    answered: bool,
}

impl LookUps {
    pub(super) fn none(seed: u64) -> LookUps {
        LookUps { registrations: Vec::new(), plan: None, group: None, group_denied: None, looked_again: false, seed }
    }

    pub(super) fn look_for_registrations(&mut self, among: Option<Vec<TargetGroupArn>>, now: BootInstant) {
        let pace = Pace::new(now, self.seed);
        self.registrations.push(LookUp { call: Call::FindRegistrations { among }, pace, answered: false });
    }

    pub(super) fn look_for_plan(&mut self, now: BootInstant) {
        self.plan = Some(Pace::new(now, self.seed.rotate_left(1)));
    }

    /// Nobody is asked for a successor any more. The members of a group that are terminated together ask one after the other.
    pub(super) fn look_for_group(&mut self, crowd: Crowd, now: BootInstant) {
        let mut pace = Pace::new(now, self.seed.rotate_left(2));
        crowd.spread_first(&mut pace, now, Bucket::AUTO_SCALING);
        (self.plan, self.group) = (None, Some(pace));
    }

    pub(super) fn looks_for_plan(&self) -> bool {
        self.plan.is_some()
    }

    pub(super) fn looks_for_group(&self) -> bool {
        self.group.is_some()
    }

    pub(super) fn group_is_known(&mut self) {
        self.group = None;
    }

    /// What IAM denies is not waited for: the hooks that are known are all there is to go by.
    pub(super) fn group_failed(&mut self, now: BootInstant, answer: Answer) {
        match (answer, &mut self.group) {
            (Answer::Failed(failure), _) if failure.kind == FailureKind::Denied => {
                (self.group, self.group_denied) = (None, Some(failure));
            }
            (other, Some(pace)) => failed_patiently(pace, now, other),
            (_, None) => {}
        }
    }

    /// The owner of the plan is gone; something else may stand in for it.
    pub(super) fn look_for_plan_again(&mut self, now: BootInstant) {
        if !std::mem::replace(&mut self.looked_again, true) {
            self.look_for_plan(now);
        }
    }

    pub(super) fn plan_is_known(&mut self) {
        self.plan = None;
    }

    pub(super) fn registrations_are_known(&self) -> bool {
        self.registrations.iter().all(|look_up| look_up.answered)
    }

    /// A scan of all target groups has found what there is to find.
    pub(super) fn everything_was_scanned(&mut self) {
        self.registrations.iter_mut().for_each(|look_up| look_up.answered = true);
    }

    pub(super) fn due(&mut self, now: BootInstant) -> Vec<(Duty, Call)> {
        let mut calls = Vec::new();
        for (index, look_up) in self.registrations.iter_mut().enumerate() {
            if !look_up.answered && look_up.pace.begin(now) {
                calls.push((Duty::FindRegistrations(index), look_up.call.clone()));
            }
        }
        if self.plan.as_mut().is_some_and(|pace| pace.begin(now)) {
            calls.push((Duty::FindPlan, Call::FindPlan));
        }
        if self.group.as_mut().is_some_and(|pace| pace.begin(now)) {
            calls.push((Duty::FindGroup, Call::FindGroup));
        }
        calls
    }

    /// Takes the result of one look-up of registrations.
    pub(super) fn registrations_answered(
        &mut self,
        now: BootInstant,
        index: usize,
        answer: Answer,
    ) -> Option<(Vec<Registration>, Vec<TargetGroupArn>)> {
        let look_up = self.registrations.get_mut(index)?;
        match answer {
            Answer::Registrations { found, unclear } => {
                look_up.answered = true;
                Some((found, unclear))
            }
            other => {
                look_up.pace.failed_by(now, other);
                None
            }
        }
    }

    pub(super) fn plan_failed(&mut self, now: BootInstant, answer: Answer) {
        if let Some(pace) = &mut self.plan {
            pace.failed_by(now, answer);
        }
    }

    pub(super) fn pace(&self, duty: Duty) -> Option<&Pace> {
        match duty {
            Duty::FindRegistrations(index) => self.registrations.get(index).map(|look_up| &look_up.pace),
            Duty::FindPlan => self.plan.as_ref(),
            Duty::FindGroup => self.group.as_ref(),
            _ => None,
        }
    }

    pub(super) fn wakes(&self) -> impl Iterator<Item = BootInstant> {
        let open = self.registrations.iter().filter(|look_up| !look_up.answered);
        open.filter_map(|look_up| look_up.pace.wake()).chain(self.plan.iter().chain(&self.group).filter_map(Pace::wake))
    }

    /// The look-ups that have not found anything yet.
    pub(super) fn reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        if !self.registrations_are_known() {
            let open = self.registrations.iter().filter(|look_up| !look_up.answered);
            let trouble = join(open.map(|look_up| look_up.pace.trouble()));
            let what = format!("in which target groups this instance is could not be found out: {trouble}");
            reports.push(Report::new("target groups", false, what));
        }
        if let Some(pace) = &self.plan {
            let what = format!("who launches it could not be found out: {}", pace.trouble());
            reports.push(Report::new("successor", false, what));
        }
        let group = |why: String| format!("which hooks the group has now could not be found out: {why}");
        if let Some(pace) = &self.group {
            reports.push(Report::new("termination hooks", false, group(pace.trouble())));
        }
        if let Some(denied) = &self.group_denied {
            reports.push(Report::new("termination hooks", false, group(denied.to_string())).settled());
        }
        reports
    }
}
