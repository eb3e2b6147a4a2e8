//! The failures of a raise: what each means for the next call, and the tag of a raise that never came.

use std::time::Duration;

use super::{AskCapacity, Others, Raise, Stage};
use crate::core::call::Answer;
use crate::core::model::BootInstant;
use crate::core::plan::no_room_for_its_tag;
use crate::core::retry::{Failure, FailureKind, Precedence};

/// The Spot requests, which tell who leaves, are tried this often before the members' tags have to do. By tags a raise
/// is too low for victims whose tag does not show yet, and never too high.
const READS_FOR_REQUESTS: u32 = 2;

/// A write that was given up lands within this, or never: a choice of ours.
const LANDS_WITHIN: Duration = Duration::from_secs(60);

/// The least pause after a write that IAM denies, times the failures in a row, up to the longest.
const DENIED_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_DENIED_PAUSE: Duration = Duration::from_secs(8);

/// Tells whether the Spot requests are tried again before the tags have to do. `failures`: in a row.
pub(in crate::core::handover) fn requests_may_be_told(failure: &Failure, failures: u32) -> bool {
    failure.kind != FailureKind::Denied && failures < READS_FOR_REQUESTS
}

impl Stage {
    pub(super) fn reads(self) -> bool {
        matches!(self, Stage::Read | Stage::Refused | Stage::Count | Stage::Await | Stage::Deaths)
    }
}

impl AskCapacity {
    /// Spaces out writes that IAM denies, because only a person can allow them.
    pub(super) fn spaces_out_what_is_denied(&mut self) {
        if self.attempts.was_denied() && self.writes.failed > 0 {
            self.attempts.space_out((DENIED_PAUSE * self.writes.failed).min(LONGEST_DENIED_PAUSE));
        }
    }

    pub(super) fn takes_tag_off(&mut self, now: BootInstant) {
        let is_over = matches!(self.stage, Stage::Untag | Stage::Tidy | Stage::Done | Stage::Gone);
        if self.too_late && self.is_to_be_untagged() && !is_over && !self.attempts.in_flight {
            self.stage = Stage::Untag;
            self.attempts.next = now.min(self.attempts.next);
        }
    }

    /// Tells whether to take off the tag of a raise that never came. If others leave it stays: it may be theirs.
    pub(super) fn is_to_be_untagged(&self) -> bool {
        self.writes.tagged && !self.raise.may_have_been_done() && self.count.others == Others::Stay
    }

    /// Takes members without their Spot requests as a failed read, until it is clear that these cannot be read.
    pub(super) fn judged(&mut self, answer: Answer) -> Answer {
        match &answer {
            Answer::FleetMembersByMarks { failure, .. }
                if self.count.by_marks.is_none() && requests_may_be_told(failure, self.attempts.failures) =>
            {
                return Answer::Failed(failure.clone());
            }
            Answer::FleetMembersByMarks { failure, .. } => self.count.by_marks = Some(failure.clone()),
            Answer::FleetMembers(_) => self.count.by_marks = None,
            _ => {}
        }
        answer
    }

    /// Takes a failure. The pauses of a write that fails again and again grow, though the fleet is read between them.
    pub(super) fn failed(&mut self, now: BootInstant, stage: Stage, failure: &Failure) {
        self.attempts.precedence = if stage.reads() { Precedence::Look } else { Precedence::Request };
        let writes = matches!(stage, Stage::Raise | Stage::PutBack | Stage::StandBack);
        if stage == Stage::Raise {
            if failure.may_have_been_done() {
                self.writes.may_land_until = Some(now + LANDS_WITHIN);
            }
            let may_be_done = self.raise.may_have_been_done() || failure.may_have_been_done();
            self.raise = if may_be_done { Raise::Stands } else { Raise::NotBegun };
        }
        if writes || stage == Stage::Tag {
            self.attempts.failures = self.writes.failed;
            self.writes.failed += 1;
        }
        self.writes.trouble = Some((stage, failure.clone()));
        self.stage = match stage {
            _ if writes && failure.kind == FailureKind::Rejected => Stage::Refused,
            Stage::Refused => Stage::Read,
            // The fleet was counted before, and the base has to be back before the first victim goes.
            Stage::Count if self.counts_again() && self.attempts.failures > 0 => Stage::PutBack,
            // The fleet is read on meanwhile.
            Stage::Note => Stage::Await,
            Stage::Tag if failure.has_code(&["TagLimitExceeded"]) => {
                self.deaths.given_up = Some(no_room_for_its_tag(&self.fleet_id));
                self.attempts.end();
                Stage::Done
            }
            Stage::Deaths if self.back_at.is_none() => Stage::Await,
            stage => stage,
        };
    }
}
