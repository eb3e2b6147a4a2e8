//! A duty of one call, made until AWS accepts it.

use super::course::{ComingBack, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, its_attempts};
use crate::core::retry::FailureKind;

pub(super) struct Once {
    call: Call,
    attempts: Attempts,
    /// The remark with which the duty ends if IAM denies the call.
    denied: Option<String>,
}

impl Once {
    pub(super) fn new(call: Call, attempts: Attempts) -> Once {
        Once { call, attempts, denied: None }
    }

    /// Ends the duty with this remark if IAM denies the call.
    pub(super) fn unless_denied(self, remark: String) -> Once {
        Once { denied: Some(remark), ..self }
    }
}

impl Duty<ComingBack> for Once {
    its_attempts!();

    fn call(&mut self, _: &Situation) -> Option<Call> {
        Some(self.call.clone())
    }

    fn take(&mut self, _: &mut Situation, answer: Answer) -> Result<News, Answer> {
        let remark = match (&answer, &self.denied) {
            (Answer::Accepted, _) => None,
            (Answer::Failed(failure), Some(remark)) if failure.kind == FailureKind::Denied => {
                Some(format!("{remark}: {failure}"))
            }
            _ => return Err(answer),
        };
        self.attempts.end();
        Ok(News { remarks: remark.into_iter().collect(), ..News::default() })
    }
}
