//! The subject of a milestone.

use crate::core::model::{InstanceId, TargetGroupArn};

/// The target group or the successor that a milestone is about.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) target_group: Option<TargetGroupArn>,
    pub(crate) successor_id: Option<InstanceId>,
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
