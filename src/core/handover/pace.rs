//! When a duty's next call is due: the one place where a failed call is given its next try.

use std::time::Duration;

use super::Answer;
use crate::core::model::BootInstant;
use crate::core::retry::{Failure, FailureKind, LOOK_UP, Precedence};

/// Why a duty is not done that nothing has failed of: what it waits for, as it reads when the handover is over.
pub(super) const NOT_ANSWERED: &str = "its call was not answered in time";
pub(super) const TIME_WAS_UP: &str = "time was up";

/// When a duty's next call is due, after its successes and its failures.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) next: BootInstant,
    pub(crate) in_flight: bool,
    pub(crate) failures: u32,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) seed: u64,
    pub(crate) precedence: Precedence,
    /// When the last call was begun.
    pub(crate) begun_at: BootInstant,
}

impl Pace {
    pub(crate) fn new(next: BootInstant, seed: u64) -> Pace {
        let (precedence, begun_at) = (Precedence::Look, BootInstant::default());
        Pace { next, in_flight: false, failures: 0, last_failure: None, seed, precedence, begun_at }
    }

    pub(crate) fn with(self, precedence: Precedence) -> Pace {
        Pace { precedence, ..self }
    }

    pub(crate) fn is_due(&self, now: BootInstant) -> bool {
        !self.in_flight && now >= self.next
    }

    /// Begins the call if it is due.
    pub(crate) fn begin(&mut self, now: BootInstant) -> bool {
        let due = self.is_due(now);
        if due {
            self.in_flight = true;
            self.begun_at = now;
        }
        due
    }

    /// No sooner than this.
    pub(crate) fn postpone(&mut self, until: BootInstant) {
        self.next = self.next.max(until);
    }

    /// No sooner than `spacing` after the last call.
    pub(crate) fn space_out(&mut self, spacing: Duration) {
        self.postpone(self.begun_at + spacing);
    }

    pub(crate) fn was_throttled(&self) -> bool {
        self.last_failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Throttled)
    }

    pub(crate) fn succeeded(&mut self, next: BootInstant) {
        self.in_flight = false;
        self.failures = 0;
        self.last_failure = None;
        self.next = next;
    }

    pub(crate) fn failed(&mut self, now: BootInstant, failure: Failure) {
        self.in_flight = false;
        self.failures = self.failures.saturating_add(1);
        self.next = now + self.precedence.pause(failure.kind, self.failures, self.seed);
        self.last_failure = Some(failure);
    }

    /// Where there is no deadline: with pauses that grow to minutes.
    pub(crate) fn failed_at_leisure(&mut self, now: BootInstant, answer: Answer) {
        self.failed_by(now, answer);
        self.next = now + LOOK_UP.pause(self.failures, self.seed).max(LOOK_UP.first);
    }

    /// An answer that does not belong to the question: a fault of the edge, treated as one of AWS.
    pub(crate) fn failed_by(&mut self, now: BootInstant, answer: Answer) {
        let failure = match answer {
            Answer::Failed(failure) => failure,
            other => Failure {
                kind: FailureKind::Fault,
                code: None,
                message: format!("an answer that does not fit: {other:?}"),
            },
        };
        self.failed(now, failure);
    }

    pub(crate) fn wake(&self) -> Option<BootInstant> {
        (!self.in_flight).then_some(self.next)
    }

    /// As in "failed 3 times, last with Throttling: Rate exceeded".
    pub(crate) fn trouble(&self) -> String {
        match (&self.last_failure, self.in_flight) {
            (Some(failure), _) => format!("failed {} times, last with {failure}", self.failures),
            (None, true) => NOT_ANSWERED.to_owned(),
            (None, false) => TIME_WAS_UP.to_owned(),
        }
    }
}
