//! Asking an Auto Scaling group: to leave it in such a way that it launches a successor, or, when serving on, to launch
//! one more first and leave afterwards without a second one (docs/aws.md 4).
//!
//! A refusal says "not in InService or Standby" of a member that has left, and of one that has not come yet: the member's
//! state is read before either is believed. While a launch is in doubt nothing else is asked than the same launch again.

mod member;

use std::time::Duration;

use member::{Left, LeftBy, is_no_member, membership, was_in_service};

use super::ask::{Ask, Asked};
use super::crowd::Bucket;
use super::duties::{Duties, News};
use super::launch::{NOTED_WITHIN, client_token};
use super::manner::Manner;
use super::{Answer, Attempts, Call, Duty, DutyReport, Incident, Situation, seconds};
use crate::core::call::HookResult;
use crate::core::duty::its_attempts;
use crate::core::incident::{LaunchStep, LaunchWay};
use crate::core::model::{AutoScalingGroup, BootInstant, GroupMember, GroupRoom, InstanceId, Launched, Membership};
use crate::core::retry::{Failure, FailureKind};

/// So many faults in a row without an error code of AWS's are a no: an endpoint that lacks LaunchInstances answers so.
const FAULTS_THAT_REFUSE: u32 = 3;
/// A launch that AWS has answered in no way for so long is given up, if the group has not grown: asked in another way, it may
/// still launch in time.
const SILENT_AT_MOST: Duration = Duration::from_secs(30);
/// Between two looks at a member that cannot be taken out yet.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two calls under one client token while the first is still in progress.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

