//! The duty to run a command of the user's at its moment: `notice` when this instance is about to leave, `drained` once it
//! is quiet. Each once; nothing but a termination hook waits for it.

use std::time::Duration;

use super::call::HookKind;
use super::{Answer, Call, Pace, Report, View, seconds};
use crate::core::model::BootInstant;

pub(super) struct Hook {
    kind: HookKind,
    timeout: Duration,
    pace: Pace,
    ended: Option<Ended>,
}

enum Ended {
    /// By the process before this one.
    Before,
    At {
        at: BootInstant,
        succeeded: bool,
        how: String,
    },
}

impl Hook {
    pub(super) fn new(kind: HookKind, timeout: Duration, ended_before: bool, now: BootInstant) -> Hook {
        Hook { kind, timeout, pace: Pace::new(now, 0), ended: ended_before.then_some(Ended::Before) }
    }

    pub(super) fn kind(&self) -> HookKind {
        self.kind
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn due(&mut self, view: &View<'_>) -> Option<Call> {
        let is_time = match self.kind {
            HookKind::Notice => view.is_certain,
            HookKind::Drained => view.quiet,
        };
        let begin = self.ended.is_none() && is_time && self.pace.begin(view.now);
        begin.then_some(Call::RunHook { hook: self.kind, timeout: self.timeout })
    }

    /// A command that failed is not run a second time: what it has done by then is not known.
    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer) {
        let (succeeded, how) = match answer {
            Answer::Hook { succeeded, how } => (succeeded, how),
            Answer::Failed(failure) => (false, failure.to_string()),
            other => (false, format!("an answer that does not fit: {other:?}")),
        };
        self.pace.succeeded(now);
        self.ended = Some(Ended::At { at: now, succeeded, how });
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        let duty = format!("hook {}", self.kind.as_str());
        match &self.ended {
            Some(Ended::Before) => Report::new(duty, true, "by the process before this one"),
            Some(Ended::At { at, succeeded, how }) => {
                let what = format!("{how}, {} after the beginning", seconds(at.since(begun_at)));
                Report::new(duty, *succeeded, what).settled()
            }
            None if self.pace.in_flight => Report::new(duty, false, "it has not ended"),
            None => Report::new(duty, false, "its moment did not come"),
        }
    }
}
