//! The duties to register the successors, one for each target group of this instance.

use super::SuccessorDuties;
use crate::core::duty::{Attempts, DutyId};
use crate::core::handover::course::{Situation, seed};
use crate::core::handover::register::Register;
use crate::core::model::{BootInstant, InstanceId, Target, TargetHealth};

impl SuccessorDuties {
    /// One duty to register the successor for each registration of ours, also for those found late.
    pub(super) fn keep_registers(&mut self, situation: &Situation<'_>) {
        self.is_nowhere = situation.is_in_no_target_group() && self.plan.other_traffic_sources().is_empty();
        for registration in situation.registrations().iter().skip(self.registers.len()) {
            let group = &registration.target_group;
            let by_owner = self.owner_had.contains(group);
            let seed = seed(situation.incident, &format!("successor in {}", registration.target_group));
            let attempts = Attempts::new(DutyId::Register(self.registers.len()), situation.now, seed);
            self.registers.push(Register::new(registration.clone(), by_owner, attempts));
        }
        self.admit(situation.now);
    }

    /// Whoever has come to run is to be registered: nothing is complete without.
    pub(super) fn admit(&mut self, now: BootInstant) {
        self.leave_out_those_that_go(now);
        let Some(watch) = &self.watch else { return };
        let several = (self.more_are_to_come() || watch.len() > 1).then_some(watch.len());
        self.registers.iter_mut().for_each(|register| register.admit(now, &watch.to_register(now), several));
    }

    /// The last instant at which the successors were seen healthy in the target group of this leave, if they are
    /// followed there.
    pub(in crate::core::handover) fn seen_in(&self, index: usize) -> Option<BootInstant> {
        self.registers.get(index).and_then(Register::seen_at)
    }

    /// The successors' targets in that target group.
    pub(in crate::core::handover) fn targets_in(&self, index: usize) -> Vec<Target> {
        self.registers.get(index).map(Register::healthy_targets).unwrap_or_default()
    }

    /// Takes the last look at that target group. Returns those that are healthy there no more: they are followed again.
    pub(in crate::core::handover) fn looked_again(
        &mut self,
        index: usize,
        rows: &[TargetHealth],
        now: BootInstant,
    ) -> Vec<InstanceId> {
        self.registers.get_mut(index).map(|register| register.looked_again(rows, now)).unwrap_or_default()
    }
}
