//! A duty: one thing to see through by calls. It says which call it wants, and takes the answer. This module holds what
//! all duties share: pauses, calls in flight, wake-ups, and the failures to tell a person.
//!
//! A handover and a comeback are lists of duties. Invariant: a duty has one call in flight at most.

mod attempts;
mod id;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::call::{Answer, Call};
use crate::core::model::BootInstant;
use crate::core::retry::Failure;

pub(crate) use attempts::{Attempts, Patience};
pub(crate) use id::DutyId;
pub(crate) use report::DutyReport;

/// A call that is to be begun now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub duty: DutyId,
    pub call: Call,
    pub limit: Duration,
}

/// The purpose of a list of duties: a handover, or a comeback.
pub(crate) trait Course {
    /// Everything that a duty may know of the others, as of now.
    type Situation<'a>;
    /// The meaning of an answer for the other duties.
    type News: Default;
}

/// One thing to see through by calls.
pub(crate) trait Duty<C: Course> {
    fn attempts(&self) -> &Attempts;

    fn attempts_mut(&mut self) -> &mut Attempts;

    /// Tells whether the duty makes no further call.
    fn is_over(&self) -> bool {
        self.attempts().is_over()
    }

    /// Considers the situation before a call is due: other duties may have changed what this one wants, and when.
    fn consider(&mut self, _situation: &mut C::Situation<'_>) {}

    /// The call to begin now; it is asked for only when one is due.
    fn call(&mut self, situation: &C::Situation<'_>) -> Option<Call>;

    /// Takes an answer, and sets when the next call is due.
    ///
    /// # Errors
    /// An answer that is a failure, or does not fit: the call is made again after a pause.
    fn take(&mut self, situation: &mut C::Situation<'_>, answer: Answer) -> Result<C::News, Answer>;

    /// The instant at which the next call is due, if one is to come; where there are several instants, the first after
    /// `since`.
    fn wake(&self, _since: BootInstant) -> Option<BootInstant> {
        self.attempts().wake()
    }

    /// The fate of the duty, if there is something to tell.
    fn report(&self, _begun_at: BootInstant) -> Option<DutyReport> {
        None
    }
}

/// Implements the two accessors of a duty that keeps its attempts in the field `attempts`.
macro_rules! its_attempts {
    () => {
        fn attempts(&self) -> &Attempts {
            &self.attempts
        }

        fn attempts_mut(&mut self) -> &mut Attempts {
            &mut self.attempts
        }
    };
}
pub(crate) use its_attempts;

/// Begins the duty's call, if one is due.
pub(crate) fn begin<C: Course>(
    duty: &mut (impl Duty<C> + ?Sized),
    now: BootInstant,
    situation: &mut C::Situation<'_>,
) -> Option<(DutyId, Call)> {
    duty.consider(situation);
    if !duty.attempts().is_due(now) {
        return None;
    }
    let call = duty.call(situation)?;
    let attempts = duty.attempts_mut();
    attempts.begin(now, call.writes());
    Some((attempts.duty, call))
}

/// Limits these calls to the time that is `left`. A duty whose last calls had no answer in time gives the next one longer.
pub(crate) fn limited<'a>(
    calls: Vec<(DutyId, Call)>,
    attempts: impl Iterator<Item = &'a Attempts>,
    left: Duration,
) -> Vec<Due> {
    let timeouts: BTreeMap<DutyId, u32> = attempts.map(|it| (it.duty, it.timeouts())).collect();
    let limit = |duty: DutyId, call: &Call| call.limit(left, timeouts.get(&duty).copied().unwrap_or_default());
    calls.into_iter().map(|(duty, call)| Due { duty, limit: limit(duty, &call), call }).collect()
}

/// Gives the duty its answer. Returns the news for the others, and the failure that a person is to be told of.
pub(crate) fn take<C: Course>(
    duty: &mut dyn Duty<C>,
    now: BootInstant,
    situation: &mut C::Situation<'_>,
    answer: Answer,
) -> (C::News, Option<Failure>) {
    duty.attempts_mut().was_answered();
    let news = duty.take(situation, answer).unwrap_or_else(|answer| {
        duty.attempts_mut().failed_by(now, answer);
        C::News::default()
    });
    (news, duty.attempts().failure_to_tell())
}

/// The next instant after `asked_at` at which a call of these duties is due.
pub(crate) fn wake<'a, C: Course + 'a>(
    duties: impl IntoIterator<Item = &'a dyn Duty<C>>,
    asked_at: BootInstant,
) -> Option<BootInstant> {
    duties.into_iter().filter_map(|duty| duty.wake(asked_at)).filter(|instant| *instant > asked_at).min()
}

/// Turns duties of one kind into items of the list.
pub(crate) fn each<'a, C: Course + 'a, D: Duty<C> + 'a>(
    duties: impl IntoIterator<Item = &'a D>,
) -> impl Iterator<Item = &'a dyn Duty<C>> {
    duties.into_iter().map(|duty| duty as &dyn Duty<C>)
}

/// Mutable form of [`each`].
pub(crate) fn each_mut<'a, C: Course + 'a, D: Duty<C> + 'a>(
    duties: impl IntoIterator<Item = &'a mut D>,
) -> impl Iterator<Item = &'a mut dyn Duty<C>> {
    duties.into_iter().map(|duty| duty as &mut dyn Duty<C>)
}
