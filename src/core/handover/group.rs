//! Asking an Auto Scaling group: it launches a successor as this instance leaves it. When serving on, it launches one
//! more first, and this instance leaves afterwards without a second successor (docs/aws.md 4).

mod exit;
mod fate;
mod launch_first;
mod launched;
mod stage;

use std::time::Duration;

use exit::{Exit, ExitAnswer, Left, LeftBy, was_in_service};
pub(super) use exit::{membership, ours};
use launch_first::{LaunchFirst, is_replaced_by_group, is_without_record, may_have_changed};
use stage::{Reason, Stage};

use super::among::INSTANCES_A_CALL;
use super::ask::Ask;
use super::course::{Asked, HandingOver, News, Situation};
use super::crowd::Bucket;
use super::launch::{NOTED_WITHIN, client_token};
use super::manner::Manner;
use crate::core::call::{Answer, Call, HookResult};
use crate::core::duty::{Attempts, Duty, DutyReport, its_attempts};
use crate::core::incident::{Incident, LaunchStep};
use crate::core::model::{AutoScalingGroup, BootInstant, GroupMember, Membership, MilestoneKind, Signal};

/// The pause between two looks at a member that cannot be taken out yet.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pause between two looks at the group while this instance serves on beside the successor that was launched.
const SERVING_LOOK_EVERY: Duration = Duration::from_secs(30);
/// The pause between two calls under one client token while the first is still in progress.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

pub(super) struct AskGroup {
    group: AutoScalingGroup,
    stage: Stage,
    attempts: Attempts,
    reason: Reason,
    launch: LaunchFirst,
    exit: Exit,
    /// This instance had left before the group was asked, and may have another owner now.
    is_gone_unasked: bool,
    /// A remark for a person.
    remark: Option<String>,
}

impl AskGroup {
    pub(super) fn new(
        group: AutoScalingGroup,
        terminate: bool,
        manner: Manner,
        incident: &Incident,
        attempts: Attempts,
    ) -> AskGroup {
        AskGroup {
            stage: match manner {
                _ if incident.is_replaced() => Stage::Exit { decrement: true },
                // The previous process may have had a successor launched.
                Manner::AtOnce if incident.start.serve_on => Stage::Look,
                Manner::AtOnce if terminate && may_have_changed(&group, incident) => {
                    Stage::Settings { launches: false }
                }
                Manner::AtOnce => Stage::Exit { decrement: false },
                Manner::ServeOn | Manner::Open if incident.start.is_resumed() || !was_in_service(&group, incident) => {
                    Stage::Look
                }
                Manner::ServeOn if may_have_changed(&group, incident) => Stage::Settings { launches: true },
                Manner::ServeOn | Manner::Open => Stage::Launch,
            },
            reason: match manner {
                Manner::Open => Reason::Open,
                _ if incident.signal == Signal::ScheduledEvent => Reason::Scheduled,
                Manner::ServeOn | Manner::AtOnce => Reason::Announced,
            },
            launch: LaunchFirst::new(&group, incident),
            exit: Exit::new(&group, terminate, incident),
            is_gone_unasked: false,
            remark: None,
            group,
            attempts,
        }
    }

    fn go_on(&mut self, now: BootInstant, stage: Stage) -> Asked {
        self.stage = stage;
        self.attempts.succeeded(now);
        Asked::Pending
    }

    /// Takes the members before a launch. This instance may be on its way into the group, or may not be taken out now.
    fn looked(&mut self, now: BootInstant, incident: &Incident, members: &[GroupMember]) -> Asked {
        self.exit.state = ours(members, incident).map(|member| member.lifecycle_state.clone());
        match membership(members, incident) {
            Membership::Leaving if self.exit.may_be_attached(now) => self.go_on(now + LOOK_EVERY, Stage::Look),
            // This instance is out, or on its way out, which lasts for minutes.
            Membership::Leaving => self.leave(now, self.exit.gone_by(), false),
            Membership::Detachable if members.len() > 1 && is_without_record(incident) => {
                self.group.members = members.to_vec();
                self.go_on(now, Stage::Newest)
            }
            Membership::Detachable if may_have_changed(&self.group, incident) => {
                self.go_on(now, Stage::Settings { launches: true })
            }
            Membership::Detachable => self.go_on(now, Stage::Launch),
            _ if self.reason == Reason::Open => self.go_on(now + LOOK_EVERY, Stage::Look),
            _ => self.read(now, incident, members, false),
        }
    }

