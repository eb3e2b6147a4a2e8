//! The look-ups of what was not known when the handover began: this instance's target groups, and who launches a
//! successor. They run beside everything else, and what they find joins in at once.

use super::call::Duty;
use super::{Answer, Call, Pace, Report, join};
use crate::core::model::{BootInstant, Registration, TargetGroupArn};

pub(super) struct LookUps {
    /// More than one where the owner names target groups that are quicker to ask.
    registrations: Vec<LookUp>,
    plan: Option<Pace>,
    seed: u64,
}

struct LookUp {
    call: Call,
    pace: Pace,
    answered: bool,
}

impl LookUps {
    pub(super) fn none(seed: u64) -> LookUps {
        LookUps { registrations: Vec::new(), plan: None, seed }
    }

    pub(super) fn look_for_registrations(&mut self, among: Option<Vec<TargetGroupArn>>, now: BootInstant) {
        let pace = Pace::new(now, self.seed);
        self.registrations.push(LookUp { call: Call::FindRegistrations { among }, pace, answered: false });
    }

    pub(super) fn look_for_plan(&mut self, now: BootInstant) {
        self.plan = Some(Pace::new(now, self.seed.rotate_left(1)));
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
        calls
    }

    /// Takes the result of one look-up of registrations.
    pub(super) fn registrations_answered(
        &mut self,
        now: BootInstant,
        index: usize,
        answer: Answer,
    ) -> Option<Vec<Registration>> {
        let look_up = self.registrations.get_mut(index)?;
        match answer {
            Answer::Registrations(registrations) => {
                look_up.answered = true;
                Some(registrations)
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
            _ => None,
        }
    }

    pub(super) fn wakes(&self) -> impl Iterator<Item = BootInstant> {
        let open = self.registrations.iter().filter(|look_up| !look_up.answered);
        open.filter_map(|look_up| look_up.pace.wake()).chain(self.plan.iter().filter_map(Pace::wake))
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
        reports
    }
}
