//! The milestones of a handover as it reaches them, until the daemon takes them.

use crate::core::model::{BootInstant, InstanceId, Milestone, MilestoneKind, TargetGroupArn};

/// Milestones reached and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// `None`: no interruption is announced.
    pub(super) deadline: Option<BootInstant>,
    pub(super) owner: Option<String>,
    pub(super) reached: Vec<Milestone>,
}

impl Journal {
    pub(super) fn reach(
        &mut self,
        now: BootInstant,
        milestone: MilestoneKind,
        message: impl Into<String>,
        about: About,
    ) {
        let owner = match milestone {
            MilestoneKind::Recommended
            | MilestoneKind::Noticed
            | MilestoneKind::SuccessorRequested
            | MilestoneKind::HandedOver => self.owner.clone(),
            _ => None,
        };
        self.reached.push(Milestone {
            milestone,
            at: now,
            left: self.deadline.map(|deadline| deadline.since(now)),
            target_group: about.target_group,
            successor_id: about.successor_id,
            owner,
            message: message.into(),
        });
    }
}

/// The target group or the successor that a milestone is about.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) target_group: Option<TargetGroupArn>,
    pub(super) successor_id: Option<InstanceId>,
}

impl From<&TargetGroupArn> for About {
    fn from(target_group: &TargetGroupArn) -> About {
        About { target_group: Some(target_group.clone()), successor_id: None }
    }
}

impl From<Option<InstanceId>> for About {
    fn from(successor_id: Option<InstanceId>) -> About {
        About { target_group: None, successor_id }
    }
}
