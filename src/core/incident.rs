//! One incident: what the signals of one interruption have in common, the progress of its handover, and the record.
//!
//! The life owns it and lends it to its handover. `handover.json`, the status, the log, the webhook and the hooks show
//! it. It keeps what nobody can look up again. This is data, with conclusions from it; an edge writes the file.

mod about;
mod launch_step;
mod milestones;
mod phase;
mod registrations;
mod schema;
mod upgrade;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::call::HookKind;
use crate::core::model::{
    BootInstant, GroupMember, Identity, IncidentId, InstanceId, Milestone, MilestoneKind, Signal, TargetGroupArn,
};
use crate::core::plan::Plan;

pub(crate) use about::About;
pub use launch_step::{LaunchStep, LaunchWay};
pub use phase::{Closed, Outcome, Phase, Takes};
pub use registrations::Registrations;
use schema::Schema;

/// An incident is fixed at its first sight, except for its progress and for what a later signal adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The number of this layout.
    pub(crate) schema: Schema,
    #[serde(rename = "incident")]
    pub id: IncidentId,
    pub signal: Signal,
    /// The Auto Scaling group takes this instance out of service, whatever signal came first: nobody asks for a
    /// successor, and nothing brings the instance back.
    pub group_takes: Option<Takes>,
    /// The notice's time, if it had one that can be read.
    pub time: Option<Timestamp>,
    /// The id of a scheduled event.
    pub event: Option<String>,
    /// The boot in which the incident began, if the machine has rebooted since: its client tokens stay the same.
    pub first_boot: Option<String>,
    /// The beginning of the incident by AWS's clock.
    pub begun_at: Timestamp,
    /// Its beginning on the boot clock, of the same boot as the milestones' instants.
    pub begun: BootInstant,
    /// The deadline. After a recommendation the successor is waited for until then.
    pub deadline: BootInstant,
    #[serde(flatten)]
    pub phase: Phase,
    /// The instant at which this instance began to leave its target groups. Once begun, leaving goes on.
    pub leaving_since: Option<BootInstant>,
    pub registrations: Registrations,
    pub plan: Option<Plan>,
    /// The plan was made before the first signal: its members are no successors, for later processes too.
    pub planned_before: bool,
    /// The notice came first: no weaker signal before it can have had a successor launched.
    pub begun_by_notice: bool,
    /// Target groups that the configuration names and AWS does not know: no handover is complete with them.
    pub missing: Vec<String>,
    /// The target groups of which AWS does not tell whether this instance is in them.
    pub unclear: Vec<TargetGroupArn>,
    /// The target groups that the owner no longer has, and has taken this instance out of.
    #[serde(default)]
    pub swapped_out: Vec<TargetGroupArn>,
    /// The hooks that have ended: the next process does not run them again.
    pub hooks_ended: Vec<HookKind>,
    /// The last launch that was requested: the next process goes on there.
    pub launch: Option<LaunchStep>,
    /// A handover by recommendation has taken place in this boot.
    pub recommended: bool,
    /// The group was to launch a successor before this instance leaves, whether or not AWS has answered.
    pub launched_first: bool,
    /// The successors of the incident before this one in the same boot: none of them is a successor of this one.
    #[serde(default)]
    pub successors_before: BTreeSet<InstanceId>,
    pub milestones: Vec<Milestone>,
    /// `None` while its handover goes on.
    pub outcome: Option<Outcome>,
    /// The way in which this process took the incident up.
    #[serde(skip)]
    pub start: Start,
    /// The number of milestones that the daemon has told.
    #[serde(skip)]
    pub(crate) told: usize,
}

/// The way in which one process takes an incident up. The next process finds this out again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub identity: Identity,
    /// The signal that the owner acts on: a recommendation, if one stands beside a scheduled event.
    pub owner_sees: Signal,
    /// The code of a scheduled event.
    pub event_code: Option<String>,
    /// Both clocks at one moment: AWS's and the boot's.
    pub clocks: (Timestamp, BootInstant),
    /// A member launched before this is no successor: AWS's time at the first signal of this incident, less some slack.
    pub successors_since: Option<Timestamp>,
    /// The earliest time at which a process of ours can have launched for this incident. If a client token brings an
    /// older instance, that was launched for another incident, whose record is lost. `None` if the token is known to be
    /// this incident's, or the time is not sure.
    pub launches_since: Option<Timestamp>,
    pub earlier: Earlier,
    /// This handover has broken off an arrival. Until this instant a registration or an attachment that the arrival
    /// asked for may still take effect.
    pub arrival_lands_by: Option<BootInstant>,
    /// This process has reported this complete handover: milestones that still hold are not told again.
    pub handed_over: Option<Outcome>,
    /// A weaker signal of this incident may have had a successor launched: it is asked for again before leaving.
    pub serve_on: bool,
}