pub(super) struct AskGroup {
    group: AutoScalingGroup,
    /// Through the termination hook rather than by detaching.
    terminate: bool,
    stage: Stage,
    attempts: Attempts,
    /// Where to launch, best first; one launch names one zone.
    zones: Vec<String>,
    attempt: u32,
    /// A launch may have been done though its answer was lost, by this process or the one before.
    in_doubt: bool,
    /// A call of this process got no answer: the same token is asked for again, for [`SILENT_AT_MOST`].
    unanswered: bool,
    /// AWS says that the launch is under way: its token alone is asked for, to the end.
    in_progress: bool,
    first_launch_at: Option<BootInstant>,
    /// The group is known as it was before the notice.
    planned_before: bool,
    /// The launch was refused, and why: left as at-once, or not at all.
    refused: Option<String>,
    /// Leave only once a successor serves: no interruption is announced.
    open: bool,
    /// The group terminates this instance.
    overtaken: bool,
    /// The instant until which a call from before the handover may bring this instance into the group.
    may_be_attached_until: Option<BootInstant>,
    /// A call to leave may have been done though its answer was lost.
    exit_in_doubt: bool,
    left: Option<Left>,
    /// The member's lifecycle state, where it stood in the way.
    state: Option<String>,
    /// Why AWS refused to let this instance go, the last time, and how often the member's state did not say so.
    exit_refused: Option<String>,
    unexplained: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before a launch, after a restart or where this instance was not in service when it was last looked at: it may have
    /// left already, and what has not come yet cannot be taken out after a launch.
    Look,
    Launch,
    /// AWS has not answered for long: did the group grow?
    Compare,
    /// Looking whether a launch was done after all.
    Doubt,
    /// Leave the group. With `decrement`, once this instance leaves its target groups: the successor is launched.
    Exit {
        decrement: bool,
    },
    /// The group refuses to let this instance go: its lifecycle state tells why.
    Read {
        decrement: bool,
    },
    /// A launching hook holds this instance: abandoned, it makes the group replace it. Counts the hooks.
    Abandon(usize),
    /// No successor can be launched first, and nothing forces this instance to leave.
    Stay,
    Done,
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
                // The process before this one may have had a successor launched.
                Manner::AtOnce if incident.start.serve_on => Stage::Look,
                Manner::AtOnce => Stage::Exit { decrement: false },
                Manner::ServeOn | Manner::Open if incident.start.resumed || !was_in_service(&group, incident) => {
                    Stage::Look
                }
                Manner::ServeOn | Manner::Open => Stage::Launch,
            },
            zones: group.zones_for_a_successor(&incident.start.identity.availability_zone),
            attempt: 0,
            in_doubt: incident.start.resumed,
            unanswered: false,
            in_progress: false,
            first_launch_at: None,
            planned_before: incident.planned_before,
            refused: None,
            open: manner == Manner::Open,
            overtaken: false,
            may_be_attached_until: incident.start.arrival_lands_by,
            exit_in_doubt: incident.start.resumed,
            left: None,
            state: None,
            exit_refused: None,
            unexplained: 0,
            group,
            terminate,
            attempts,
        }
    }

    fn may_be_attached(&self, now: BootInstant) -> bool {
        self.may_be_attached_until.is_some_and(|until| now < until)
    }

    fn go_on(&mut self, now: BootInstant, stage: Stage) -> Asked {
        self.stage = stage;
        self.attempts.succeeded(now);
        Asked::Pending
    }

    /// The group has refused to let this instance go, and these are its members.
    fn read(&mut self, now: BootInstant, incident: &Incident, members: &[GroupMember], decrement: bool) -> Asked {
        let ours = members.iter().find(|member| member.instance_id == incident.id.instance_id);
        self.state = ours.map(|member| member.lifecycle_state.clone());
        match membership(members, incident) {
            Membership::Leaving => self.leave(now, self.gone_by(), decrement),
            Membership::Warm => self.leave(now, LeftBy::Uncounted, true),
            Membership::AtLaunchHook if !decrement && !self.group.launch_hooks.is_empty() => {
                self.go_on(now, Stage::Abandon(0))
            }
            // The state has changed since the refusal, or is no reason for it.
            Membership::Detachable => {
                self.stage = Stage::Exit { decrement };
                self.attempts.succeeded(now + LOOK_EVERY / 4 * (1 << self.unexplained.min(4)));
                self.unexplained += 1;
                Asked::Pending
            }
            Membership::AtLaunchHook | Membership::NotYet => {
                self.stage = Stage::Read { decrement };
                self.attempts.succeeded(now + LOOK_EVERY);
                Asked::Pending
            }
        }
    }

    /// An answer with instances or errors is the last word on its token.
    fn launch_answered(&mut self, now: BootInstant, launched: Launched) -> Asked {
        if !launched.instances.is_empty() {
            Ask::launched(self, now);
            return Asked::Launched(launched.instances);
        }
        if launched.errors.is_empty() {
            self.in_doubt = true;
            return self.refuse(now, "AWS answered with neither an instance nor an error".to_owned());
        }
        self.in_doubt = false;
        self.unanswered = false;
        if self.attempt as usize + 1 < self.zones.len() {
            self.attempt += 1;
            return self.go_on(now + NOTED_WITHIN, Stage::Launch);
        }
        self.refuse(now, launched.errors.join(", "))
    }

    fn launch_failed(&mut self, now: BootInstant, failure: Failure) -> Asked {
        // The launch goes on at AWS: the same token will be answered.
        if failure.has_code(&["IdempotentCallInProgress"]) {
            self.in_doubt = true;
            self.unanswered = true;
            self.in_progress = true;
            self.attempts.succeeded(now + ASK_AGAIN_AFTER);
            return Asked::Pending;
        }
        self.in_doubt |= failure.may_have_been_done();
        self.unanswered |= failure.may_have_been_done();
        // The process before this one had the same role: it was denied too.
        self.in_doubt &= self.unanswered || failure.kind != FailureKind::Denied;
        let refused = match failure.kind {
            FailureKind::Rejected => !failure.is_busy(),
            FailureKind::Denied => true,
            FailureKind::Fault => failure.code.is_none() && self.attempts.failures + 1 >= FAULTS_THAT_REFUSE,
            FailureKind::Unanswered | FailureKind::Throttled | FailureKind::Credentials => false,
        };
        if refused {
            let asked = self.refuse(now, failure.to_string());
            // A person is to be told what was refused, and why.
            self.attempts.failed(now, failure);
            self.attempts.next = now;
            return asked;
        }
        if failure.may_have_been_done() && self.is_silent(now) {
            return self.go_on(now, Stage::Compare);
        }
        self.attempts.failed(now, failure);
        Asked::Pending
    }

    /// Tells whether a launch was asked for long ago and AWS has said nothing to it, and the group tells what came of it.
    fn is_silent(&self, now: BootInstant) -> bool {
        let is_old = self.first_launch_at.is_some_and(|first| now.since(first) >= SILENT_AT_MOST);
        is_old && self.planned_before && !self.in_progress
    }

    /// The group as it is since AWS has been silent. One that has grown may hold our successor or a fellow's: nothing but the token
    /// tells which.
    fn compared(&mut self, now: BootInstant, room: &GroupRoom) -> Asked {
        let is_known = |id: &InstanceId| self.group.members.iter().any(|known| known.instance_id == *id);
        let has_grown = room.desired_capacity > self.group.desired_capacity
            || room.members.iter().any(|member| !is_known(&member.instance_id));
        if has_grown {
            return self.go_on(now, Stage::Launch);
        }
        (self.in_doubt, self.unanswered) = (false, false);
        self.refuse(now, "AWS does not answer LaunchInstances, and the group has not grown".to_owned())
    }

    /// LaunchInstances is out: leave as at-once, but not before it is sure that nothing was launched.
    fn refuse(&mut self, now: BootInstant, why: String) -> Asked {
        self.refused = Some(why);
        self.attempts.succeeded(now);
        if self.in_doubt {
            self.stage = Stage::Doubt;
            return Asked::InDoubt;
        }
        self.stage = self.without_launch();
        Asked::Pending
    }

    fn without_launch(&self) -> Stage {
        if self.open { Stage::Stay } else { Stage::Exit { decrement: false } }
    }

    fn leave(&mut self, now: BootInstant, by: LeftBy, decrement: bool) -> Asked {
        self.stage = Stage::Done;
        self.left = Some(Left { at: now, by });
        self.attempts.succeeded(now);
        if decrement || self.nobody_comes().is_some() { Asked::Left } else { Asked::Requested }
    }

    /// How a member came to be out of the group, or on its way.
    fn gone_by(&self) -> LeftBy {
        if self.exit_in_doubt { LeftBy::LostReply } else { LeftBy::Itself }
    }
}

