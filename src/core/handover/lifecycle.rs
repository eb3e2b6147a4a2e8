//! The duty to see one termination hook of an Auto Scaling group through: heartbeats while we work, and its completion
//! once this instance is quiet, so that the group goes on and does not wait for the hook's timeout.

use std::time::Duration;

use super::{Answer, Call, Pace, Report, View, seconds};
use crate::core::model::{BootInstant, LifecycleHook};

/// A heartbeat at the latest so often, however patient the hook is.
const HEARTBEAT_AT_LEAST: Duration = Duration::from_secs(60);

pub(super) struct Lifecycle {
    group: String,
    hook: String,
    heartbeat_every: Duration,
    stage: Stage,
    pace: Pace,
    done_at: Option<BootInstant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Working,
    Completing,
    Done,
}

impl Lifecycle {
    pub(super) fn new(group: &str, hook: &LifecycleHook, seed: u64) -> Lifecycle {
        Lifecycle {
            group: group.to_owned(),
            hook: hook.name.clone(),
            heartbeat_every: (hook.heartbeat_timeout / 2).min(HEARTBEAT_AT_LEAST),
            stage: Stage::Idle,
            pace: Pace::new(BootInstant::default(), seed),
            done_at: None,
        }
    }

    /// The group has begun to terminate this instance.
    pub(super) fn start(&mut self, now: BootInstant) {
        if self.stage == Stage::Idle {
            self.stage = Stage::Working;
            self.pace.succeeded(now + self.heartbeat_every);
        }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>, provided_for: bool) -> Option<Call> {
        if self.stage == Stage::Working && view.quiet && provided_for && view.hooks_ended && !self.pace.in_flight {
            self.stage = Stage::Completing;
            self.pace.succeeded(view.now);
        }
        let (group, hook) = (self.group.clone(), self.hook.clone());
        match self.stage {
            Stage::Working if self.pace.begin(view.now) => Some(Call::RecordLifecycleActionHeartbeat { group, hook }),
            Stage::Completing if self.pace.begin(view.now) => Some(Call::CompleteLifecycleAction { group, hook }),
            _ => None,
        }
    }

    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer) {
        match (self.stage, answer) {
            (Stage::Working, Answer::Accepted) => self.pace.succeeded(now + self.heartbeat_every),
            (Stage::Completing, Answer::Accepted) => self.done(now),
            (Stage::Completing, Answer::Failed(failure)) if failure.message.contains("No active Lifecycle Action") => {
                self.done(now);
            }
            (_, other) => self.pace.failed_by(now, other),
        }
    }

    fn done(&mut self, now: BootInstant) {
        self.stage = Stage::Done;
        self.done_at = Some(now);
        self.pace.succeeded(now);
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        match self.stage {
            Stage::Working | Stage::Completing => self.pace.wake(),
            Stage::Idle | Stage::Done => None,
        }
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        let duty = format!("termination hook {}", self.hook);
        match self.done_at {
            Some(at) => Report::new(duty, true, format!("completed after {}", seconds(at.since(begun_at)))),
            None => Report::new(duty, false, format!("not completed: {}", self.pace.trouble())),
        }
    }
}