/// The earlier parts of a handover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Earlier {
    #[default]
    Nothing,
    /// The handover may have begun earlier in this boot.
    Perhaps,
    /// The process before this one has begun the handover.
    Restart,
}

impl Start {
    pub(crate) fn is_resumed(&self) -> bool {
        self.earlier != Earlier::Nothing
    }
}

impl Incident {
    /// Makes an incident of which only the signal is known.
    pub fn new(id: IncidentId, signal: Signal, deadline: BootInstant, start: Start) -> Incident {
        let (begun_at, begun) = start.clocks;
        Incident {
            schema: Schema,
            id,
            signal,
            group_takes: None,
            time: None,
            event: None,
            first_boot: None,
            begun_at,
            begun,
            deadline,
            phase: Phase::Waiting,
            leaving_since: None,
            registrations: Registrations::default(),
            plan: None,
            planned_before: false,
            begun_by_notice: signal == Signal::Notice,
            missing: Vec::new(),
            unclear: Vec::new(),
            swapped_out: Vec::new(),
            hooks_ended: Vec::new(),
            launch: None,
            recommended: false,
            launched_first: start.serve_on,
            successors_before: BTreeSet::new(),
            milestones: Vec::new(),
            outcome: None,
            start,
            told: 0,
        }
    }

    /// The incident in the boot after a reboot, which has another clock: earlier milestones count as of its first
    /// instant. The reboot has undone what was done on this machine; what was done at AWS stays.
    pub(crate) fn after_reboot(self, boot_id: String, booted_at: Timestamp, deadline: BootInstant) -> Incident {
        let first_boot = self.first_boot.or(Some(self.id.boot_id));
        let is_at_aws = |milestone: &Milestone| milestone.milestone != MilestoneKind::Quiet;
        let milestones = self.milestones.into_iter().filter(is_at_aws);
        Incident {
            id: IncidentId { boot_id, ..self.id },
            first_boot,
            begun_at: booted_at,
            begun: BootInstant::default(),
            deadline,
            leaving_since: None,
            hooks_ended: Vec::new(),
            milestones: milestones.map(|it| Milestone { at: BootInstant::default(), ..it }).collect(),
            ..self
        }
    }

    /// The unclear target groups in which no registration was found since.
    pub(crate) fn unclear_groups(&self) -> impl Iterator<Item = &TargetGroupArn> {
        let is_known =
            |unclear: &TargetGroupArn| self.registrations.known().iter().any(|it| it.target_group == *unclear);
        self.unclear.iter().filter(move |unclear| !is_known(unclear))
    }

    /// Notes whether this instance is protected from scale-in now: its return tells what it has lost by leaving.
    pub(crate) fn is_shown(&mut self, members: &[GroupMember]) {
        let is_ours = |member: &&GroupMember| member.instance_id == self.id.instance_id;
        let (Some(now), Some(Plan::Group { group, .. })) = (members.iter().find(is_ours), &mut self.plan) else {
            return;
        };
        let known = group.members.iter_mut().filter(|member| member.instance_id == now.instance_id);
        known.for_each(|member| member.loses_protection = now.loses_protection);
    }

    /// Tells whether no interruption is announced.
    pub(crate) fn is_open(&self) -> bool {
        self.signal == Signal::RebalanceRecommendation && !self.is_terminating()
    }

    /// Tells whether this instance goes: an interruption is announced, or it left its target groups all the same.
    pub fn is_certain(&self) -> bool {
        !self.is_open() || self.leaving_since.is_some()
    }

    /// Tells whether the Auto Scaling group takes this instance out of service.
    pub fn is_terminating(&self) -> bool {
        self.group_takes.is_some()
    }

