//! The duty to leave one target group: deregister every port, then see in target health that it is so.

use std::time::Duration;

use super::course::{HandingOver, News, Situation};
use super::crowd::Bucket;
use super::words::seconds;
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyId, DutyReport, its_attempts};
use crate::core::model::{
    BootInstant, Identity, MilestoneKind, Ports, Registration, Target, TargetGroupArn, TargetHealth, TargetState,
    TargetZone, ZoneChoice,
};
use crate::core::retry::{Precedence, fraction};

/// Target health is read this long after the write, or up to twice as long: writes first, reads after and spread.
const PROVE_AFTER: Duration = Duration::from_millis(500);
/// The pause between two reads while a registration that was under way may still land.
const PROVE_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Leave {
    /// Every target of ours that was ever seen in the group.
    registration: Registration,
    /// The targets to deregister now.
    staying: Vec<Target>,
    zone: ZoneChoice,
    stage: Stage,
    attempts: Attempts,
    tried: bool,
    repeats: u32,
    /// Until this instant a call from before the handover may still register this instance, whatever health showed.
    may_be_registered_until: Option<BootInstant>,
    /// The instant at which AWS last accepted a deregistration.
    accepted_at: Option<BootInstant>,
    /// The number of targets that a person was told are deregistered.
    told: usize,
    /// The instant at which health showed that this instance has left, and whether it showed `unused`.
    left: Option<(BootInstant, bool)>,
    /// The last instant at which the last look showed that this instance is still out.
    seen_at: Option<BootInstant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Deregister,
    /// Health is read for the first time since the deregistration.
    Prove,
    /// Health has shown that this instance has left, and is read again.
    Confirm,
    Left,
    /// The owner no longer has the group, and health has shown that this instance is out of it.
    Absent,
}

impl Leave {
    /// A call from before the handover may still register this instance until `may_be_registered_until`.
    pub(super) fn new(
        registration: Registration,
        may_be_registered_until: Option<BootInstant>,
        attempts: Attempts,
    ) -> Leave {
        Leave {
            staying: registration.targets.clone(),
            zone: ZoneChoice::new(registration.zone.clone()),
            registration,
            stage: Stage::Deregister,
            attempts: attempts.with(Precedence::Deregistration),
            tried: false,
            repeats: 0,
            may_be_registered_until,
            accepted_at: None,
            told: 0,
            left: None,
            seen_at: None,
        }
    }

    pub(super) fn target_group(&self) -> &TargetGroupArn {
        &self.registration.target_group
    }

    /// Tells whether a registration from before may still land here, or has landed and is not taken back yet.
    pub(super) fn may_be_registered(&self) -> bool {
        self.may_be_registered_until.is_some() && self.stage != Stage::Left
    }

    /// Tells whether the owner no longer has the group and has taken this instance out, so that we need not.
    pub(super) fn is_absent(&self) -> bool {
        self.stage == Stage::Absent
    }

    /// The instant at which AWS had accepted the deregistration of every known port, if none is still to be
    /// deregistered.
    pub(super) fn accepted_at(&self) -> Option<BootInstant> {
        self.accepted_at.filter(|_| self.stage != Stage::Deregister)
    }

    pub(super) fn was_tried(&self) -> bool {
        self.tried
    }

