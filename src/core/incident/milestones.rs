//! The milestones that an incident keeps: all of them in any ordinary one, and a bounded number where a notice is shown and
//! withdrawn again and again.

use super::Incident;
use crate::core::model::Milestone;

/// So many milestones are kept whole. Of more, the first and the newest ones of each kind in each target group are.
const KEPT_WHOLE: usize = 100;

impl Incident {
    /// Keeps a milestone, to be told. Where there are many, the oldest like it but the very first gives way once it was told.
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
}
