//! Leaving the group: the call, and the way in which this instance came to be out, by the group's answers.
//!
//! The refusal "not in InService or Standby" comes for a member that has left, and for one that has not come yet. So
//! the member's state is read before either is believed.

use std::time::Duration;

use crate::core::call::{Answer, Call};
use crate::core::handover::crowd::FEW;
use crate::core::incident::Incident;
use crate::core::model::{AutoScalingGroup, BootInstant, GroupMember, GroupState, LifecycleHook, Membership};
use crate::core::retry::{Failure, FailureKind};

/// The last healthy member of a group serves on this long while the others, taken out before, come back.
const SERVES_ON_AT_MOST: Duration = Duration::from_secs(15);

pub(super) struct Exit {
    /// This instance leaves through the termination hook rather than by detaching.
    terminate: bool,
    /// The instant until which a call from before the handover may bring this instance into the group.
    may_be_attached_until: Option<BootInstant>,
    /// A call to leave may have been done though its answer was lost.
    in_doubt: bool,
    /// The member's lifecycle state, as it was last read.
    pub(super) state: Option<String>,
    /// The reason why AWS last refused to let this instance go, and how often the member's state did not explain it.
    pub(super) refused: Option<String>,
    pub(super) unexplained: u32,
    /// Few others are in service, so the last healthy one of those that leave together waits until another is back.
    has_few_fellows: bool,
    /// This instance waits no longer than until this instant, whoever serves.
    waits_until: Option<BootInstant>,
    /// The group is as small as it may be: its desired capacity stays as it is.
    keeps_size: bool,
}

/// The way in which this instance came to be out of the group, or on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) at: BootInstant,
    pub(super) by: LeftBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftBy {
    /// AWS accepted our call: the group deregisters this instance from its own target groups.
    Request,
    /// Very likely a call of ours whose answer was lost.
    LostReply,
    /// This instance was out, or on its way out, before the group was asked.
    Itself,
    /// The group does not count this instance.
    Uncounted,
}

/// The meaning of an answer to a call to leave.
pub(super) enum ExitAnswer {
    Left(LeftBy),
    /// This instance leaves already, or has not come yet: its lifecycle state tells.
    Refused,
    Failed(Answer),
}

impl Exit {
    pub(super) fn new(group: &AutoScalingGroup, terminate: bool, incident: &Incident) -> Exit {
        let ours = &incident.id.instance_id;
        let others = group.members.iter().filter(|it| it.instance_id != *ours && is_in_service(it)).count();
        Exit {
            terminate,
            may_be_attached_until: incident.start.arrival_lands_by,
            in_doubt: incident.start.is_resumed(),
            state: None,
            refused: None,
            unexplained: 0,
            // If there are more than a few, some of them very likely stay.
            has_few_fellows: (1..=FEW).contains(&others),
            waits_until: None,
            keeps_size: false,
        }
    }

    /// Detaches if the group has no hook, because terminating would end this instance at once. `None`: not known.
    pub(super) fn go_by_hooks(&mut self, termination_hooks: Option<Vec<LifecycleHook>>) {
        self.terminate &= termination_hooks.is_none_or(|hooks| !hooks.is_empty());
    }

    pub(super) fn terminates(&self) -> bool {
        self.terminate
    }

    pub(super) fn may_be_attached(&self, now: BootInstant) -> bool {
        self.may_be_attached_until.is_some_and(|until| now < until)
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// The way in which a member came to be out of the group, or on its way.
    pub(super) fn gone_by(&self) -> LeftBy {
        if self.in_doubt { LeftBy::LostReply } else { LeftBy::Itself }
    }

    /// Sets how long the last member stays while nobody else serves.
    pub(super) fn consider(&mut self, now: BootInstant) {
        if self.has_few_fellows {
            self.waits_until.get_or_insert(now + SERVES_ON_AT_MOST);
        }
    }

    pub(super) fn waits_until(&self) -> Option<BootInstant> {
        self.waits_until
    }

    /// Takes the group as it is after a refusal. Somebody may have lowered its desired capacity to its MinSize since a
    /// successor was launched. Then it wants as many members without this instance as with it. Returns a remark, once.
    pub(super) fn keep_size(&mut self, group: &str, current: &GroupState, incident: &Incident) -> Option<String> {
        let units = ours(&current.members, incident).map_or(1, GroupMember::units);
        let kept = std::mem::replace(&mut self.keeps_size, current.desired_capacity - units < current.min_size);
        (self.keeps_size && !kept).then(|| {
            format!(
                "group {group} is at its MinSize ({}): this instance leaves it without lowering the desired capacity",
                current.min_size
            )
        })
    }

    pub(super) fn call(&self, group: String, decrement: bool) -> Call {
        let decrement = decrement && !self.keeps_size;
        if self.terminate {
            Call::TerminateInstanceInAutoScalingGroup { decrement }
        } else {
            Call::DetachInstances { group, decrement }
        }
    }

    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer) -> ExitAnswer {
        let failure = match answer {
            Answer::Accepted => return ExitAnswer::Left(LeftBy::Request),
            Answer::Failed(failure) => failure,
            other => return ExitAnswer::Failed(other),
        };
        if is_no_member(&failure) {
            // This instance may yet become a member. When it dies it is replaced late, even beside a successor.
            return if self.may_be_attached(now) {
                ExitAnswer::Failed(Answer::Failed(failure))
            } else {
                ExitAnswer::Left(self.gone_by())
            };
        }
        // Detaching runs no hook, but launches the successor too.
        if self.terminate && failure.kind == FailureKind::Denied {
            self.terminate = false;
            self.refused = Some(failure.to_string());
        } else if failure.kind == FailureKind::Rejected && !failure.is_busy() {
            self.refused = Some(failure.to_string());
            return ExitAnswer::Refused;
        }
        // The group may be busy with the same call of the previous process.
        if self.in_doubt && failure.is_busy() {
            return ExitAnswer::Refused;
        }
        self.in_doubt |= failure.may_have_been_done();
        ExitAnswer::Failed(Answer::Failed(failure))
    }

    pub(super) fn name(&self) -> &'static str {
        if self.terminate { "terminate in" } else { "detach from" }
    }
}

fn is_in_service(member: &GroupMember) -> bool {
    member.membership() == Membership::Detachable
}

/// Tells whether this instance was in service at the last look-up. If it was not shown there, it counts as in service.
pub(super) fn was_in_service(group: &AutoScalingGroup, incident: &Incident) -> bool {
    ours(&group.members, incident).is_none_or(is_in_service)
}

pub(in crate::core::handover) fn membership(members: &[GroupMember], incident: &Incident) -> Membership {
    ours(members, incident).map_or(Membership::Leaving, GroupMember::membership)
}

pub(in crate::core::handover) fn ours<'a>(members: &'a [GroupMember], incident: &Incident) -> Option<&'a GroupMember> {
    members.iter().find(|member| member.instance_id == incident.id.instance_id)
}

/// Tells whether AWS says that this instance is no member of the group.
fn is_no_member(failure: &Failure) -> bool {
    const WORDS: [&str; 3] = ["not part of", "No managed instance found", "Instance Id not found"];
    failure.has_code(&["ValidationError"]) && WORDS.iter().any(|words| failure.message.contains(words))
}
