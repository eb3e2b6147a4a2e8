//! Decides when a duty's next call is due: the one place where a failed call is given its next try.

use std::time::Duration;

use super::id::DutyId;
use crate::core::call::Answer;
use crate::core::model::BootInstant;
use crate::core::retry::{Failure, FailureKind, LOOK_UP, Precedence};

/// The words for a duty that has neither succeeded nor failed when the handover is over.
pub(super) const NOT_ANSWERED: &str = "its call was not answered in time";
pub(super) const TIME_WAS_UP: &str = "time was up";

/// The growth of the pauses between failed calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// There is a deadline: the pauses stay as short as [`Precedence`] allows.
    None,
    /// The pauses grow to minutes after this many failures in a row.
    After(u32),
    /// There is no deadline: the pauses grow to minutes from the first failure on.
    AtLeisure,
}

/// The attempts of one duty: its failures so far, and the instant at which its next call is due.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    pub(crate) duty: DutyId,
    pub(crate) next: BootInstant,
    pub(crate) in_flight: bool,
    /// No call is to come.
    over: bool,
    /// The call in flight changes something at AWS.
    writing: bool,
    pub(crate) failures: u32,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) seed: u64,
    pub(crate) precedence: Precedence,
    patience: Patience,
    /// The beginning of the last call.
    pub(crate) begun_at: BootInstant,
}

impl Attempts {
    pub(crate) fn new(duty: DutyId, next: BootInstant, seed: u64) -> Attempts {
        Attempts {
            duty,
            next,
            in_flight: false,
            over: false,
            writing: false,
            failures: 0,
            last_failure: None,
            seed,
            precedence: Precedence::Look,
            patience: Patience::None,
            begun_at: BootInstant::default(),
        }
    }

    pub(crate) fn with(self, precedence: Precedence) -> Attempts {
        Attempts { precedence, ..self }
    }

    pub(crate) fn patient(self, patience: Patience) -> Attempts {
        Attempts { patience, ..self }
    }

    pub(crate) fn is_due(&self, now: BootInstant) -> bool {
        self.wake().is_some_and(|next| now >= next)
    }

    pub(super) fn begin(&mut self, now: BootInstant, writes: bool) {
        self.in_flight = true;
        self.writing = writes;
        self.begun_at = now;
    }

    /// Tells whether a call is in flight that changes something at AWS.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    pub(crate) fn was_answered(&mut self) {
        (self.in_flight, self.writing) = (false, false);
    }

    /// Moves the next call to `until`, never to an earlier instant.
    pub(crate) fn postpone(&mut self, until: BootInstant) {
        self.next = self.next.max(until);
    }

    /// Moves the next call to `spacing` after the last one, never to an earlier instant.
    pub(crate) fn space_out(&mut self, spacing: Duration) {
        self.postpone(self.begun_at + spacing);
    }

    /// The number of calls in a row without an answer in time.
    pub(crate) fn timeouts(&self) -> u32 {
        let is_timeout = self.last_failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Unanswered);
        if is_timeout { self.failures } else { 0 }
    }

    pub(crate) fn was_throttled(&self) -> bool {
        self.last_failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Throttled)
    }

    pub(crate) fn was_denied(&self) -> bool {
        self.last_failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Denied)
    }

    pub(crate) fn succeeded(&mut self, next: BootInstant) {
        self.failures = 0;
        self.last_failure = None;
        self.next = next;
    }

    /// Ends the duty: it is done, or nothing more is tried.
    pub(crate) fn end(&mut self) {
        self.succeeded(self.next);
        self.over = true;
    }

    /// Begins the duty again after it was done.
    pub(crate) fn begins_again(&mut self, next: BootInstant) {
        self.over = false;
        self.succeeded(next);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn failed(&mut self, now: BootInstant, failure: Failure) {
        self.failures = self.failures.saturating_add(1);
        self.next = now
            + match self.patience {
                Patience::AtLeisure => LOOK_UP.pause(self.failures, self.seed).max(LOOK_UP.first),
                Patience::After(calls) if self.failures > calls => LOOK_UP.pause(self.failures - calls, self.seed),
                _ => self.precedence.pause(failure.kind, self.failures, self.seed),
            };
        self.last_failure = Some(failure);
    }

    /// Takes a failure. An answer that does not fit the call is a fault of ours, and counts as a fault of AWS.
    pub(super) fn failed_by(&mut self, now: BootInstant, answer: Answer) {
        let failure = match answer {
            Answer::Failed(failure) => failure,
            other => Failure::of(FailureKind::Fault, format!("an answer that does not fit: {other:?}")),
        };
        self.failed(now, failure);
    }

    /// The last failure, if a person is to be told of it. This is the first in a row; with a deadline the second, the
    /// fourth and so on are told too.
    pub(super) fn failure_to_tell(&self) -> Option<Failure> {
        let is_told = match self.patience {
            Patience::AtLeisure => self.failures == 1,
            Patience::None | Patience::After(_) => self.failures.is_power_of_two(),
        };
        self.last_failure.clone().filter(|_| is_told)
    }

    pub(crate) fn wake(&self) -> Option<BootInstant> {
        (!self.in_flight && !self.over).then_some(self.next)
    }

    /// A text such as "failed 3 times, last with Throttling: Rate exceeded".
    pub(crate) fn trouble(&self) -> String {
        match (&self.last_failure, self.in_flight) {
            (Some(failure), _) if self.failures == 1 => format!("failed once, with {failure}"),
            (Some(failure), _) => format!("failed {} times, last with {failure}", self.failures),
            (None, true) => NOT_ANSWERED.to_owned(),
            (None, false) => TIME_WAS_UP.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duty_that_begins_again_waits_for_the_answer_to_its_write() {
        let now = BootInstant::default();
        let mut attempts = Attempts::new(DutyId::Ask, now, 0);
        attempts.begin(now, true);
        attempts.begins_again(now);
        assert!(attempts.is_writing() && !attempts.is_due(now), "a read that is answered would hide the write");
        attempts.was_answered();
        assert!(!attempts.is_writing() && attempts.is_due(now));
    }
}
