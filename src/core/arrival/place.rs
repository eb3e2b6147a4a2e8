//! One target group that this instance comes into: register every port, then see in target health that it serves.

use std::time::Duration;

use super::first_failure;
use crate::core::handover::{Answer, Call, Pace};
use crate::core::model::{BootInstant, Registration, Target, TargetHealth};
use crate::core::retry::{self, Failure};

/// The pauses between two looks at the health: an application that never becomes healthy costs a call every five minutes.
const PAUSES: [u64; 9] = [1, 2, 3, 5, 10, 15, 30, 60, 300];
/// A deregistration that was under way may land after the registration: healthy has to be seen twice, so far apart.
const SEEN_TWICE_AFTER: Duration = Duration::from_secs(4);

pub(super) struct Place {
    registration: Registration,
    stage: Stage,
    pace: Pace,
    looks: usize,
    is_begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Register,
    Follow,
    /// Seen healthy once.
    Again,
    Healthy,
    /// There is no such target group any more.
    Gone,
}

impl Place {
    pub(super) fn new(registration: Registration, now: BootInstant) -> Place {
        let pace = Pace::new(now, retry::seed(registration.target_group.as_str()));
        Place { registration, stage: Stage::Register, pace, looks: 0, is_begun: false }
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.registration
    }

    /// A registration may have been made.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun && self.stage != Stage::Gone
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Healthy | Stage::Gone)
    }

    pub(super) fn first_failure(&self) -> Option<Failure> {
        first_failure(&self.pace)
    }

    pub(super) fn due(&mut self, now: BootInstant) -> Option<Call> {
        if self.is_done() || !self.pace.begin(now) {
            return None;
        }
        let target_group = self.registration.target_group.clone();
        if self.stage == Stage::Register {
            self.is_begun = true;
            return Some(Call::RegisterTargets { target_group, targets: self.registration.targets.clone() });
        }
        Some(Call::DescribeTargetHealth { target_group })
    }

    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer) {
        match (self.stage, answer) {
            (Stage::Register, Answer::Accepted) => {
                self.stage = Stage::Follow;
                self.look_later(now);
            }
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => {
                self.stage = Stage::Gone;
                self.pace.succeeded(now);
            }
            (Stage::Follow | Stage::Again, Answer::Health(rows)) => self.followed(now, &rows),
            (_, other) => self.pace.failed_at_leisure(now, other),
        }
    }

    fn followed(&mut self, now: BootInstant, rows: &[TargetHealth]) {
        let of = |target: &Target| rows.iter().find(|row| row.target == *target);
        let mut ours = self.registration.targets.iter().map(of);
        let registered = |row: Option<&TargetHealth>| row.is_some_and(|row| row.serves() || !row.has_left());
        let is_registered = ours.clone().all(registered);
        let serves = ours.all(|row| row.is_some_and(TargetHealth::serves));
        match (self.stage, serves) {
            _ if !is_registered => {
                self.stage = Stage::Register;
                self.look_later(now);
            }
            (Stage::Again, true) => {
                self.stage = Stage::Healthy;
                self.pace.succeeded(now);
            }
            (_, true) => {
                self.stage = Stage::Again;
                self.pace.succeeded(now + SEEN_TWICE_AFTER);
            }
            (_, false) => {
                self.stage = Stage::Follow;
                self.look_later(now);
            }
        }
    }

    fn look_later(&mut self, now: BootInstant) {
        let pause = PAUSES.get(self.looks).or(PAUSES.last()).copied().unwrap_or_default();
        self.looks += 1;
        self.pace.succeeded(now + Duration::from_secs(pause));
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.is_done() { None } else { self.pace.wake() }
    }

    /// As in "healthy in web".
    pub(super) fn words(&self) -> String {
        match self.stage {
            Stage::Gone => format!("{} is gone", self.registration.name()),
            _ => format!("healthy in {}", self.registration.name()),
        }
    }
}