    /// Tells whether health has shown that this instance has left.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Left | Stage::Absent)
    }

    pub(super) fn is_unused(&self) -> bool {
        self.left.is_some_and(|(_, unused)| unused)
    }

    /// The targets whose health proves that this instance has left. The list is empty, which asks for the whole group,
    /// if an unknown port may be ours; a repeat asks for the known ports.
    fn asked_for(&self) -> Vec<Target> {
        let is_repeat = self.stage == Stage::Prove && self.repeats > 0;
        match self.registration.covers {
            Ports::Every if !is_repeat => Vec::new(),
            Ports::Every | Ports::Listed => self.registration.targets.clone(),
        }
    }

    /// The fate of the duty. With `is_alone` no other target serves the group.
    pub(super) fn fate(&self, begun_at: BootInstant, is_alone: bool) -> DutyReport {
        let after = |instant: BootInstant| seconds(instant.since(begun_at));
        let (done, what) = match (self.left, self.accepted_at) {
            (Some((left_at, _)), _) if self.stage == Stage::Confirm => {
                let what = "a registration from before the handover may still land, and is looked for";
                (false, format!("left after {}; {what}", after(left_at)))
            }
            (Some(_), _) if self.is_absent() => {
                (true, "not needed: its owner has it no more, and has taken this instance out".to_owned())
            }
            (Some((left_at, _)), _) => (true, format!("left after {}", after(left_at))),
            (None, Some(accepted_at)) => {
                let trouble = self.attempts.trouble();
                (false, format!("deregistered after {}, not seen in target health: {trouble}", after(accepted_at)))
            }
            (None, None) if is_alone && !self.tried => {
                (false, "not deregistered: no other target serves, so that this instance serves on".to_owned())
            }
            (None, None) => (false, format!("not deregistered: {}", self.attempts.trouble())),
        };
        DutyReport::new(format!("leave {}", self.registration.name()), done, what)
    }

    fn accepted(&mut self, situation: &mut Situation<'_>) {
        let now = situation.now;
        if self.told < self.registration.targets.len() {
            self.told = self.registration.targets.len();
            let message =
                format!("deregistered from {}: {}", self.registration.name(), self.registration.ports_in_words());
            situation.incident.reach(
                now,
                MilestoneKind::Deregistered,
                message,
                (&self.registration.target_group).into(),
            );
        }
        self.accepted_at = Some(now);
        self.stage = Stage::Prove;
        self.attempts.precedence = Precedence::Look;
        self.attempts.succeeded(now + PROVE_AFTER + PROVE_AFTER.mul_f64(fraction(self.attempts.seed)));
    }

    fn proved(&mut self, situation: &mut Situation<'_>, rows: &[TargetHealth]) {
        let (now, identity) = (situation.now, &situation.incident.start.identity);
        let ours: Vec<&TargetHealth> = self.ours(identity, rows).collect();
        let staying: Vec<Target> = ours.iter().filter(|row| !row.has_left()).map(|row| row.target.clone()).collect();
        if staying.is_empty() {
            let unused = ours.iter().all(|row| row.state == TargetState::Unused);
            match self.may_be_registered_until.filter(|until| now < *until) {
                Some(until) => {
                    self.left = Some((now, unused));
                    self.stage = Stage::Confirm;
                    self.attempts.succeeded(until.min(now + PROVE_AGAIN_AFTER));
                }
                None => self.leave(unused, if unused { "unused" } else { "draining" }, situation),
            }
            return;
        }
        self.deregister_again(now, staying);
    }

    /// The owner no longer has the group. Health may show late that it has taken this instance out.
    fn looked(&mut self, situation: &mut Situation<'_>, rows: &[TargetHealth]) {
        let (now, identity) = (situation.now, &situation.incident.start.identity);
        let ours: Vec<&TargetHealth> = self.ours(identity, rows).collect();
        if !ours.iter().all(|row| row.has_left()) {
            return self.attempts.succeeded(now + PROVE_AGAIN_AFTER);
        }
        let unused = ours.iter().all(|row| row.state == TargetState::Unused);
        (self.accepted_at, self.tried) = (Some(now), true);
        self.leave(unused, "that its owner has taken this instance out", situation);
        self.stage = Stage::Absent;
    }

    /// Deregisters again, less and less often: somebody has registered this instance again, or on an unknown port.
    fn deregister_again(&mut self, now: BootInstant, staying: Vec<Target>) {
        let unknown = staying.iter().filter(|target| !self.registration.targets.contains(target)).cloned();
        let unknown: Vec<Target> = unknown.collect();
        self.registration.targets.extend(unknown);
        self.staying = staying;
        self.left = None;
        self.stage = Stage::Deregister;
        self.attempts.precedence = Precedence::Deregistration;
        self.repeats = self.repeats.saturating_add(1);
        self.attempts.begins_again(now + PROVE_AFTER.saturating_mul(1 << self.repeats.min(5)));
    }

    pub(super) fn name(&self) -> &str {
        self.registration.name()
    }

    /// The last instant at which target health showed that this instance has left.
    pub(super) fn seen_at(&self) -> Option<BootInstant> {
        self.seen_at.max(self.left.map(|(at, _)| at))
    }

    /// The arguments of the DescribeTargetHealth call that proves that this instance has left.
    pub(super) fn proof(&self) -> (TargetGroupArn, TargetZone, Vec<Target>) {
        (self.registration.target_group.clone(), self.zone.zone().clone(), self.registration.targets.clone())
    }

    /// Takes target health after this instance had left. If it is back it leaves again; returns whether it is.
    pub(super) fn is_seen_again(&mut self, identity: &Identity, rows: &[TargetHealth], now: BootInstant) -> bool {
        let back = self.ours(identity, rows).filter(|row| !row.has_left());
        let back: Vec<Target> = back.map(|row| row.target.clone()).collect();
        let is_back = !back.is_empty();
        self.seen_at = (!is_back).then_some(now);
        if is_back {
            self.deregister_again(now, back);
        }
        is_back
    }

    /// The rows of target health that are this instance's.
    fn ours<'a>(&self, identity: &Identity, rows: &'a [TargetHealth]) -> impl Iterator<Item = &'a TargetHealth> {
        let Registration { target_type, targets, covers, .. } = &self.registration;
        let is_known = |target: &Target| targets.iter().any(|known| known.is_same(target));
        let is_named = |target: &Target| *covers == Ports::Every && identity.is_target(*target_type, &target.id);
        rows.iter().filter(move |row| is_known(&row.target) || is_named(&row.target))
    }

    fn leave(&mut self, unused: bool, shown: &str, situation: &mut Situation<'_>) {
        let now = situation.now;
        self.left = Some((now, unused));
        self.stage = Stage::Left;
        self.attempts.end();
        let message = format!("left {}: target health shows {shown}", self.registration.name());
        situation.incident.reach(now, MilestoneKind::Left, message, (&self.registration.target_group).into());
    }
}

