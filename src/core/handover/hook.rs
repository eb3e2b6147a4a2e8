//! The duty to run a command of the user's at its moment: `notice` once this instance is certain to leave, `drained`
//! once it is quiet. Each runs once; nothing but a termination hook waits for it.

use std::time::Duration;

use super::course::{HandingOver, News, Situation};
use super::words::seconds;
use crate::core::call::{Answer, Call, HookKind};
use crate::core::duty::{Attempts, Duty, DutyId, DutyReport, its_attempts};
use crate::core::model::BootInstant;

pub(super) struct Hook {
    kind: HookKind,
    timeout: Duration,
    attempts: Attempts,
    ended: Option<Ended>,
}

enum Ended {
    /// The command ended in the previous process.
    Before,
    At {
        at: BootInstant,
        succeeded: bool,
        how: String,
    },
}

impl Hook {
    pub(super) fn new(kind: HookKind, timeout: Duration, ended_before: bool, now: BootInstant) -> Hook {
        let mut attempts = Attempts::new(DutyId::Hook(kind), now, 0);
        if ended_before {
            attempts.end();
        }
        Hook { kind, timeout, attempts, ended: ended_before.then_some(Ended::Before) }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

impl Duty<HandingOver> for Hook {
    its_attempts!();

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let is_time = match self.kind {
            HookKind::Notice => situation.is_certain,
            HookKind::Drained => situation.quiet,
        };
        is_time.then_some(Call::RunHook { hook: self.kind, timeout: self.timeout })
    }

    /// Takes the command's end. A failed command is not run again, because nobody knows what it has done by then.
    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let (succeeded, how) = match answer {
            Answer::Hook { succeeded, how } => (succeeded, how),
            Answer::Failed(failure) => (false, failure.to_string()),
            other => (false, format!("an answer that does not fit: {other:?}")),
        };
        self.attempts.end();
        situation.incident.hooks_ended.push(self.kind);
        self.ended = Some(Ended::At { at: situation.now, succeeded, how });
        Ok(News::None)
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        let duty = format!("hook {}", self.kind.as_str());
        Some(match &self.ended {
            Some(Ended::Before) => DutyReport::new(duty, true, "by the process before this one"),
            Some(Ended::At { at, succeeded, how }) => {
                let what = format!("{how}, {} after the beginning", seconds(at.since(begun_at)));
                DutyReport::new(duty, *succeeded, what).settled()
            }
            None if self.attempts.in_flight => DutyReport::new(duty, false, "it has not ended").last(),
            None => DutyReport::new(duty, false, "its moment did not come").last(),
        })
    }
}
