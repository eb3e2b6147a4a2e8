//! The duty to mark this instance as one that goes, with a tag that other tools and other instances of ours see: nothing
//! adopts it as a successor (AutoSpotting#327). Nothing of the handover itself depends on it.

use jiff::Unit;

use super::{Answer, Call, Pace, Report, Terms, View};
use crate::core::model::BootInstant;
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::{FailureKind, Precedence};

pub(super) struct Mark {
    /// The value that AWS has taken.
    marked: Option<String>,
    refused: bool,
    pace: Pace,
}

impl Mark {
    pub(super) fn new(now: BootInstant, seed: u64) -> Mark {
        Mark { marked: None, refused: false, pace: Pace::new(now, seed).with(Precedence::Last) }
    }

    /// AWS has taken a tag, or IAM lets nobody set it.
    pub(super) fn is_settled(&self) -> bool {
        self.marked.is_some() || self.refused
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>) -> Option<Call> {
        // A group that terminates the instance leads nobody to take it for another's successor.
        let wanted = !view.terms.terminating && !self.refused && self.marked.as_ref() != Some(&value(view.terms));
        // What takes traffic away goes first; what is at stake here can wait.
        let is_time = view.deregistration_tried || view.may_mark;
        if wanted {
            view.crowd.hold_back(&mut self.pace);
        }
        let begin = wanted && is_time && self.pace.begin(view.now);
        begin.then(|| Call::TagInstance { key: LEAVING_TAG.to_owned(), value: value(view.terms) })
    }

    pub(super) fn answered(&mut self, now: BootInstant, terms: &Terms, answer: Answer) {
        match answer {
            Answer::Accepted => {
                self.marked = Some(value(terms));
                self.pace.succeeded(now);
            }
            other => {
                self.pace.failed_by(now, other);
                self.refused = self.pace.last_failure.as_ref().is_some_and(|it| it.kind == FailureKind::Denied);
            }
        }
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.refused { None } else { self.pace.wake() }
    }

    /// Nothing to say where all is well, or where nothing was wanted.
    pub(super) fn report(&self) -> Option<Report> {
        let duty = format!("tag {LEAVING_TAG}");
        let failed = self.marked.is_none() && self.pace.last_failure.is_some();
        failed.then(|| Report::new(duty, false, self.pace.trouble()).aside())
    }
}

/// The deadline by AWS's clock, to the second, or that there is none yet.
fn value(terms: &Terms) -> String {
    let Some(time) = terms.deadline_by_aws() else { return "when a successor serves".to_owned() };
    time.round(Unit::Second).unwrap_or(time).to_string()
}