impl Ask for AskGroup {
    fn step(&self) -> Option<LaunchStep> {
        Some(LaunchStep { attempt: self.attempt, way: LaunchWay::default() })
    }

    fn resume(&mut self, step: LaunchStep) {
        self.attempt = step.attempt;
    }

    fn owner(&self) -> Option<String> {
        Some(format!("group {}", self.group.name))
    }

    fn decide(&mut self, situation: &Situation<'_>) -> Option<Asked> {
        let (now, is_open) = (situation.now, matches!(self.stage, Stage::Look | Stage::Launch));
        if self.overtaken && (is_open || self.stage == Stage::Stay) && !self.attempts.in_flight {
            self.stage = if self.in_doubt { Stage::Doubt } else { Stage::Done };
            let by = if self.in_doubt { LeftBy::LostReply } else { LeftBy::Itself };
            self.left.get_or_insert(Left { at: now, by });
            return Some(if self.in_doubt { Asked::InDoubt } else { Asked::Left });
        }
        let is_idle = is_open && !self.unanswered && !self.attempts.in_flight;
        if is_idle && self.open && situation.is_in_no_target_group() && !self.group.other_traffic_sources.is_empty() {
            let why = "whether it serves in the group's other traffic sources is not ours to see".to_owned();
            return Some(self.refuse(now, why));
        }
        // Time to leave, and no successor launched: from here on it is as at-once. A launch in doubt is asked for again.
        (is_idle && situation.may_leave).then(|| self.refuse(now, "time to leave came first".to_owned()))
    }

    /// No launch is begun any more, and one that is under way counts.
    fn group_terminates(&mut self) {
        self.overtaken = true;
        self.open = false;
    }

    fn become_urgent(&mut self, manner: Manner, now: BootInstant) {
        self.open = manner == Manner::Open;
        if self.stage == Stage::Stay && !self.open {
            self.go_on(now, Stage::Exit { decrement: false });
        }
    }

