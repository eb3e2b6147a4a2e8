//! The duty to wait until the application serves: nothing is registered before.

use std::time::Duration;

use super::course::{ComingBack, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, its_attempts};
use crate::core::model::Readiness;

/// The pause between two checks whether the application is ready.
const ASK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Ready {
    readiness: Readiness,
    attempts: Attempts,
    waits_for: Option<String>,
}

impl Ready {
    pub(super) fn new(readiness: Readiness, attempts: Attempts) -> Ready {
        Ready { readiness, attempts, waits_for: None }
    }

    /// The result of the first check that failed; `None` once the application is ready.
    pub(super) fn waits_for(&self) -> Option<String> {
        self.waits_for.clone()
    }
}

impl Duty<ComingBack> for Ready {
    its_attempts!();

    fn call(&mut self, _: &Situation) -> Option<Call> {
        Some(Call::LookAtReadiness(self.readiness.clone()))
    }

    /// An application that is not ready yet is no failure of this duty.
    fn take(&mut self, situation: &mut Situation, answer: Answer) -> Result<News, Answer> {
        match answer {
            Answer::Accepted => {
                self.waits_for = None;
                self.attempts.end();
            }
            Answer::Failed(failure) => {
                self.waits_for.get_or_insert_with(|| {
                    format!("waiting until the application is ready: {failure}; asking every second")
                });
                self.attempts.succeeded(situation.now + ASK_EVERY);
            }
            other => return Err(other),
        }
        Ok(News::default())
    }
}
