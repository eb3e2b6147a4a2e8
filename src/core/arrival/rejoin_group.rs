//! Puts this instance back into the Auto Scaling group that it was detached from, if there is room. The group has
//! launched a successor by now. An instance outside of every group is forgotten and paid for (AutoSpotting#335).

use std::time::Duration;

use super::course::{ComingBack, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, its_attempts};
use crate::core::model::{AutoScalingGroup, BootInstant, GroupState, InstanceId, TargetGroupArn};
use crate::core::retry::{Failure, FailureKind};

/// The pause until the next look: the group lists a member that is being detached for a while.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct RejoinGroup {
    group: String,
    /// The target groups in which the group registers its members in service.
    target_groups: Vec<TargetGroupArn>,
    us: InstanceId,
    /// This instance was protected from scale-in, and detaching has ended that.
    loses_protection: bool,
    stage: Stage,
    attempts: Attempts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Look,
    /// `desired` is the desired capacity after the call.
    Attach {
        desired: i32,
    },
    Attached {
        desired: i32,
    },
    /// This instance is a member: it never left, or is attached already.
    Member,
    /// The group holds this instance in Standby or in its warm pool, or takes it there. It registers it itself afterwards.
    Held,
    /// The group terminates this instance.
    Terminating,
    /// The group is full, is gone, or refuses this instance.
    Outside,
}

impl RejoinGroup {
    pub(super) fn new(group: &AutoScalingGroup, us: InstanceId, attempts: Attempts) -> RejoinGroup {
        let (name, target_groups) = (group.name.clone(), group.target_groups.clone());
        let loses_protection = group.member(&us).is_some_and(|member| member.loses_protection);
        RejoinGroup { group: name, target_groups, us, loses_protection, stage: Stage::Look, attempts }
    }

    /// Tells whether this instance may register: its group does not terminate it, or cannot be asked.
    pub(super) fn lets_register(&self) -> bool {
        match self.stage {
            Stage::Look => self.attempts.failures > 0,
            Stage::Terminating => false,
            _ => true,
        }
    }

    /// False for the group's own target groups while the group holds this instance out of service.
    pub(super) fn lets_register_in(&self, target_group: &TargetGroupArn) -> bool {
        self.lets_register() && (self.stage != Stage::Held || !self.target_groups.contains(target_group))
    }

    /// Tells whether this instance is a member, again or still.
    pub(super) fn has_us(&self) -> bool {
        matches!(self.stage, Stage::Attached { .. } | Stage::Member)
    }

    /// Tells whether the group may be attaching this instance, and so registering it in the group's target groups.
    pub(super) fn may_attach(&self) -> bool {
        matches!(self.stage, Stage::Attach { .. } | Stage::Attached { .. })
    }

    fn looked(&mut self, now: BootInstant, current: &GroupState) -> Option<String> {
        let ours = current.members.iter().find(|member| member.instance_id == self.us);
        let state = ours.map(|member| member.lifecycle_state.as_str());
        match state {
            Some(state) if state.starts_with("Detach") => {
                self.attempts.succeeded(now + LOOK_AGAIN_AFTER);
                None
            }
            Some(state) if state.starts_with("Terminat") => {
                self.end(Stage::Terminating);
                Some(format!("group {} is terminating this instance ({state}): it is not put back", self.group))
            }
            Some(state) if state.ends_with("Standby") || state.starts_with("Warmed:") => {
                self.end(Stage::Held);
                let why =
                    "it is not put back into the group's target groups, which the group does once it is in service";
                Some(format!("group {} holds this instance in {state}: {why}", self.group))
            }
            Some(_) => {
                self.end(Stage::Member);
                None
            }
            None if current.desired_capacity >= current.max_size => {
                Some(self.outside(&format!("it is full (MaxSize {})", current.max_size)))
            }
            None => {
                self.stage = Stage::Attach { desired: current.desired_capacity + 1 };
                self.attempts.succeeded(now);
                None
            }
        }
    }

    fn outside(&mut self, why: &str) -> String {
        self.end(Stage::Outside);
        format!(
            "this instance cannot go back into group {0}: {why}. It keeps serving outside of the group, and costs money \
             beside its successor. Terminate it, or attach it once the group has room: aws autoscaling \
             attach-instances --auto-scaling-group-name {0} --instance-ids {1}",
            self.group, self.us
        )
    }

    fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.attempts.end();
    }

    /// A text such as ", attached to group shop, which raises its desired capacity by one, to 4", or an empty one.
    pub(super) fn words(&self) -> String {
        match self.stage {
            Stage::Attached { desired } => {
                let unprotected = if self.loses_protection { "; its scale-in protection is lost" } else { "" };
                format!(
                    ", attached to group {}, which raises its desired capacity by one, to {desired}{unprotected}",
                    self.group
                )
            }
            Stage::Outside => format!(", outside of group {}", self.group),
            Stage::Held => format!(", held out of service by group {}", self.group),
            _ => String::new(),
        }
    }
}

impl Duty<ComingBack> for RejoinGroup {
    its_attempts!();

    fn call(&mut self, _: &Situation) -> Option<Call> {
        let group = self.group.clone();
        match self.stage {
            Stage::Look => Some(Call::DescribeAutoScalingGroup { group }),
            Stage::Attach { .. } => Some(Call::AttachInstances { group }),
            _ => None,
        }
    }

    fn take(&mut self, situation: &mut Situation, answer: Answer) -> Result<News, Answer> {
        let now = situation.now;
        let remark = match (self.stage, answer) {
            (Stage::Look, Answer::GroupState(Some(current))) => self.looked(now, &current),
            (Stage::Look, Answer::GroupState(None)) => Some(self.outside("there is no such group any more")),
            (Stage::Attach { desired }, Answer::Accepted) => {
                self.end(Stage::Attached { desired });
                None
            }
            // An earlier call, whose answer was lost, has attached this instance.
            (Stage::Attach { .. }, Answer::Failed(failure))
                if is_refusal(&failure) && failure.message.contains("already part of") =>
            {
                self.end(Stage::Member);
                None
            }
            (Stage::Attach { .. }, Answer::Failed(failure)) if is_refusal(&failure) => {
                Some(self.outside(&failure.to_string()))
            }
            (_, other) => return Err(other),
        };
        Ok(News { remarks: remark.into_iter().collect(), ..News::default() })
    }
}

/// Tells whether AWS refuses the call for good; a group that is busy is asked again.
fn is_refusal(failure: &Failure) -> bool {
    !failure.is_busy() && matches!(failure.kind, FailureKind::Rejected | FailureKind::Denied)
}