    /// This instance leaves the group, or has left it, and by all that is known at our request.
    fn has_the_word(&self) -> bool {
        match (self.stage, self.left) {
            (Stage::Done, Some(left)) => matches!(left.by, LeftBy::Request | LeftBy::LostReply),
            (stage, _) => matches!(stage, Stage::Exit { .. } | Stage::Read { .. } | Stage::Abandon(_) | Stage::Done),
        }
    }

    fn serves_on(&self) -> bool {
        let leaves_first = matches!(
            self.stage,
            Stage::Exit { decrement: false } | Stage::Read { decrement: false } | Stage::Abandon(_)
        );
        !leaves_first && self.refused.is_none() && self.nobody_comes().is_none()
    }

    fn in_vain(&self) -> Option<String> {
        let why = self.refused.as_deref().unwrap_or_default();
        let name = &self.group.name;
        match self.nobody_comes() {
            Some(_) if self.open => Some(format!("group {name} does not hold it any more, or does not count it")),
            _ => (self.stage == Stage::Stay).then(|| format!("group {name} could not launch a successor first: {why}")),
        }
    }

    fn has_left(&self) -> bool {
        self.left.is_some_and(|left| left.by == LeftBy::Request)
    }

    fn nobody_comes(&self) -> Option<&'static str> {
        match self.left?.by {
            LeftBy::Uncounted => Some("none: the group does not count this instance"),
            LeftBy::Itself => Some("not asked for: this instance had left its group before"),
            LeftBy::Request | LeftBy::LostReply => None,
        }
    }

    fn launched(&mut self, now: BootInstant) {
        self.refused = None;
        self.go_on(now, Stage::Exit { decrement: true });
    }

    fn was_not_done(&mut self, now: BootInstant) {
        if self.stage == Stage::Doubt {
            self.go_on(now, self.without_launch());
        }
    }
}

