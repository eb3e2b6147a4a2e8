//! Back into the Auto Scaling group that this instance was detached from, if there is room: the group has launched a
//! successor by now, and an instance outside of every group is forgotten and paid for (AutoSpotting#335).

use std::time::Duration;

use super::first_failure;
use crate::core::handover::{Answer, Call, Pace};
use crate::core::model::{BootInstant, GroupRoom, Identity};
use crate::core::retry::{Failure, FailureKind};

/// A member that is being detached stands in the group for a while.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Room {
    group: String,
    stage: Stage,
    pace: Pace,
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
    /// The group terminates this instance.
    Terminating,
    /// Full, gone, or it refuses.
    Outside,
}

impl Room {
    pub(super) fn new(group: String, pace: Pace) -> Room {
        Room { group, stage: Stage::Look, pace }
    }

    pub(super) fn is_done(&self) -> bool {
        !matches!(self.stage, Stage::Look | Stage::Attach { .. })
    }

    /// Once it is known that the group does not terminate this instance, or that the group cannot be asked.
    pub(super) fn lets_register(&self) -> bool {
        match self.stage {
            Stage::Look => self.pace.failures > 0,
            Stage::Terminating => false,
            _ => true,
        }
    }

    /// It is a member again, or never was anything else.
    pub(super) fn has_us(&self) -> bool {
        matches!(self.stage, Stage::Attached { .. } | Stage::Member)
    }

    /// The group may be taking this instance in: it registers its members in its target groups.
    pub(super) fn may_attach(&self) -> bool {
        matches!(self.stage, Stage::Attach { .. } | Stage::Attached { .. })
    }

    pub(super) fn first_failure(&self) -> Option<Failure> {
        first_failure(&self.pace)
    }

    pub(super) fn due(&mut self, now: BootInstant) -> Option<Call> {
        let group = self.group.clone();
        match self.stage {
            Stage::Look if self.pace.begin(now) => Some(Call::DescribeGroupRoom { group }),
            Stage::Attach { .. } if self.pace.begin(now) => Some(Call::AttachInstances { group }),
            _ => None,
        }
    }

    /// Returns what a person has to know.
    pub(super) fn answered(&mut self, now: BootInstant, identity: &Identity, answer: Answer) -> Option<String> {
        match (self.stage, answer) {
            (Stage::Look, Answer::GroupRoom(Some(room))) => self.looked(now, identity, &room),
            (Stage::Look, Answer::GroupRoom(None)) => {
                Some(self.outside(now, identity, "there is no such group any more"))
            }
            (Stage::Attach { desired }, Answer::Accepted) => {
                self.end(now, Stage::Attached { desired });
                None
            }
            (Stage::Attach { .. }, Answer::Failed(failure)) if is_refusal(&failure) => {
                // Attached by a call whose answer was lost.
                if failure.message.contains("already part of") {
                    self.end(now, Stage::Member);
                    return None;
                }
                Some(self.outside(now, identity, &failure.to_string()))
            }
            (_, other) => {
                self.pace.failed_at_leisure(now, other);
                None
            }
        }
    }

    fn looked(&mut self, now: BootInstant, identity: &Identity, room: &GroupRoom) -> Option<String> {
        let ours = room.members.iter().find(|member| member.instance_id == identity.instance_id);
        let state = ours.map(|member| member.lifecycle_state.as_str());
        match state {
            Some(state) if state.starts_with("Detach") => {
                self.pace.succeeded(now + LOOK_AGAIN_AFTER);
                None
            }
            Some(state) if state.starts_with("Terminat") => {
                self.end(now, Stage::Terminating);
                Some(format!("group {} is terminating this instance ({state}): it is not put back", self.group))
            }
            Some(_) => {
                self.end(now, Stage::Member);
                None
            }
            None if room.desired_capacity >= room.max_size => {
                Some(self.outside(now, identity, &format!("it is full (MaxSize {})", room.max_size)))
            }
            None => {
                self.stage = Stage::Attach { desired: room.desired_capacity + 1 };
                self.pace.succeeded(now);
                None
            }
        }
    }

    fn outside(&mut self, now: BootInstant, identity: &Identity, why: &str) -> String {
        self.end(now, Stage::Outside);
        format!(
            "this instance cannot go back into group {0}: {why}. It runs on outside of the group, serves, and is paid for, \
             beside its successor: terminate it, or attach it once the group takes it, with: aws autoscaling \
             attach-instances --auto-scaling-group-name {0} --instance-ids {1}",
            self.group, identity.instance_id
        )
    }

    fn end(&mut self, now: BootInstant, stage: Stage) {
        self.stage = stage;
        self.pace.succeeded(now);
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.is_done() { None } else { self.pace.wake() }
    }

    /// As in ", attached to group shop, which wants 4 instances now"; empty where nothing was changed.
    pub(super) fn words(&self) -> String {
        match self.stage {
            Stage::Attached { desired } => format!(
                ", attached to group {}: its desired capacity is {desired} now, one more than before, because its \
                 successor stays",
                self.group
            ),
            Stage::Outside => format!(", outside of group {}", self.group),
            _ => String::new(),
        }
    }
}

/// AWS understood and will not; a group that is busy is asked again.
fn is_refusal(failure: &Failure) -> bool {
    !failure.is_busy() && matches!(failure.kind, FailureKind::Rejected | FailureKind::Denied)
}
