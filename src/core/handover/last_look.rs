//! The last look: before a handover is told as over, target health is read once more, because what was seen may not be so
//! any more. Somebody may have registered this instance again, or a successor may have fallen ill.
//!
//! Invariant: one DescribeTargetHealth a target group names this instance's targets and the successors' and no others; what
//! was seen a moment ago is not read again; a look that fails holds nothing up, and is told.

use super::crowd::Bucket;
use super::duties::{Duties, News};
use super::register::TARGETS_A_CALL;
use super::watch::{LAST_LOOK, LOOK_HOLDS};
use super::{Answer, Attempts, Call, Duty, DutyId, DutyReport, Facts, Handover, Situation, seed};
use crate::core::duty::its_attempts;
use crate::core::model::{BootInstant, Target, TargetGroupArn, TargetHealth, TargetZone};
use crate::core::retry::{Failure, FailureKind};

/// A look that fails so often is given up, and a throttled or denied one at once.
const TRIES: u32 = 3;

pub(super) struct LastLook {
    target_group: TargetGroupArn,
    zone: TargetZone,
    targets: Vec<Target>,
    attempts: Attempts,
    given_up: Option<Failure>,
}

impl LastLook {
    fn is_over(&self) -> bool {
        self.attempts.is_over()
    }

    fn give_up(&mut self, failure: Failure) {
        self.attempts.end();
        self.given_up = Some(failure);
    }
}

impl Duty<Duties> for LastLook {
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

    /// The handover itself does not depend on it: what is told was seen before.
    fn report(&self, _: BootInstant) -> Option<DutyReport> {
        let failure = self.given_up.as_ref()?;
        let what =
            format!("target health could not be read at the end, so that what is told was seen before: {failure}");
        Some(DutyReport::new(format!("last look at {}", self.target_group.name()), false, what).aside())
    }
}

impl Handover {
    /// Tells whether target health is still to be read once more, where it was not read a moment ago. The looks are begun.
    pub(super) fn looks_once_more(&mut self, now: BootInstant) -> bool {
        // The group ends this instance once its hooks are completed: nothing is left to be done.
        if self.duties.successor.as_ref().is_some_and(|successor| !successor.lifecycles.is_empty()) {
            return false;
        }
        if self.duties.last_looks.is_none() {
            self.duties.last_looks = Some(self.duties.last_looks_at(&mut self.facts, now));
        }
        self.duties.last_looks.iter().flatten().any(|look| !look.is_over())
    }

    /// Takes the last look at one target group. Returns what is not so any more, for a person.
    pub(super) fn seen_at_last(&mut self, index: usize, rows: &[TargetHealth], now: BootInstant) -> Option<Failure> {
        let identity = &self.facts.incident.start.identity;
        let is_back = self.duties.leaves.get_mut(index).is_some_and(|leave| leave.is_seen_again(identity, rows, now));
        let successor = self.duties.successor.as_mut();
        let lost = successor.map(|successor| successor.seen_again(index, rows, now)).unwrap_or_default();
        if is_back {
            // Requests come again.
            self.duties.quiet.begin_again(now);
        }
        if !is_back && lost.is_empty() {
            return None;
        }
        self.duties.last_looks = None;
        let group = self.duties.leaves.get(index)?.name();
        let ours =
            is_back.then(|| format!("somebody has registered this instance in {group} again, and it leaves again"));
        let theirs =
            lost.iter().map(|id| format!("successor {id} is not healthy in {group} any more, and is followed again"));
        let message = ours.into_iter().chain(theirs).collect::<Vec<_>>().join("; ");
        Some(Failure::of(FailureKind::Rejected, message))
    }
}

impl Duties {
    /// A look at each target group that was not seen a moment ago.
    fn last_looks_at(&self, facts: &mut Facts, now: BootInstant) -> Vec<LastLook> {
        let is_old = |seen_at: Option<BootInstant>| seen_at.is_none_or(|seen_at| now.since(seen_at) > LOOK_HOLDS);
        let groups = self.leaves.iter().enumerate().filter(|(index, leave)| {
            let successor = self.successor.as_ref().and_then(|successor| successor.seen_in(*index));
            is_old(leave.seen_at()) || successor.is_some_and(|seen_at| is_old(Some(seen_at)))
        });
        let look = |(index, leave): (usize, &super::leave::Leave)| {
            let seed = seed(&facts.incident, &format!("last look at {}", leave.name()));
            let mut attempts = Attempts::new(DutyId::LastLook(index), now, seed);
            facts.crowd.spread_last(&mut attempts, now, facts.incident.deadline, Bucket::ELB_LOOKS);
            let (target_group, zone, mut targets) = leave.proof();
            targets.extend(self.successor.iter().flat_map(|successor| successor.targets_in(index)));
            targets.truncate(TARGETS_A_CALL);
            LastLook { target_group, zone, targets, attempts, given_up: None }
        };
        groups.map(look).collect()
    }
}