    /// Takes the members after the group has refused to let this instance go.
    fn read(&mut self, now: BootInstant, incident: &Incident, members: &[GroupMember], decrement: bool) -> Asked {
        self.exit.state = ours(members, incident).map(|member| member.lifecycle_state.clone());
        match membership(members, incident) {
            Membership::Leaving => self.leave(now, self.exit.gone_by(), decrement),
            Membership::Warm => self.leave(now, LeftBy::Uncounted, true),
            Membership::AtLaunchHook if !decrement && !self.group.launch_hooks.is_empty() => {
                self.go_on(now, Stage::Abandon(0))
            }
            // The state has changed since the refusal, or is no reason for it.
            Membership::Detachable => {
                let pause = LOOK_EVERY / 4 * (1 << self.exit.unexplained.min(4));
                self.exit.unexplained += 1;
                self.go_on(now + pause, Stage::Exit { decrement })
            }
            Membership::AtLaunchHook | Membership::NotYet => self.go_on(now + LOOK_EVERY, Stage::Read { decrement }),
        }
    }

    /// Leaves now, even if the group has refused to launch a successor first.
    fn has_to_leave(&mut self, now: BootInstant) {
        self.reason = Reason::Announced;
        if self.stage == Stage::Stay {
            self.go_on_without_launch(now);
        }
    }

    /// Takes the group as it is now, before it is asked for anything.
    fn settings(&mut self, now: BootInstant, incident: &Incident, answer: Answer, launches: bool) -> Asked {
        if let Answer::GroupSettings { current, termination_hooks } = answer {
            let current = current.unwrap_or_default();
            if current.capacity_rebalance && is_replaced_by_group(incident) && self.reason != Reason::Terminated {
                return Asked::LaunchesItself;
            }
            self.exit.go_by_hooks(termination_hooks);
            // For a member that the group takes out by itself nothing is launched.
            if membership(&current.members, incident) != Membership::Detachable {
                return self.looked(now, incident, &current.members);
            }
        }
        // A failed read holds nothing up.
        self.go_on(now, if launches { Stage::Launch } else { Stage::Exit { decrement: false } })
    }

    fn leave(&mut self, now: BootInstant, by: LeftBy, decrement: bool) -> Asked {
        let is_outside = self.exit.state.as_deref().is_none_or(|state| state.starts_with("Detach"));
        self.is_gone_unasked = by == LeftBy::Itself && !decrement && is_outside;
        self.go_on(now, Stage::Done(Left { at: now, by }));
        if decrement || self.nobody_comes().is_some() { Asked::Left } else { Asked::Requested }
    }

    /// Tells whether this instance leaves before a successor is launched.
    fn leaves_first(&self) -> bool {
        matches!(
            self.stage,
            Stage::Settings { launches: false }
                | Stage::Exit { decrement: false }
                | Stage::Read { decrement: false }
                | Stage::Abandon(_)
        )
    }
}

impl Ask for AskGroup {
    fn step(&self) -> Option<LaunchStep> {
        Some(self.launch.step())
    }

    fn resume(&mut self, step: LaunchStep) {
        self.launch.resume(step);
    }

    fn take_remark(&mut self) -> Option<String> {
        self.remark.take()
    }

    fn owner(&self) -> Option<String> {
        Some(format!("group {}", self.group.name))
    }

    fn decide(&mut self, situation: &Situation<'_>) -> Option<Asked> {
        let now = situation.now;
        if self.reason == Reason::Scheduled && situation.may_leave && !self.attempts.in_flight {
            self.has_to_leave(now);
        }
        if self.reason == Reason::Scheduled && self.stage == Stage::Stay && self.attempts.is_due(now) {
            self.launch.begin_again();
            self.go_on(now + NOTED_WITHIN, Stage::Launch);
        }
        let is_open = self.stage.is_before_launch();
        if self.attempts.in_flight || !(is_open || self.stage == Stage::Stay) {
            return None;
        }
        if self.reason == Reason::Terminated {
            // The previous process may have asked for this termination.
            if self.exit.gone_by() == LeftBy::LostReply
                && situation.incident.has_reached(MilestoneKind::SuccessorRequested)
            {
                return Some(self.leave(now, LeftBy::LostReply, false));
            }
            if self.launch.is_in_doubt() {
                self.stage = Stage::Doubt;
                return Some(Asked::InDoubt);
            }
            self.stage = Stage::Done(Left { at: now, by: LeftBy::Itself });
            return Some(Asked::Left);
        }
        // An open launch is not given up: its token is asked for again.
        if !is_open || self.launch.is_open() {
            return None;
        }
        let has_other_sources = !self.group.other_traffic_sources.is_empty();
        if self.reason == Reason::Open && situation.is_in_no_target_group() && has_other_sources {
            let why = "whether it serves in the group's other traffic sources is not ours to see".to_owned();
            return Some(self.give_up(now, why));
        }
        // The time to leave has come without a successor: the group is asked as with `[leave] when = "at-once"`.
        situation.may_leave.then(|| self.give_up(now, "time to leave came first".to_owned()))
    }