    /// Tells whether the group terminates this instance, and no notice says when it ends.
    pub(crate) fn ends_by_group(&self) -> bool {
        self.is_terminating() && self.signal != Signal::Notice && self.time.is_none()
    }

    /// The deadline, if an interruption is announced.
    pub(crate) fn announced_deadline(&self) -> Option<BootInstant> {
        (!self.is_open()).then_some(self.deadline)
    }

    /// The announced deadline by AWS's clock.
    pub fn deadline_by_aws(&self) -> Option<Timestamp> {
        let (aws, boot) = self.start.clocks;
        let deadline = self.announced_deadline()?;
        self.time.or_else(|| aws.checked_add(deadline.since(boot)).ok())
    }

    /// The time of an instant by AWS's clock.
    pub(crate) fn time_of(&self, instant: BootInstant) -> Timestamp {
        let (aws, boot) = self.start.clocks;
        aws.checked_add(instant.since(boot)).unwrap_or(aws)
    }

    /// AWS's time at which this boot began.
    pub(crate) fn booted(&self) -> Timestamp {
        let (aws, boot) = self.start.clocks;
        boot.booted_at(aws)
    }

    /// The instant of a time by AWS's clock.
    pub(crate) fn instant_of(&self, time: Timestamp) -> BootInstant {
        let (aws, boot) = self.start.clocks;
        match Duration::try_from(time.duration_since(aws)) {
            Ok(after) => boot + after,
            Err(_) => boot - Duration::try_from(aws.duration_since(time)).unwrap_or_default(),
        }
    }

    /// Corrects AWS's time, which was in doubt when the incident began.
    pub(crate) fn correct_time(&mut self, aws_now: Timestamp, now: BootInstant) {
        self.start.clocks = (aws_now, now);
        self.begun_at = aws_now.saturating_sub(now.since(self.begun)).unwrap_or(aws_now);
    }

    /// AWS's time of an instant, by the clocks at the beginning of the incident.
    pub(crate) fn aws_time_of(&self, instant: BootInstant) -> Timestamp {
        self.begun_at.saturating_add(instant.since(self.begun)).unwrap_or(self.begun_at)
    }
}

/// The phase.
impl Incident {
    /// Begins to leave the target groups.
    pub(crate) fn leave(&mut self, now: BootInstant) {
        self.leaving_since.get_or_insert(now);
        self.phase = Phase::Leaving;
    }

    /// Goes on with a handover that was over.
    pub(crate) fn go_on_again(&mut self) {
        self.outcome = None;
        self.phase = Phase::Leaving;
    }

    /// Ends the handover.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        self.phase = Phase::Left;
    }

    /// The way in which it is closed; `None` while anything is left to be done or to be put right.
    pub fn closed(&self) -> Option<Closed> {
        match self.phase {
            Phase::Closed(how) => Some(how),
            Phase::Waiting | Phase::Leaving | Phase::Left | Phase::ComingBack => None,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed().is_some()
    }

    /// Tells whether its handover goes on, in this process or in the one before.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Leaving)
    }

    /// Tells whether this instance was to go, and lives on.
    pub(crate) fn was_survived(&self) -> bool {
        matches!(self.phase, Phase::ComingBack | Phase::Closed(_))
    }

    /// Tells whether the handover came to its own end, complete or not: no signal was withdrawn before.
    pub fn was_seen_through(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| !outcome.duties.is_empty())
    }

    pub fn is_complete(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.complete)
    }

    /// AWS's time of the last milestone, if the incident is closed.
    pub(crate) fn told_until(&self) -> Timestamp {
        let last = self.milestones.last().filter(|_| self.is_closed());
        last.map_or(Timestamp::MIN, |last| self.aws_time_of(last.at))
    }

    /// Tells whether a handover by recommendation goes on.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.signal == Signal::RebalanceRecommendation && self.outcome.is_none()
    }

    /// Tells whether the group launched a successor when this instance left, and this instance came back: the group
    /// wants one more than before. A successor of LaunchInstances does not count: its token finds it.
    pub(crate) fn is_replaced(&self) -> bool {
        let by_leaving =
            |it: &Milestone| it.milestone == MilestoneKind::SuccessorRequested && it.successor_id.is_none();
        self.has_reached(MilestoneKind::Reinstated) && self.milestones.iter().any(by_leaving)
    }

    /// Tells whether a recommendation ended before a successor was asked for and before this instance left.
    pub(crate) fn led_to_nothing(&self) -> bool {
        let has_begun = [MilestoneKind::SuccessorRequested, MilestoneKind::Deregistered];
        let is_weak = self.signal == Signal::RebalanceRecommendation && self.outcome.is_some();
        is_weak && has_begun.iter().all(|kind| !self.has_reached(*kind))
    }

    /// Tells whether the group may have launched a successor already: asking in another way would launch a second one.
    pub(crate) fn may_have_launched_first(&self, is_weaker: bool) -> bool {
        let asked = self.has_reached(MilestoneKind::SuccessorRequested);
        (self.launched_first && self.outcome.is_none()) || ((self.launched_first || is_weaker) && asked)
    }
}

