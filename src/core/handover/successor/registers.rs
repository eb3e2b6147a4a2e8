//! The duties to register the successors, one for each target group of this instance.

use super::SuccessorDuties;
use crate::core::duty::{Attempts, DutyId};
use crate::core::handover::course::{Situation, seed};
use crate::core::handover::register::Register;
use crate::core::model::{BootInstant, InstanceId, Target, TargetHealth};

impl SuccessorDuties {
    /// Keeps one duty to register the successors for each registration of ours, also for those found late.
    pub(super) fn keep_registers(&mut self, situation: &mut Situation<'_>) {
        self.is_nowhere = situation.is_in_no_target_group() && self.plan.other_traffic_sources().is_empty();
        for registration in situation.registrations().iter().skip(self.registers.len()) {
            let group = &registration.target_group;
            let by_owner = self.owner_had.contains(group);
            let seed = seed(situation.incident, &format!("successor in {}", registration.target_group));
            let attempts = Attempts::new(DutyId::Register(self.registers.len()), situation.now, seed);
            self.registers.push(Register::new(registration.clone(), by_owner, attempts));
        }
        // A healthy target runs, though EC2 may not know it yet.
        let serves = |id: &InstanceId| self.registers.iter().any(|register| register.serves(id));
        if let Some(watch) = &mut self.watch {
            watch.learn_who_serves(situation.now, serves, situation.incident);
        }
        self.admit(situation.now);
    }

    /// Passes on the successors that run: nothing is complete until they are registered.
    pub(super) fn admit(&mut self, now: BootInstant) {
        self.leave_out_those_that_go(now);
        let Some(watch) = &self.watch else { return };
        let several = (self.more_are_to_come() || watch.len() > 1).then_some(watch.len());
        self.registers.iter_mut().for_each(|register| register.admit(now, &watch.to_register(now), several));
    }

    /// The last instant at which the successors were seen healthy in this target group, if they are followed there.
    pub(in crate::core::handover) fn seen_in(&self, index: usize) -> Option<BootInstant> {
        self.registers.get(index).and_then(Register::seen_at)
    }

    /// The successors' targets in this target group.
    pub(in crate::core::handover) fn targets_in(&self, index: usize) -> Vec<Target> {
        self.registers.get(index).map(Register::healthy_targets).unwrap_or_default()
    }

    /// Takes the last look at this target group. Returns, and follows again, the successors no longer healthy.
    pub(in crate::core::handover) fn looked_again(
        &mut self,
        index: usize,
        rows: &[TargetHealth],
        now: BootInstant,
    ) -> Vec<InstanceId> {
        self.registers.get_mut(index).map(|register| register.looked_again(rows, now)).unwrap_or_default()
    }
}
