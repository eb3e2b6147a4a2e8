//! Registers every port of this instance in one target group, then follows target health until the instance serves.

use std::time::Duration;

use super::course::{ComingBack, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, its_attempts};
use crate::core::model::{BootInstant, Registration, TargetHealth, TargetStanding, ZoneChoice};
use crate::core::retry::{Failure, FailureKind, growing};

/// The pauses between two looks at the health: an application that is never healthy costs a call every five minutes.
const PAUSES: [u64; 9] = [1, 2, 3, 5, 10, 15, 30, 60, 300];
/// The time between the two looks that must both show healthy: a deregistration under way may still take effect.
const SEEN_TWICE_AFTER: Duration = Duration::from_secs(4);
/// The longest pause between two looks at a draining target.
const DRAINS_LOOK_AT_MOST: Duration = Duration::from_secs(15);

pub(super) struct Serve {
    registration: Registration,
    zone: ZoneChoice,
    stage: Stage,
    attempts: Attempts,
    looks: usize,
    is_begun: bool,
    /// The reason why AWS refused the last registration, until its cause is seen in target health.
    refusal: Option<Failure>,
    /// Remarks for a person.
    remark: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Register,
    /// AWS takes the targets back only when they have drained to the end.
    Drain,
    Follow,
    /// Seen healthy once.
    Again,
    Healthy,
    /// Registered, and no load balancer of the group serves this instance's zone.
    Unserved,
    /// There is no such target group any more.
    Gone,
}

impl Serve {
    pub(super) fn new(registration: Registration, attempts: Attempts) -> Serve {
        let zone = ZoneChoice::new(registration.zone.clone());
        let (stage, looks, is_begun) = (Stage::Register, 0, false);
        Serve { registration, zone, stage, attempts, looks, is_begun, refusal: None, remark: None }
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Tells whether a registration may have been made.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun && self.stage != Stage::Gone
    }

    pub(super) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Tells whether the targets are registered in a zone that gets no requests: no more can be done.
    pub(super) fn is_unserved(&self) -> bool {
        self.stage == Stage::Unserved
    }

    /// The reason to wait here, other than AWS's health checks.
    pub(super) fn waits_for(&self) -> Option<String> {
        let (name, delay) = (self.registration.name(), self.registration.deregistration_delay.as_secs());
        (self.stage == Stage::Drain).then(|| {
            format!(
                "waiting until {name} has drained this instance's address: AWS takes an address back only after the \
                 deregistration delay ({delay} s)"
            )
        })
    }

    fn followed(&mut self, now: BootInstant, rows: &[TargetHealth]) {
        let refusal = self.refusal.take();
        match (self.stage, self.registration.standing(&self.registration.targets, rows)) {
            (_, TargetStanding::Wanting { drains: true, .. }) if self.registration.drains_to_the_end() => {
                self.stage = Stage::Drain;
                self.look_within(now, DRAINS_LOOK_AT_MOST);
            }
            (Stage::Drain, _) => {
                (self.stage, self.looks) = (Stage::Register, 0);
                self.attempts.succeeded(now);
            }
            (_, TargetStanding::Wanting { .. }) => {
                self.look_later(now);
                self.stage = Stage::Register;
                // Draining was not the reason of the refusal, so it counts as any other failure.
                if let Some(refusal) = refusal {
                    self.attempts.failed(now, refusal);
                }
            }
            (Stage::Again, TargetStanding::Serves) => {
                self.stage = Stage::Healthy;
                self.attempts.end();
            }
            (_, TargetStanding::Serves) => {
                self.stage = Stage::Again;
                self.attempts.succeeded(now + SEEN_TWICE_AFTER);
            }
            (_, TargetStanding::Unserved) => self.unserved(now),
            (_, TargetStanding::Registered) => {
                self.stage = Stage::Follow;
                self.look_later(now);
            }
        }
    }

    fn unserved(&mut self, now: BootInstant) {
        if self.stage != Stage::Unserved {
            self.remark = Some(format!(
                "this instance is in {}, and its zone is enabled for none of the load balancers (Target.NotInUse): it gets no \
                 requests there; enable the zone for the load balancer",
                self.registration.name()
            ));
        }
        self.stage = Stage::Unserved;
        self.look_later(now);
    }

    fn look_later(&mut self, now: BootInstant) {
        self.look_within(now, Duration::MAX);
    }

    fn look_within(&mut self, now: BootInstant, longest: Duration) {
        let pause = growing(&PAUSES, self.looks);
        self.looks += 1;
        self.attempts.succeeded(now + pause.min(longest));
    }

    /// A text such as "healthy in web".
    pub(super) fn words(&self) -> String {
        let name = self.registration.name();
        match self.stage {
            Stage::Gone => format!("{name} is gone"),
            Stage::Unserved => format!("registered in {name}, whose load balancer does not serve this zone"),
            _ => format!("healthy in {name}"),
        }
    }
}

impl Duty<ComingBack> for Serve {
    its_attempts!();

    fn call(&mut self, _: &Situation) -> Option<Call> {
        let (target_group, zone) = (self.registration.target_group.clone(), self.zone.zone().clone());
        let targets = self.registration.targets.clone();
        if self.stage == Stage::Register {
            self.is_begun = true;
            return Some(Call::RegisterTargets { target_group, targets, zone });
        }
        Some(Call::DescribeTargetHealth { target_group, targets, zone })
    }

    fn take(&mut self, situation: &mut Situation, answer: Answer) -> Result<News, Answer> {
        let now = situation.now;
        match (self.stage, answer) {
            (Stage::Register, Answer::Accepted) => {
                // A later notice deregisters with the zone that AWS accepted.
                self.registration.zone = self.zone.zone().clone();
                self.stage = Stage::Follow;
                self.look_later(now);
            }
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => {
                self.stage = Stage::Gone;
                self.attempts.end();
                return Ok(News { is_gone: true, ..News::default() });
            }
            (_, Answer::Failed(failure)) if self.zone.turns_after(&failure) => self.attempts.succeeded(now),
            (Stage::Register, Answer::Failed(failure))
                if failure.kind == FailureKind::Rejected && self.registration.drains_to_the_end() =>
            {
                self.refusal = Some(failure);
                self.stage = Stage::Follow;
                self.attempts.succeeded(now);
            }
            (Stage::Drain | Stage::Follow | Stage::Again | Stage::Unserved, Answer::Health(rows)) => {
                self.followed(now, &rows);
            }
            (_, other) => return Err(other),
        }
        Ok(News { remarks: self.remark.take().into_iter().collect(), ..News::default() })
    }
}