    fn runs_hooks(&self) -> bool {
        self.exit.terminates()
    }

    /// Begins no launch any more; a launch under way counts.
    fn group_terminates(&mut self) {
        self.reason = Reason::Terminated;
    }

    fn become_urgent(&mut self, manner: Manner, now: BootInstant) {
        if matches!(self.reason, Reason::Open | Reason::Scheduled) && manner != Manner::Open {
            self.has_to_leave(now);
        }
    }

    /// Tells whether this instance leaves the group, or has left it, at our request as far as we know.
    fn was_asked(&self) -> bool {
        match self.stage {
            Stage::Done(left) => matches!(left.by, LeftBy::Request | LeftBy::LostReply),
            Stage::Exit { .. } | Stage::Read { .. } | Stage::ServeOn => true,
            _ => self.leaves_first(),
        }
    }

    fn serves_on(&self) -> bool {
        !self.leaves_first() && self.launch.refused.is_none() && self.nobody_comes().is_none()
    }

    fn in_vain(&self) -> Option<String> {
        let why = self.launch.refused.as_deref().unwrap_or_default();
        let name = &self.group.name;
        match self.nobody_comes() {
            Some(_) if self.reason == Reason::Open => {
                Some(format!("group {name} does not hold it any more, or does not count it"))
            }
            _ => (self.stage == Stage::Stay).then(|| format!("group {name} could not launch a successor first: {why}")),
        }
    }

    fn has_left(&self) -> bool {
        matches!(self.stage, Stage::Done(Left { by: LeftBy::Request, .. }))
    }

    fn is_out(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }

    fn may_have_left(&self) -> bool {
        match self.stage {
            Stage::Exit { .. } | Stage::Abandon(_) => self.attempts.in_flight || self.exit.is_in_doubt(),
            Stage::Read { .. } => self.exit.is_in_doubt(),
            Stage::Done(left) => matches!(left.by, LeftBy::Request | LeftBy::LostReply),
            _ => false,
        }
    }

    fn makes_room(&self) -> bool {
        matches!(self.stage, Stage::ServeOn | Stage::Exit { decrement: true } | Stage::Read { decrement: true })
    }

    fn nobody_comes(&self) -> Option<&'static str> {
        match self.stage {
            Stage::Done(Left { by: LeftBy::Uncounted, .. }) => Some("none: the group does not count this instance"),
            Stage::Done(Left { by: LeftBy::Itself, .. }) => {
                Some("not asked for: this instance had left its group before")
            }
            _ => None,
        }
    }

    fn is_gone_unasked(&self) -> bool {
        self.is_gone_unasked
    }

    fn is_gone_by_lost_reply(&self) -> bool {
        matches!(self.stage, Stage::Done(Left { by: LeftBy::LostReply, .. }))
    }

    fn launched(&mut self, now: BootInstant) {
        self.launch.was_done();
        self.go_on(now + LOOK_EVERY, Stage::ServeOn);
    }

    fn was_not_done(&mut self, now: BootInstant) {
        if self.stage == Stage::Doubt {
            self.go_on_without_launch(now);
        }
    }
}

