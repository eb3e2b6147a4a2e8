//! The fate of the successor in words, for the end of a handover.

use super::{BootInstant, Duty, DutyReport, Plan, SuccessorDuties};

impl SuccessorDuties {
    pub(in crate::core::handover) fn reports(&self, begun_at: BootInstant) -> Vec<DutyReport> {
        let hooks = self.lifecycles.reports(begun_at);
        let alone = |what: String| std::iter::once(DutyReport::new("successor", true, what));
        if let Plan::Nobody { why, .. } = &self.plan {
            return alone(format!("nobody launches one: {why}")).chain(hooks).collect();
        }
        if self.is_decided_by_group() {
            let what = "not asked for: the group terminates this instance and decides on its place";
            return alone(what.to_owned()).chain(hooks).collect();
        }
        if !self.plan.has_successor() {
            return alone(self.plan.to_string()).chain(hooks).collect();
        }
        let asked = match &self.ask {
            Some(ask) => ask.report(begun_at),
            None if self.asked_before && matches!(&self.plan, Plan::Group { how, .. } if how.asks()) => {
                Some(DutyReport::new("ask for the successor", true, "done before this process"))
            }
            None => Some(DutyReport::new("ask for the successor", true, format!("not needed: {}", self.plan))),
        };
        if self.ask.as_ref().is_some_and(|ask| ask.has_spare()) {
            return asked.into_iter().collect();
        }
        let nobody_comes = self.ask.as_ref().and_then(|ask| ask.nobody_comes());
        let successor = match (&self.watch, &self.find, self.deaths.last()) {
            (Some(_), Some(find), _) if !find.is_done() => find.report(begun_at),
            (Some(watch), _, _) => watch.report(begun_at),
            (None, _, Some(death)) => Some(DutyReport::new("successor", false, death.to_string())),
            (None, Some(find), None) => find.report(begun_at),
            (None, None, None) => {
                let what = nobody_comes.unwrap_or("it was not launched");
                Some(DutyReport::new("successor", nobody_comes.is_some(), what))
            }
        };
        // A successor that does not come need not be registered.
        let is_expected = nobody_comes.is_none() || self.watch.is_some();
        let registers = self.registers.iter().filter(|_| is_expected).filter_map(|register| register.report(begun_at));
        let reports = asked.into_iter().chain(successor).chain(registers);
        let given_up = self.ask.as_ref().is_some_and(|ask| ask.given_up().is_some());
        let settle = |report: DutyReport| if given_up { report.settled() } else { report };
        reports.map(settle).chain(hooks).collect()
    }
}