impl Duty<Duties> for AskGroup {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        situation.crowd.take_turns(&mut self.attempts, Bucket::AUTO_SCALING);
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let group = self.group.name.clone();
        match self.stage {
            Stage::Look | Stage::Read { .. } => Some(Call::DescribeGroupMembers { group }),
            Stage::Launch => {
                self.first_launch_at.get_or_insert(situation.now);
                Some(Call::LaunchInstances {
                    group,
                    client_token: client_token(situation.incident, self.attempt),
                    availability_zone: self.zones.get(self.attempt as usize).cloned(),
                })
            }
            Stage::Exit { decrement: true } if !situation.may_leave => None,
            Stage::Exit { decrement } if self.terminate => {
                Some(Call::TerminateInstanceInAutoScalingGroup { decrement })
            }
            Stage::Exit { decrement } => Some(Call::DetachInstances { group, decrement }),
            Stage::Abandon(index) if situation.quiet || situation.reserve_reached() => {
                let hook = self.group.launch_hooks.get(index)?.name.clone();
                Some(Call::CompleteLifecycleAction { group, hook, result: HookResult::Abandon })
            }
            Stage::Compare => Some(Call::DescribeGroupRoom { group }),
            Stage::Abandon(_) | Stage::Doubt | Stage::Stay | Stage::Done => None,
        }
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let (now, incident) = (situation.now, &*situation.incident);
        let asked = match (self.stage, answer) {
            (Stage::Look, Answer::GroupMembers(members)) => match membership(&members, incident) {
                Membership::Leaving if self.may_be_attached(now) => {
                    self.attempts.succeeded(now + LOOK_EVERY);
                    Asked::Pending
                }
                // Out, or on its way, which lasts for minutes.
                Membership::Leaving => self.leave(now, self.gone_by(), false),
                Membership::Detachable => self.go_on(now, Stage::Launch),
                _ if self.open => {
                    self.attempts.succeeded(now + LOOK_EVERY);
                    Asked::Pending
                }
                _ => self.read(now, incident, &members, false),
            },
            (Stage::Read { decrement }, Answer::GroupMembers(members)) => self.read(now, incident, &members, decrement),
            (Stage::Launch, Answer::Launched(launched)) => self.launch_answered(now, launched),
            (Stage::Launch, Answer::Failed(failure)) => self.launch_failed(now, failure),
            (Stage::Compare, Answer::GroupRoom(Some(room))) => self.compared(now, &room),
            (Stage::Compare, other) => {
                self.stage = Stage::Launch;
                return Err(other);
            }
            (Stage::Exit { decrement }, Answer::Accepted) => self.leave(now, LeftBy::Request, decrement),
            // It may become one yet, and a member that dies is replaced late, and beside a successor that was launched first.
            (Stage::Exit { .. }, Answer::Failed(failure)) if is_no_member(&failure) && self.may_be_attached(now) => {
                return Err(Answer::Failed(failure));
            }
            (Stage::Exit { decrement }, Answer::Failed(failure)) if is_no_member(&failure) => {
                self.leave(now, self.gone_by(), decrement)
            }
            // Detaching runs no hook, and launches the successor all the same.
            (Stage::Exit { .. }, Answer::Failed(failure)) if self.terminate && failure.kind == FailureKind::Denied => {
                self.terminate = false;
                self.exit_refused = Some(failure.to_string());
                return Err(Answer::Failed(failure));
            }
            // It leaves already, or it has not come yet: the words differ.
            (Stage::Exit { decrement }, Answer::Failed(failure))
                if failure.kind == FailureKind::Rejected && !failure.is_busy() =>
            {
                self.exit_refused = Some(failure.to_string());
                self.go_on(now, Stage::Read { decrement })
            }
            (Stage::Abandon(_), Answer::Accepted) => self.leave(now, LeftBy::Request, false),
            (Stage::Abandon(index), Answer::Failed(failure)) if failure.message.contains("No active Lifecycle") => {
                let is_last = index + 1 >= self.group.launch_hooks.len();
                self.go_on(now, if is_last { Stage::Read { decrement: false } } else { Stage::Abandon(index + 1) })
            }
            (stage, other) => {
                let may_be_done = matches!(&other, Answer::Failed(failure) if failure.may_have_been_done());
                self.exit_in_doubt |= may_be_done && matches!(stage, Stage::Exit { .. });
                return Err(other);
            }
        };
        Ok(asked.into())
    }

    fn wake(&self, _: BootInstant) -> Option<BootInstant> {
        match self.stage {
            Stage::Look | Stage::Launch | Stage::Compare => self.attempts.wake(),
            Stage::Exit { decrement: false } | Stage::Read { .. } => self.attempts.wake(),
            Stage::Abandon(_) => self.attempts.wake(),
            // Due when the target groups are left; that has its own instants. Retries have theirs.
            Stage::Exit { decrement: true } if self.attempts.failures > 0 => self.attempts.wake(),
            Stage::Exit { decrement: true } | Stage::Doubt | Stage::Stay | Stage::Done => None,
        }
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        let how = if self.terminate { "terminate in" } else { "detach from" };
        let refused = self.refused.as_ref().map(|why| format!(" (launching first was not possible: {why})"));
        let refused = refused.unwrap_or_default();
        let (done, what) = match (self.left, self.stage, &self.state) {
            (Some(Left { by: LeftBy::Uncounted, .. }), _, state) => {
                let state = state.as_deref().unwrap_or_default();
                (true, format!("not needed: the group does not count a member that is {state}"))
            }
            (Some(Left { by: LeftBy::Itself, .. }), ..) => {
                (true, "not needed: this instance had left the group before it was asked".to_owned())
            }
            (Some(Left { at, .. }), ..) => (true, format!("after {}{refused}", seconds(at.since(begun_at)))),
            (None, Stage::Read { .. } | Stage::Abandon(_), Some(state)) => {
                (false, format!("the group does not let go of a member that is {state}{refused}"))
            }
            _ => match &self.exit_refused {
                Some(why) => (false, format!("refused: {why}{refused}")),
                None => (false, format!("{}{refused}", self.attempts.trouble())),
            },
        };
        Some(DutyReport::new(format!("{how} group {}", self.group.name), done, what))
    }
}
