//! What the search for successors learns about the other victims, and about successors that die or leave.

use super::{Among, FIRST_LOOK_AFTER, Find, REPLACED_WITHIN};
use crate::core::handover::deaths::Death;
use crate::core::model::{BootInstant, InstanceId};
use crate::core::plan::units;
use crate::core::retry::fraction;

impl Find {
    pub(in crate::core::handover) fn is_victim(&self, id: &InstanceId) -> bool {
        self.victims.contains_key(id) || self.leaving.contains(id)
    }

    /// Returns the units of all victims in a fleet, if some of them were not replaced in time.
    pub(in crate::core::handover) fn unreplaced(&self, now: BootInstant) -> Option<i32> {
        let replaced_within = REPLACED_WITHIN.mul_f64(1.0 + fraction(self.attempts.seed));
        let is_fleet = matches!(self.among, Among::Fleet { .. });
        let is_short = is_fleet && !self.done && now.since(self.last_victim_at) >= replaced_within;
        is_short.then(|| units(self.victims.values().sum()))
    }

    /// Forgets successors that have died, and looks for others in their place.
    pub(in crate::core::handover) fn lose(&mut self, deaths: &[Death], now: BootInstant) {
        for death in deaths {
            if self.found.remove(&death.instance_id).is_some() {
                self.looks_for_another(now);
            }
            self.ignored.insert(death.instance_id.clone());
            if !death.is_of_another {
                self.dead.insert(death.instance_id.clone());
            }
        }
    }

    /// Counts successors that are leaving as victims: others have to be found in their place.
    pub(in crate::core::handover) fn hears_of_victims<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a InstanceId>,
        now: BootInstant,
    ) {
        if self.among == Among::Tagged {
            return;
        }
        for id in ids {
            if let Some(weight) = self.found.remove(id) {
                self.victims.insert(id.clone(), weight);
                self.leaving.insert(id.clone());
                self.last_victim_at = now;
                self.looks_for_another(now);
            }
        }
    }

    fn looks_for_another(&mut self, now: BootInstant) {
        self.done = false;
        self.attempts.postpone(now + FIRST_LOOK_AFTER);
    }
}