/// The milestones: reached one by one, and told once.
impl Incident {
    pub(crate) fn reach(
        &mut self,
        now: BootInstant,
        milestone: MilestoneKind,
        message: impl Into<String>,
        about: About,
    ) {
        let About { target_group, successor_id } = about;
        let is_such = |it: &Milestone| {
            (it.milestone, &it.target_group, &it.successor_id) == (milestone, &target_group, &successor_id)
        };
        let is_news = || matches!(milestone, MilestoneKind::Noticed | MilestoneKind::HandedOver);
        if self.start.handed_over.is_some() && !is_news() && self.milestones.iter().any(is_such) {
            return;
        }
        let owner = match milestone {
            MilestoneKind::Recommended
            | MilestoneKind::Noticed
            | MilestoneKind::SuccessorRequested
            | MilestoneKind::HandedOver => self.plan.as_ref().map(|plan| Plan::owner(plan).to_owned()),
            _ => None,
        };
        self.keep(Milestone {
            milestone,
            at: now,
            left: self.announced_deadline().map(|deadline| deadline.since(now)),
            target_group,
            successor_id,
            owner,
            message: message.into(),
        });
    }

    /// Takes the milestones that were not told yet. They count as told from now on.
    pub(crate) fn take_untold(&mut self) -> Vec<Milestone> {
        let untold = self.milestones.get(self.told..).unwrap_or_default().to_vec();
        self.told = self.milestones.len();
        untold
    }

    pub(crate) fn has_reached(&self, kind: MilestoneKind) -> bool {
        self.milestones.iter().any(|milestone| milestone.milestone == kind)
    }

    /// Its successors, as far as a milestone names them.
    pub(crate) fn successors(&self) -> BTreeSet<InstanceId> {
        self.milestones.iter().filter_map(|milestone| milestone.successor_id.clone()).collect()
    }

    /// Tells a person what becomes of the successor of an instance that lives on; `None` if no successor was asked for.
    pub(crate) fn fate_of_successor(&self) -> Option<String> {
        if !self.has_reached(MilestoneKind::SuccessorRequested) {
            return None;
        }
        let id = self.milestones.iter().rev().find_map(|milestone| milestone.successor_id.as_ref());
        let is_registered = self.has_reached(MilestoneKind::SuccessorRegistered);
        Some(match id {
            Some(id) if is_registered => format!("its successor {id} serves beside it"),
            Some(id) => format!(
                "its successor {id} runs on and is registered by nobody else than its owner: register it, or end it with aws \
                 ec2 terminate-instances --instance-ids {id}"
            ),
            None => {
                "a successor was asked for, and runs on once it comes: find it by its owner, and register it or end it"
                    .to_owned()
            }
        })
    }

    /// Tells whether this instance was quiet, and has not come back since.
    pub fn was_quiet(&self) -> bool {
        self.has_reached_since_it_survived(MilestoneKind::Quiet)
    }

    /// Tells whether this instance was deregistered, and has not come back since.
    pub(crate) fn has_left(&self) -> bool {
        self.has_reached_since_it_survived(MilestoneKind::Deregistered)
    }

    fn has_reached_since_it_survived(&self, kind: MilestoneKind) -> bool {
        let since = self.milestones.rsplit(|milestone| milestone.milestone == MilestoneKind::Survived).next();
        since.unwrap_or_default().iter().any(|milestone| milestone.milestone == kind)
    }
}
