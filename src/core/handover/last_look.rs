//! The last look: target health is read once more before a handover is reported as over. Meanwhile somebody may have
//! registered this instance again, or a successor may have become unhealthy.
//!
//! Invariant: there is one DescribeTargetHealth a target group, for the targets of this instance and its successors
//! only. A group that was seen a moment ago is not read again. A look that fails holds nothing up, and is reported.

use super::course::{HandingOver, News, Situation};
use super::crowd::LAST_LOOK;
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyId, DutyReport, its_attempts};
use crate::core::model::{BootInstant, Target, TargetGroupArn, TargetZone};
use crate::core::retry::{Failure, FailureKind};

/// A look that fails this often is given up; a throttled or denied one at once.
const TRIES: u32 = 3;

pub(super) struct LastLook {
    target_group: TargetGroupArn,
    zone: TargetZone,
    targets: Vec<Target>,
    attempts: Attempts,
    given_up: Option<Failure>,
}

impl LastLook {
    pub(super) fn new(
        target_group: TargetGroupArn,
        zone: TargetZone,
        targets: Vec<Target>,
        attempts: Attempts,
    ) -> LastLook {
        LastLook { target_group, zone, targets, attempts, given_up: None }
    }

    pub(super) fn is_over(&self) -> bool {
        self.attempts.is_over()
    }

    fn give_up(&mut self, failure: Failure) {
        self.attempts.end();
        self.given_up = Some(failure);
    }
}

impl Duty<HandingOver> for LastLook {
    its_attempts!();

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        let (target_group, targets) = (self.target_group.clone(), self.targets.clone());
        Some(Call::DescribeTargetHealth { target_group, targets, zone: self.zone.clone() })
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        match (answer, self.attempts.duty) {
            (Answer::Health(rows), DutyId::LastLook(index)) => {
                self.attempts.end();
                Ok(News::LastSeen(index, rows))
            }
            (Answer::Failed(failure), _) if failure.has_code(&["TargetGroupNotFound"]) => {
                self.attempts.end();
                Ok(News::None)
            }
            (Answer::Failed(failure), _) => {
                let is_hopeless = matches!(failure.kind, FailureKind::Throttled | FailureKind::Denied);
                let is_late = situation.now + LAST_LOOK >= situation.incident.deadline;
                self.attempts.failed(situation.now, failure.clone());
                if is_hopeless || is_late || self.attempts.failures >= TRIES {
                    self.give_up(failure);
                }
                Ok(News::None)
            }
            (other, _) => Err(other),
        }
    }

    /// Reports a look that was given up. The handover itself does not depend on it.
    fn report(&self, _: BootInstant) -> Option<DutyReport> {
        let failure = self.given_up.as_ref()?;
        let what =
            format!("target health could not be read at the end, so that what is told was seen before: {failure}");
        Some(DutyReport::new(format!("last look at {}", self.target_group.name()), false, what).aside())
    }
}
