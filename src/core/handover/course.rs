//! The terms in which the duties of a handover speak: what each may know of the others ([`Situation`]), and what it tells them
//! ([`News`]).

use super::crowd::Crowd;
use super::deaths::Death;
use super::manner::Manner;
use crate::core::config::Leave as LeaveSettings;
use crate::core::duty::Course;
use crate::core::incident::Incident;
use crate::core::model::{
    BootInstant, GroupMember, Instance, InstanceId, Registration, Target, TargetGroupArn, TargetHealth,
};
use crate::core::plan::Plan;
use crate::core::retry;

/// The handover as a list of duties.
pub(super) enum HandingOver {}

impl Course for HandingOver {
    type Situation<'a> = Situation<'a>;
    type News = News;
}

/// Everything that a duty may know of the others, as of now: one look at the whole handover, taken for each round of calls and
/// for each answer.
pub(super) struct Situation<'a> {
    pub(super) now: BootInstant,
    pub(super) incident: &'a mut Incident,
    pub(super) settings: LeaveSettings,
    pub(super) manner: Manner,
    /// Leave the target groups now rather than serve on.
    pub(super) may_leave: bool,
    /// This instance is marked before it leaves.
    pub(super) may_mark: bool,
    /// This instance bears its tag, or cannot be given it.
    pub(super) is_marked: bool,
    /// Others go too, and nobody would serve until one of them is back, as far as it is known.
    pub(super) waits_for_another: bool,
    /// It is soon to be known whether anybody else serves.
    pub(super) looks_who_serves: bool,
    /// An interruption is announced, or this instance is leaving all the same.
    pub(super) is_certain: bool,
    /// The instant at which every deregistration had been accepted.
    pub(super) left_at: Option<BootInstant>,
    /// Every deregistration went out and was answered once, whatever the answer.
    pub(super) deregistration_tried: bool,
    /// Target health shows every registration `unused`: the load balancer is done with this instance.
    pub(super) all_unused: bool,
    /// A registration from before the handover may still land, and only this instance would take it back.
    pub(super) may_be_registered: bool,
    pub(super) quiet: bool,
    /// No command of the user's is to be waited for.
    pub(super) hooks_ended: bool,
    /// The group's termination hooks may be completed, as far as this instance is concerned.
    pub(super) may_complete: bool,
    /// The group takes heartbeats and completions now.
    pub(super) hooks_are_open: bool,
    /// The hooks may be open: IAM does not let spot-relay read the member's state.
    pub(super) hooks_are_hidden: bool,
    /// The reason why requests may come from elsewhere than these registrations, as a sentence.
    pub(super) elsewhere: Option<String>,
    pub(super) plan_is_known: bool,
    /// Target groups that this instance's owner has taken it out of, by a call that was accepted, and that it has not come
    /// back to.
    pub(super) taken_out_of: Vec<TargetGroupArn>,
    /// Target groups that the owner takes this instance out of, because it was asked for a successor.
    pub(super) goes_out_of: Vec<TargetGroupArn>,
    /// Its call to leave the owner is under way, or may have been done.
    pub(super) may_be_taken_out: bool,
    /// In some target group the owner does not register its successor.
    pub(super) registers_somewhere: bool,
    /// Target groups that the owner had at the look-up or since, and has no more.
    pub(super) unlisted: Vec<TargetGroupArn>,
    /// Those of them that this instance is out of.
    pub(super) unneeded: Vec<TargetGroupArn>,
    pub(super) crowd: Crowd,
}

impl Situation<'_> {
    pub(super) fn registrations(&self) -> &[Registration] {
        self.incident.registrations.known()
    }

    pub(super) fn reserve_reached(&self) -> bool {
        self.now >= self.incident.deadline - self.settings.reserve
    }

    /// Looked up, and nothing found.
    pub(super) fn is_in_no_target_group(&self) -> bool {
        self.registrations().is_empty() && self.left_at.is_some()
    }
}

/// The meaning of an answer for the other duties.
#[derive(Default)]
pub(super) enum News {
    #[default]
    None,
    Registrations {
        found: Vec<Registration>,
        unclear: Vec<TargetGroupArn>,
        missing: Vec<String>,
    },
    /// Every target of ours that was ever seen in the target group of this leave.
    Targets(usize, Vec<Target>),
    Plan(Box<Plan>),
    /// The group that terminates this instance, with the hooks that it has now.
    Group(Box<Plan>),
    Asked(Asked),
    Found(Found),
    /// The successors were looked at, and these have died.
    Watched(Vec<Death>),
    Members(Vec<GroupMember>),
    /// The last look at the target group of this leave.
    LastSeen(usize, Vec<TargetHealth>),
    /// A termination hook is not open, or not any more.
    HookNotOpen,
}

impl From<Asked> for News {
    fn from(asked: Asked) -> News {
        News::Asked(asked)
    }
}

/// The meaning of an answer of the owner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Pending,
    /// The owner has been asked.
    Requested,
    /// The owner has been asked, and says by itself when there is a successor to find.
    Raised,
    /// The owner launches; which instance it is has to be found out.
    Launching,
    /// The group launches by itself by now, and is not asked for anything.
    LaunchesItself,
    /// This instance has left its owner; the successor was launched before.
    Left,
    Launched(Vec<InstanceId>),
    /// A call whose answer was lost may have done it: the duty looks before it asks in another way.
    InDoubt,
    /// The call that was in doubt was not done.
    NotLaunched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    NotYet,
    /// Nobody launches any more.
    OwnerIsGone,
    /// The group does not launch by itself any more, and lacks a member once this instance is gone.
    HasToBeAsked,
    /// Those not handed out before; not empty.
    Successors(Vec<Instance>),
    /// Looked often enough to be sure that a launch in doubt was not done.
    Nothing,
}

/// The seed of a duty's pauses: two instances never pause alike.
pub(super) fn seed(incident: &Incident, duty: &str) -> u64 {
    retry::seed(&format!("{} {} {duty}", incident.id.instance_id, incident.id.boot_id))
}
