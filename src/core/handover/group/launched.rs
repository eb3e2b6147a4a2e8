//! The answers to LaunchInstances, and the way on where AWS refuses it.

use super::exit::{Left, LeftBy};
use super::launch_first::{Doubt, Failed, has_grown};
use super::stage::{Reason, Stage};
use super::{ASK_AGAIN_AFTER, AskGroup, LOOK_EVERY};
use crate::core::call::Answer;
use crate::core::handover::among::is_successor;
use crate::core::handover::ask::Ask;
use crate::core::handover::course::Asked;
use crate::core::handover::launch::NOTED_WITHIN;
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, GroupState, InstanceId, Launched};
use crate::core::notice::TWO_MINUTES;
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::{Failure, FailureKind};

impl AskGroup {
    /// Takes the members' launch times. If more were launched than other members leave, one of them is this instance's.
    /// If AWS does not answer, the token still tells of most launches.
    pub(super) fn newest_shown(&mut self, now: BootInstant, incident: &Incident, answer: Answer) -> Asked {
        let instances = if let Answer::Instances(instances) = answer { instances } else { Vec::new() };
        let leaving = instances.iter().filter(|it| it.tags.contains_key(LEAVING_TAG)).count();
        // AWS dates the notice and the launches alike. What came before the notice nobody launched for it.
        let given = incident.time.and_then(|time| time.checked_sub(TWO_MINUTES).ok());
        let since = given.max(incident.start.successors_since);
        let new = instances.into_iter().filter(|it| is_successor(it, since));
        let new: Vec<InstanceId> = new.map(|it| it.instance_id).collect();
        if new.len() <= leaving {
            return self.go_on(now, Stage::Launch);
        }
        Ask::launched(self, now);
        Asked::Launched(new)
    }

    /// Takes an answer. Instances or errors are the last word on its token.
    pub(super) fn launch_answered(&mut self, now: BootInstant, launched: Launched) -> Asked {
        if !launched.instances.is_empty() {
            Ask::launched(self, now);
            return Asked::Launched(launched.instances);
        }
        if launched.errors.is_empty() {
            self.launch.doubt = Doubt::Past;
            return self.refuse(now, "AWS answered with neither an instance nor an error".to_owned());
        }
        self.launch.doubt = Doubt::None;
        let is_throttled = launched.came_at_a_bad_moment() && launched.is_throttled();
        if !self.launch.is_busy_for_long(now, is_throttled) && is_throttled {
            self.launch.same_zone_again();
            self.attempts.failed(now, Failure::of(FailureKind::Throttled, launched.errors.join(", ")));
            self.attempts.postpone(now + NOTED_WITHIN);
            return Asked::Pending;
        }
        if !is_throttled && self.launch.next_zone() {
            return self.go_on(now + NOTED_WITHIN, Stage::Launch);
        }
        self.refuse(now, launched.errors.join(", "))
    }

    pub(super) fn launch_failed(&mut self, now: BootInstant, incident: &Incident, failure: Failure) -> Asked {
        // The launch goes on at AWS: the same token will be answered.
        if failure.has_code(&["IdempotentCallInProgress"]) {
            self.launch.doubt = Doubt::InProgress;
            return self.go_on(now + ASK_AGAIN_AFTER, Stage::Launch);
        }
        match self.launch.failed(now, &failure, self.attempts.failures, incident) {
            Failed::Compare => return self.go_on(now, Stage::Compare),
            Failed::Again => self.attempts.failed(now, failure),
            Failed::Refused => {
                if self.launch.is_first() {
                    let name = &self.group.name;
                    self.remark = Some(format!(
                        "group {name} launches no successor first, because LaunchInstances is refused: {failure}"
                    ));
                }
                return self.refuse(now, failure.to_string());
            }
        }
        Asked::Pending
    }

    /// Takes the group's state while AWS is silent. A group that has grown may hold our successor or a fellow's: only
    /// the token tells which.
    pub(super) fn compared(&mut self, now: BootInstant, current: &GroupState) -> Asked {
        if has_grown(&self.group, current) {
            return self.go_on(now + LOOK_EVERY, Stage::Launch);
        }
        self.launch.doubt = Doubt::None;
        self.give_up(now, "AWS does not answer LaunchInstances, and the group has not grown".to_owned())
    }

    /// Takes AWS's refusal.
    fn refuse(&mut self, now: BootInstant, why: String) -> Asked {
        self.launch.was_refused();
        self.give_up(now, why)
    }

    /// Gives up LaunchInstances: this instance leaves as at-once or stays, once it is sure that nothing was launched.
    pub(super) fn give_up(&mut self, now: BootInstant, why: String) -> Asked {
        self.launch.refused = Some(why);
        if self.launch.is_in_doubt() {
            self.go_on(now, Stage::Doubt);
            return Asked::InDoubt;
        }
        self.go_on_without_launch(now)
    }

    pub(super) fn go_on_without_launch(&mut self, now: BootInstant) -> Asked {
        match self.reason {
            Reason::Open => self.go_on(now, Stage::Stay),
            Reason::Scheduled => {
                let pause = self.launch.pause();
                self.remark = self.launch.remark_on_staying(&self.group.name).or(self.remark.take());
                self.go_on(now + pause, Stage::Stay)
            }
            Reason::Announced => self.go_on(now, Stage::Exit { decrement: false }),
            // The group takes this instance out by itself.
            Reason::Terminated => {
                self.go_on(now, Stage::Done(Left { at: now, by: LeftBy::Itself }));
                Asked::Left
            }
        }
    }
}
