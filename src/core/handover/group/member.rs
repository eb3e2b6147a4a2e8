//! How this instance stands in its group: as the group's members show it, and as what came of asking tells. Data, no calls.

use crate::core::incident::Incident;
use crate::core::model::{AutoScalingGroup, BootInstant, GroupMember, Membership};
use crate::core::retry::Failure;

/// How this instance came to be out of the group, or on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) at: BootInstant,
    pub(super) by: LeftBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftBy {
    /// AWS accepted our call: the group deregisters this instance from its own target groups.
    Request,
    /// A call of ours whose answer was lost, by all that is known.
    LostReply,
    /// It was out, or on its way, before it was asked for.
    Itself,
    /// The group does not count it.
    Uncounted,
}

/// As the last look-up saw it. A member that was not among those seen is taken for one in service.
pub(super) fn was_in_service(group: &AutoScalingGroup, incident: &Incident) -> bool {
    let ours = group.members.iter().find(|member| member.instance_id == incident.id.instance_id);
    ours.is_none_or(|member| member.membership() == Membership::Detachable)
}

pub(super) fn membership(members: &[GroupMember], incident: &Incident) -> Membership {
    let ours = members.iter().find(|member| member.instance_id == incident.id.instance_id);
    ours.map_or(Membership::Leaving, GroupMember::membership)
}

/// This instance is no member of the group any more.
pub(super) fn is_no_member(failure: &Failure) -> bool {
    const WORDS: [&str; 3] = ["not part of", "No managed instance found", "Instance Id not found"];
    failure.has_code(&["ValidationError"]) && WORDS.iter().any(|words| failure.message.contains(words))
}