impl Duty<HandingOver> for AskGroup {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        situation.crowd.take_turns(&mut self.attempts, Bucket::AUTO_SCALING);
        match self.stage {
            Stage::Exit { decrement: false } => self.exit.consider(situation.now),
            Stage::ServeOn if situation.may_leave && !self.attempts.in_flight => {
                self.go_on(situation.now, Stage::Exit { decrement: true });
            }
            Stage::ServeOn => {
                situation.crowd.keep_apart(&mut self.attempts, situation.incident.begun, Bucket::AUTO_SCALING);
            }
            _ => {}
        }
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let group = self.group.name.clone();
        match self.stage {
            Stage::Look | Stage::Compare | Stage::ServeOn | Stage::Read { .. } => {
                Some(Call::DescribeAutoScalingGroup { group })
            }
            Stage::Newest => {
                let is_other = |it: &&GroupMember| it.instance_id != situation.incident.id.instance_id;
                let others = self.group.members.iter().filter(is_other).map(|it| it.instance_id.clone());
                Some(Call::DescribeInstances { instance_ids: others.take(INSTANCES_A_CALL).collect() })
            }
            Stage::Launch => {
                self.launch.note_asked();
                Some(Call::LaunchInstances {
                    group,
                    client_token: client_token(situation.incident, self.launch.attempt),
                    capacity: ours(&self.group.members, situation.incident).map_or(1, GroupMember::units),
                    availability_zone: self.launch.zone(),
                })
            }
            Stage::Exit { decrement: true } if !situation.may_leave => None,
            Stage::Exit { decrement: false }
                if situation.waits_for_another
                    && self.exit.waits_until().is_some_and(|until| situation.now < until) =>
            {
                None
            }
            Stage::Exit { decrement } => Some(self.exit.call(group, decrement)),
            Stage::Abandon(index) if situation.quiet || situation.reserve_reached() => {
                let hook = self.group.launch_hooks.get(index)?.name.clone();
                Some(Call::CompleteLifecycleAction { group, hook, result: HookResult::Abandon })
            }
            Stage::Settings { .. } => {
                let asks_hooks = !self.group.termination_hooks.is_empty();
                Some(Call::DescribeGroupSettings { group, asks_hooks })
            }
            Stage::Abandon(_) | Stage::Doubt | Stage::Stay | Stage::Done(_) => None,
        }
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let (now, incident) = (situation.now, &*situation.incident);
        let asked = match (self.stage, answer) {
            (Stage::Settings { launches }, answer) => self.settings(now, incident, answer, launches),
            (Stage::Look, Answer::GroupState(current)) => {
                self.looked(now, incident, &current.unwrap_or_default().members)
            }
            (Stage::Read { decrement }, Answer::GroupState(current)) => {
                let current = current.unwrap_or_default();
                if decrement {
                    self.remark = self.exit.keep_size(&self.group.name, &current, incident);
                }
                self.read(now, incident, &current.members, decrement)
            }
            (Stage::Newest, answer) => self.newest_shown(now, incident, answer),
            (Stage::Launch, Answer::Launched(launched)) => self.launch_answered(now, launched),
            (Stage::Launch, Answer::Failed(failure)) => self.launch_failed(now, incident, failure),
            (Stage::ServeOn, Answer::GroupState(_)) => self.go_on(now + SERVING_LOOK_EVERY, Stage::ServeOn),
            (Stage::Compare, Answer::GroupState(Some(current))) => self.compared(now, &current),
            (Stage::Compare, other) => {
                self.stage = Stage::Launch;
                return Err(other);
            }
            (Stage::Exit { decrement }, answer) => match self.exit.answered(now, answer) {
                ExitAnswer::Left(by) => self.leave(now, by, decrement),
                ExitAnswer::Refused => self.go_on(now, Stage::Read { decrement }),
                ExitAnswer::Failed(other) => return Err(other),
            },
            (Stage::Abandon(_), Answer::Accepted) => self.leave(now, LeftBy::Request, false),
            (Stage::Abandon(index), Answer::Failed(failure)) if failure.message.contains("No active Lifecycle") => {
                let is_last = index + 1 >= self.group.launch_hooks.len();
                self.go_on(now, if is_last { Stage::Read { decrement: false } } else { Stage::Abandon(index + 1) })
            }
            (_, other) => return Err(other),
        };
        Ok(asked.into())
    }

    fn wake(&self, since: BootInstant) -> Option<BootInstant> {
        match self.stage {
            Stage::Exit { decrement: false } => {
                let instants = self.attempts.wake().into_iter().chain(self.exit.waits_until());
                instants.filter(|instant| *instant > since).min()
            }
            Stage::Settings { .. }
            | Stage::Look
            | Stage::Newest
            | Stage::Launch
            | Stage::Compare
            | Stage::ServeOn
            | Stage::Read { .. }
            | Stage::Abandon(_) => self.attempts.wake(),
            // This call is due when the target groups are left, which has its own instants. Retries use the attempts.
            Stage::Exit { decrement: true } if self.attempts.failures > 0 || self.exit.refused.is_some() => {
                self.attempts.wake()
            }
            Stage::Stay if self.reason == Reason::Scheduled => self.attempts.wake(),
            Stage::Exit { decrement: true } | Stage::Doubt | Stage::Stay | Stage::Done(_) => None,
        }
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        Some(self.fate(begun_at))
    }
}
