//! The duty to leave one target group: deregister every port, then see in target health that it is so.

use std::time::Duration;

use super::crowd::Bucket;
use super::{Answer, Call, Journal, Pace, Report, Terms, View, seconds};
use crate::core::model::{
    BootInstant, MilestoneKind, Ports, Registration, Target, TargetHealth, TargetState, ZoneChoice,
};
use crate::core::retry::{Precedence, fraction};

/// The proof is read this long after the write, and up to as long again: writes first, reads after and spread.
const PROVE_AFTER: Duration = Duration::from_millis(500);
/// Between two proofs while a registration that was under way may still land.
const PROVE_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Leave {
    /// Every target of ours that was ever seen in the group.
    registration: Registration,
    /// Those that are to be deregistered now.
    staying: Vec<Target>,
    zone: ZoneChoice,
    stage: Stage,
    pace: Pace,
    tried: bool,
    repeats: u32,
    /// Until then a call from before the handover may register this instance again, after any proof.
    may_be_registered_until: Option<BootInstant>,
    /// The last acceptance of what was still registered.
    accepted_at: Option<BootInstant>,
    /// So many targets were told of as deregistered.
    told: usize,
    /// When health showed that it is so, and whether it showed `unused`.
    left: Option<(BootInstant, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Deregister,
    /// The first proof since the deregistration.
    Prove,
    /// Health has shown that this instance has left, and is asked again.
    Confirm,
    Left,
}

impl Leave {
    /// Until `may_be_registered_until` a call from before the handover may still register this instance.
    pub(super) fn new(
        registration: Registration,
        may_be_registered_until: Option<BootInstant>,
        now: BootInstant,
        seed: u64,
    ) -> Leave {
        Leave {
            staying: registration.targets.clone(),
            zone: ZoneChoice::new(registration.zone.clone()),
            registration,
            stage: Stage::Deregister,
            pace: Pace::new(now, seed).with(Precedence::Deregistration),
            tried: false,
            repeats: 0,
            may_be_registered_until,
            accepted_at: None,
            told: 0,
            left: None,
        }
    }

    /// A registration may still land here, or has landed and is not taken back yet.
    pub(super) fn may_be_registered(&self) -> bool {
        self.may_be_registered_until.is_some() && self.stage != Stage::Left
    }

    /// When the deregistration of every known port was accepted: none while one is still to be deregistered.
    pub(super) fn accepted_at(&self) -> Option<BootInstant> {
        self.accepted_at.filter(|_| self.stage != Stage::Deregister)
    }

    /// Every target of ours that was ever seen in the group.
    pub(super) fn targets(&self) -> &[Target] {
        &self.registration.targets
    }

    pub(super) fn was_tried(&self) -> bool {
        self.tried
    }

    /// Seen to have left.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Left
    }

    pub(super) fn is_unused(&self) -> bool {
        self.left.is_some_and(|(_, unused)| unused)
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>, journal: &mut Journal) -> Option<Call> {
        // What the owner does already takes nothing from the bucket that others wait for.
        let waits = self.stage == Stage::Deregister && self.pace.was_throttled() && !self.pace.in_flight;
        if waits && view.taken_out_of.contains(&self.registration.target_group) {
            self.accepted(view.now, journal);
        }
        view.crowd.take_turns(&mut self.pace, Bucket::TARGETS);
        let (target_group, zone) = (self.registration.target_group.clone(), self.zone.zone().clone());
        match self.stage {
            Stage::Deregister if view.may_leave && self.pace.begin(view.now) => {
                Some(Call::DeregisterTargets { target_group, targets: self.staying.clone(), zone })
            }
            Stage::Prove | Stage::Confirm if self.pace.begin(view.now) => {
                Some(Call::DescribeTargetHealth { target_group, targets: self.asked_for(), zone })
            }
            _ => None,
        }
    }

    /// The targets whose health is the proof. None, which asks for the whole group, where a port may be ours that is not
    /// known yet; a repeat asks for what is known.
    fn asked_for(&self) -> Vec<Target> {
        let is_repeat = self.stage == Stage::Prove && self.repeats > 0;
        match self.registration.covers {
            Ports::Every if !is_repeat => Vec::new(),
            Ports::Every | Ports::Listed => self.registration.targets.clone(),
        }
    }

    pub(super) fn answered(&mut self, now: BootInstant, terms: &Terms, answer: Answer, journal: &mut Journal) {
        self.tried = true;
        match (self.stage, answer) {
            (Stage::Deregister, Answer::Accepted) => self.accepted(now, journal),
            // AWS answers 200 where a target is not registered; emulators, and perhaps one day AWS, answer this.
            (Stage::Deregister, Answer::Failed(failure)) if failure.has_code(&["InvalidTarget"]) => {
                self.accepted(now, journal);
            }
            (_, Answer::Failed(failure)) if self.zone.turns_after(&failure) => self.pace.succeeded(now),
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => {
                self.accepted_at.get_or_insert(now);
                self.leave(now, true, "no such group any more", journal);
            }
            (Stage::Prove | Stage::Confirm, Answer::Health(rows)) => self.proved(now, terms, &rows, journal),
            (_, other) => self.pace.failed_by(now, other),
        }
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.stage == Stage::Left { None } else { self.pace.wake() }
    }

    /// `is_alone`: no other target serves the group.
    pub(super) fn report(&self, begun_at: BootInstant, is_alone: bool) -> Report {
        let after = |instant: BootInstant| seconds(instant.since(begun_at));
        let duty = format!("leave {}", self.registration.name());
        match (self.left, self.accepted_at) {
            (Some((left_at, _)), _) if self.stage == Stage::Confirm => {
                let what = "a registration from before the handover may still land, and is looked for";
                Report::new(duty, false, format!("left after {}; {what}", after(left_at)))
            }
            (Some((left_at, _)), _) => Report::new(duty, true, format!("left after {}", after(left_at))),
            (None, Some(accepted_at)) => {
                let trouble = self.pace.trouble();
                let what = format!("deregistered after {}, not seen in target health: {trouble}", after(accepted_at));
                Report::new(duty, false, what)
            }
            (None, None) if is_alone && !self.tried => {
                Report::new(duty, false, "not deregistered: no other target serves, so that this instance serves on")
            }
            (None, None) => Report::new(duty, false, format!("not deregistered: {}", self.pace.trouble())),
        }
    }

    fn accepted(&mut self, now: BootInstant, journal: &mut Journal) {
        if self.told < self.registration.targets.len() {
            self.told = self.registration.targets.len();
            let message = format!("deregistered from {}: {}", self.registration.name(), self.ports());
            journal.reach(now, MilestoneKind::Deregistered, message, (&self.registration.target_group).into());
        }
        self.accepted_at = Some(now);
        self.stage = Stage::Prove;
        self.pace.precedence = Precedence::Look;
        self.pace.succeeded(now + PROVE_AFTER + PROVE_AFTER.mul_f64(fraction(self.pace.seed)));
    }

    fn proved(&mut self, now: BootInstant, terms: &Terms, rows: &[TargetHealth], journal: &mut Journal) {
        let ours: Vec<&TargetHealth> = rows.iter().filter(|row| self.is_ours(terms, &row.target)).collect();
        let staying: Vec<Target> = ours.iter().filter(|row| !row.has_left()).map(|row| row.target.clone()).collect();
        if staying.is_empty() {
            let unused = ours.iter().all(|row| row.state == TargetState::Unused);
            match self.may_be_registered_until.filter(|until| now < *until) {
                Some(until) => {
                    self.left = Some((now, unused));
                    self.stage = Stage::Confirm;
                    self.pace.succeeded(until.min(now + PROVE_AGAIN_AFTER));
                }
                None => self.leave(now, unused, if unused { "unused" } else { "draining" }, journal),
            }
            return;
        }
        // Registered again by somebody, or on a port that was not known: once more, less and less often.
        let unknown = staying.iter().filter(|target| !self.registration.targets.contains(target)).cloned();
        let unknown: Vec<Target> = unknown.collect();
        self.registration.targets.extend(unknown);
        self.staying = staying;
        self.left = None;
        self.stage = Stage::Deregister;
        self.pace.precedence = Precedence::Deregistration;
        self.repeats = self.repeats.saturating_add(1);
        self.pace.succeeded(now + PROVE_AFTER.saturating_mul(1 << self.repeats.min(5)));
    }

    fn is_ours(&self, terms: &Terms, target: &Target) -> bool {
        let identity = &terms.identity;
        let by_name = || target.id == identity.instance_id.as_str() || target.id == identity.private_ip;
        self.registration.targets.contains(target) || (self.registration.covers == Ports::Every && by_name())
    }

    fn leave(&mut self, now: BootInstant, unused: bool, shown: &str, journal: &mut Journal) {
        self.left = Some((now, unused));
        self.stage = Stage::Left;
        self.pace.succeeded(now);
        let message = format!("left {}: target health shows {shown}", self.registration.name());
        journal.reach(now, MilestoneKind::Left, message, (&self.registration.target_group).into());
    }

    fn ports(&self) -> String {
        let ports: Vec<String> = self.registration.ports().iter().map(u16::to_string).collect();
        format!("port{} {}", if ports.len() == 1 { "" } else { "s" }, ports.join(", "))
    }
}