impl Duty<HandingOver> for Leave {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        // If the owner deregisters us already, a failed call of ours is not repeated: it would only take from the
        // bucket that others wait for, or fail again. Target health is read instead.
        let failed = self.stage == Stage::Deregister && self.attempts.failures > 0 && !self.attempts.in_flight;
        if failed && situation.taken_out_of.contains(&self.registration.target_group) {
            self.accepted(situation);
        }
        let is_unlisted = situation.unlisted.contains(&self.registration.target_group);
        match self.stage {
            // The owner has the group again.
            Stage::Absent if !is_unlisted => {
                (self.stage, self.left, self.accepted_at) = (Stage::Deregister, None, None);
                self.attempts.begins_again(situation.now);
            }
            Stage::Deregister if is_unlisted && !situation.may_leave => {
                situation.crowd.space_out(&mut self.attempts, Bucket::ELB_LOOKS);
            }
            // The deregistration may have waited for the next look.
            Stage::Deregister if is_unlisted && self.attempts.failures == 0 && self.repeats == 0 => {
                self.attempts.next = self.attempts.next.min(situation.now);
            }
            _ => {}
        }
        situation.crowd.take_turns(&mut self.attempts, Bucket::TARGETS);
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let (target_group, zone) = (self.registration.target_group.clone(), self.zone.zone().clone());
        match self.stage {
            Stage::Deregister if situation.may_leave => {
                Some(Call::DeregisterTargets { target_group, targets: self.staying.clone(), zone })
            }
            Stage::Deregister if !situation.unlisted.contains(&target_group) => None,
            // Health says nothing while a registration from before the handover may still land.
            Stage::Deregister if self.may_be_registered() => None,
            Stage::Deregister | Stage::Prove | Stage::Confirm => {
                Some(Call::DescribeTargetHealth { target_group, targets: self.asked_for(), zone })
            }
            Stage::Left | Stage::Absent => None,
        }
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let now = situation.now;
        self.tried |= !matches!(&answer, Answer::Health(_)) || self.stage != Stage::Deregister;
        match (self.stage, answer) {
            (Stage::Deregister, Answer::Health(rows)) => self.looked(situation, &rows),
            (Stage::Deregister, Answer::Accepted) => self.accepted(situation),
            // AWS answers 200 for a target that is not registered; emulators, and perhaps one day AWS, answer this.
            (Stage::Deregister, Answer::Failed(failure)) if failure.has_code(&["InvalidTarget"]) => {
                self.accepted(situation);
            }
            (_, Answer::Failed(failure)) if self.zone.turns_after(&failure) => self.attempts.succeeded(now),
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => {
                self.accepted_at.get_or_insert(now);
                self.leave(true, "no such group any more", situation);
            }
            (Stage::Prove | Stage::Confirm, Answer::Health(rows)) => self.proved(situation, &rows),
            (_, other) => return Err(other),
        }
        Ok(match self.attempts.duty {
            DutyId::Leave(index) => News::Targets(index, self.registration.targets.clone()),
            _ => News::None,
        })
    }
}
