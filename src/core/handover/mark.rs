//! The duty to mark this instance as leaving, by a tag for other tools and other instances: nothing adopts it as a
//! successor (AutoSpotting#327). Nothing of the handover itself depends on the tag.

use jiff::Unit;

use super::course::{HandingOver, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyReport, its_attempts};
use crate::core::incident::Incident;
use crate::core::model::BootInstant;
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::{FailureKind, Precedence};

pub(super) struct Mark {
    /// The tag's value that AWS has accepted.
    marked: Option<String>,
    refused: bool,
    attempts: Attempts,
}

impl Mark {
    pub(super) fn new(attempts: Attempts) -> Mark {
        Mark { marked: None, refused: false, attempts: attempts.with(Precedence::Last) }
    }

    /// Tells whether AWS has accepted the tag, or IAM denies the call.
    pub(super) fn is_settled(&self) -> bool {
        self.marked.is_some() || self.refused
    }

    /// Tells whether the tag is to be set. Nobody takes an instance that its group terminates for a successor.
    fn is_wanted(&self, incident: &Incident) -> bool {
        !incident.is_terminating() && !self.refused && self.marked.as_ref() != Some(&value(incident))
    }
}

impl Duty<HandingOver> for Mark {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        if self.is_wanted(situation.incident) {
            situation.crowd.bring_forward(&mut self.attempts);
            situation.crowd.hold_back(&mut self.attempts);
        }
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        // Calls that take traffic away go first; the tag can wait.
        let is_time = situation.deregistration_tried || situation.may_mark;
        let call = || Call::TagInstance { key: LEAVING_TAG.to_owned(), value: value(situation.incident) };
        (self.is_wanted(situation.incident) && is_time).then(call)
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        if answer != Answer::Accepted {
            self.refused = matches!(&answer, Answer::Failed(failure) if failure.kind == FailureKind::Denied);
            return Err(answer);
        }
        self.marked = Some(value(situation.incident));
        self.attempts.succeeded(situation.now);
        Ok(News::None)
    }

    fn wake(&self, _: BootInstant) -> Option<BootInstant> {
        if self.refused { None } else { self.attempts.wake() }
    }

    /// Reports only a tag that was wanted and has failed.
    fn report(&self, _: BootInstant) -> Option<DutyReport> {
        let failed = self.marked.is_none() && self.attempts.last_failure.is_some();
        failed.then(|| DutyReport::new(format!("tag {LEAVING_TAG}"), false, self.attempts.trouble()).aside())
    }
}

/// The tag's value: the deadline by AWS's clock, to the second, or that there is none yet.
fn value(incident: &Incident) -> String {
    let Some(time) = incident.deadline_by_aws() else { return "when a successor serves".to_owned() };
    time.round(Unit::Second).unwrap_or(time).to_string()
}
