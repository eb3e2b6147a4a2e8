//! Back into the Auto Scaling group that this instance was detached from, if there is room: the group has launched a
//! successor by now, and an instance outside of every group is forgotten and paid for (AutoSpotting#335).

use std::time::Duration;

use super::course::{ComingBack, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, its_attempts};
use crate::core::model::{AutoScalingGroup, BootInstant, GroupState, InstanceId, TargetGroupArn};
use crate::core::retry::{Failure, FailureKind};

/// A member that is being detached stands in the group for a while.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct RejoinGroup {
    group: String,
    /// The target groups in which the group registers what it has in service.
    target_groups: Vec<TargetGroupArn>,
    us: InstanceId,
    /// It was protected from scale-in, and is no more once it was detached.
    loses_protection: bool,
    stage: Stage,
    attempts: Attempts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Look,
    /// With the desired capacity after it.
    Attach {
        desired: i32,
    },
    Attached {
        desired: i32,
    },
    /// It never left.
    Member,
    /// The group holds it out of service, in Standby or in its warm pool, and registers it once that is over.
    Held,
    /// The group terminates this instance.
    Terminating,
    /// Full, gone, or it refuses.
    Outside,
}

impl RejoinGroup {
    pub(super) fn new(group: &AutoScalingGroup, us: InstanceId, attempts: Attempts) -> RejoinGroup {
        let (name, target_groups) = (group.name.clone(), group.target_groups.clone());
        let loses_protection = group.member(&us).is_some_and(|member| member.loses_protection);
        RejoinGroup { group: name, target_groups, us, loses_protection, stage: Stage::Look, attempts }
    }

    /// Once it is known that the group does not terminate this instance, or that the group cannot be asked.
    pub(super) fn lets_register(&self) -> bool {
        match self.stage {
            Stage::Look => self.attempts.failures > 0,
            Stage::Terminating => false,
            _ => true,
        }
    }

    /// False of the group's own target groups while it holds this instance out of service.
    pub(super) fn lets_register_in(&self, target_group: &TargetGroupArn) -> bool {
        self.lets_register() && (self.stage != Stage::Held || !self.target_groups.contains(target_group))
    }

    /// It is a member again, or never was anything else.
    pub(super) fn has_us(&self) -> bool {
        matches!(self.stage, Stage::Attached { .. } | Stage::Member)
    }

    /// The group may be taking this instance in: it registers its members in its target groups.
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
            Some(state) if state == "Standby" || state.starts_with("Warmed:") => {
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

    /// A text such as ", attached to group shop, which wants 4 instances now"; empty where nothing was changed.
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
            // Attached by a call whose answer was lost.
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

/// AWS understood and will not; a group that is busy is asked again.
fn is_refusal(failure: &Failure) -> bool {
    !failure.is_busy() && matches!(failure.kind, FailureKind::Rejected | FailureKind::Denied)
}
