//! The milestones that an incident keeps: usually all of them, and a bounded number if a notice comes and goes again
//! and again.

use super::Incident;
use crate::core::model::{Milestone, MilestoneKind};

/// Up to this number all milestones are kept. Later the first and the newest of each kind and target group stay.
const KEPT_WHOLE: usize = 100;

impl Incident {
    /// Keeps a milestone, to be told. If there are too many, the second of its kind goes, if it was told.
    pub(crate) fn keep(&mut self, milestone: Milestone) {
        let is_like_it =
            |kept: &Milestone| kept.milestone == milestone.milestone && kept.target_group == milestone.target_group;
        let told = self.milestones.iter().take(self.told).enumerate();
        let second = told.filter(|(_, kept)| is_like_it(kept)).nth(1).map(|(index, _)| index);
        if let Some(index) = second.filter(|_| self.milestones.len() >= KEPT_WHOLE) {
            self.milestones.remove(index);
            self.told -= 1;
        }
        self.milestones.push(milestone);
    }

    /// Tells whether nothing was done to a target group or a successor since it was handed over.
    pub(crate) fn has_found_no_change(&self) -> bool {
        let mut since = self.milestones.iter().rev().take_while(|it| it.milestone != MilestoneKind::HandedOver);
        since.all(|it| it.target_group.is_none() && it.successor_id.is_none())
    }
}
