//! The vocabulary between the duties of a handover: what each may know of the others ([`Situation`]), and what it tells
//! them ([`News`]).

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

/// Everything that a duty may know of the others: one look at the whole handover, taken for each round of calls and for
/// each answer.
pub(super) struct Situation<'a> {
    pub(super) now: BootInstant,
    pub(super) incident: &'a mut Incident,
    pub(super) settings: LeaveSettings,
    pub(super) manner: Manner,
    /// This instance leaves the target groups now rather than serve on.
    pub(super) may_leave: bool,
    /// This instance sets its tag before it leaves.
    pub(super) may_mark: bool,
    /// This instance bears its tag, or IAM denies the call.
    pub(super) is_marked: bool,
    /// Other instances leave too, and as far as we know nobody would serve until one of them is back.
    pub(super) waits_for_another: bool,
    /// It is time to look whether anybody else serves.
    pub(super) looks_who_serves: bool,
    /// An interruption is announced, or this instance leaves for another reason.
    pub(super) is_certain: bool,
    /// The instant at which AWS had accepted every deregistration.
    pub(super) left_at: Option<BootInstant>,
    /// Every deregistration was sent and answered once, whatever the answer.
    pub(super) deregistration_tried: bool,
    /// Target health shows every registration `unused`: the load balancer is done with this instance.
    pub(super) all_unused: bool,
    /// A registration from before the handover may still land, and only this instance would undo it.
    pub(super) may_be_registered: bool,
    pub(super) quiet: bool,
    /// No command of the user's has to be waited for.
    pub(super) hooks_ended: bool,
    /// This instance needs the group's termination hooks no longer: they may be completed.
    pub(super) may_complete: bool,
    /// The group takes heartbeats and completions now.
    pub(super) hooks_are_open: bool,
    /// The hooks may be open: IAM does not let spot-relay read the member's state.
    pub(super) hooks_are_hidden: bool,
    /// The reason why requests may come from elsewhere than these registrations, as a sentence.
    pub(super) elsewhere: Option<String>,
    pub(super) plan_is_known: bool,
    /// Target groups that the owner has taken this instance out of by an accepted call, unless it has come back.
    pub(super) taken_out_of: Vec<TargetGroupArn>,
    /// Target groups that the owner takes this instance out of because we asked it for a successor.
    pub(super) goes_out_of: Vec<TargetGroupArn>,
    /// The call to leave the owner is under way, or may have been done.
    pub(super) may_be_taken_out: bool,
    /// The owner does not register its successor in every target group of this instance.
    pub(super) registers_somewhere: bool,
    /// Target groups that the owner had at the look-up or later, and no longer has.
    pub(super) unlisted: Vec<TargetGroupArn>,
    /// The unlisted target groups that this instance has left.
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

    /// Tells whether the look-up is over and has found no registration.
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
    /// Every target of ours that was ever seen in a target group, with the index of its leave.
    Targets(usize, Vec<Target>),
    Plan(Box<Plan>),
    /// The group that terminates this instance, with its present hooks.
    Group(Box<Plan>),
    Asked(Asked),
    Found(Found),
    /// The successors that have died, by a look at all of them.
    Watched(Vec<Death>),
    Members(Vec<GroupMember>),
    /// The target health at the last look, with the index of the target group's leave.
    LastSeen(usize, Vec<TargetHealth>),
    /// A termination hook is not open yet, or no longer.
    HookNotOpen,
}

impl From<Asked> for News {
    fn from(asked: Asked) -> News {
        News::Asked(asked)
    }
}

/// The progress of asking the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Pending,
    /// The owner has been asked.
    Requested,
    /// The owner has been asked. The duty that asks it will say when there is a successor to find.
    Raised,
    /// The owner launches; the successor has to be found.
    Launching,
    /// The group launches by itself now, and is not asked for anything.
    LaunchesItself,
    /// This instance has left its owner; the successor was launched before.
    Left,
    Launched(Vec<InstanceId>),
    /// A call whose answer was lost may have launched: the duty looks before it asks in another way.
    InDoubt,
    /// The call in doubt has launched nothing.
    NotLaunched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    NotYet,
    /// Nobody launches any more.
    OwnerIsGone,
    /// The group no longer launches by itself, and lacks a member once this instance is gone.
    HasToBeAsked,
    /// The successors not handed out before; at least one.
    Successors(Vec<Instance>),
    /// The search has lasted long enough to be sure that a launch in doubt was not done.
    Nothing,
}

/// The seed of a duty's pauses: two instances never pause alike.
pub(super) fn seed(incident: &Incident, duty: &str) -> u64 {
    retry::seed(&format!("{} {} {duty}", incident.id.instance_id, incident.id.boot_id))
}
