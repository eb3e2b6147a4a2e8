//! The duty not to leave as the last target: before this instance leaves without a successor that serves, it looks
//! whether another target of each group serves. If none does, it stays until the reserve: a request that is cut at the
//! end is better than every request refused before. If its Auto Scaling group has taken it out meanwhile, it registers
//! itself again.
//!
//! Invariant: one DescribeTargetHealth a group decides, after all calls that ask for a successor without taking this
//! instance out. A missing answer holds up an instance that leaves at once for [`LOOKED_AT_MOST`]. It holds up no
//! instance longer than to the last moment that leaves time to drain.

use std::collections::BTreeSet;
use std::time::Duration;

use super::course::{HandingOver, News, Situation, seed};
use super::crowd::{Bucket, Crowd, FEW};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyId, its_attempts};
use crate::core::model::{
    BootInstant, Instance, InstanceId, Registration, TargetGroupArn, TargetHealth, TargetState, TargetType, TargetZone,
    is_same_id,
};
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::FailureKind;

/// The look begins this long before its answer is needed.
pub(super) const AHEAD: Duration = Duration::from_secs(5);
/// The pause between two looks while nobody else serves.
const AGAIN: Duration = Duration::from_secs(5);
/// The pause while the owner is taking this instance out of the group.
const AGAIN_WHILE_TAKEN_OUT: Duration = Duration::from_secs(1);
/// The longest wait of an instance that leaves at once, since it began to look or since the last answer.
pub(super) const LOOKED_AT_MOST: Duration = Duration::from_millis(2_500);
/// Others that were noticed together with this instance have set their tag after this time. An instance that has set
/// its own tag need not wait: the last one to look sees all tags, and stays. An instance that its owner takes out
/// cannot stay; after this time it looks whether it has to come back.
const TAGGED_WITHIN: Duration = Duration::from_secs(3);
/// Others that their owner has taken out have registered themselves again after this time.
const BACK_WITHIN: Duration = Duration::from_secs(7);

/// The look at one target group.
pub(super) struct OtherTargets {
    registration: Registration,
    stage: Stage,
    attempts: Attempts,
    /// The instant at which this instance began to look, or got its last answer.
    asked_at: BootInstant,
    /// Another target serves that is not itself leaving; unknown before the first answer.
    serves: Option<bool>,
    /// The owner is asked to take this instance out of the group, and does so at once.
    is_taken_out: bool,
    /// Target health did not show this instance in service before its owner was asked: somebody else has taken it out.
    was_never_there: bool,
    /// This instance has registered itself again.
    is_back: bool,
    /// Other targets that did not serve at some look.
    did_not_serve: BTreeSet<String>,
    /// One of the targets that did not serve serves now.
    another_is_back: bool,
    /// This instance is the last healthy target by name, and others probably come back; unknown before the first
    /// answer.
    is_last: Option<bool>,
}

enum Stage {
    Health,
    /// Do the other healthy targets bear the tag? The `bool` tells whether this instance is in service.
    Tags(bool, Vec<String>),
    /// Nobody else serves, and the owner has taken this instance out.
    Return,
}

/// The call that shows the tags of these targets.
pub(crate) fn tags_of(target_type: TargetType, others: &[String]) -> Call {
    match target_type {
        TargetType::Instance => Call::DescribeInstances { instance_ids: others.iter().map(InstanceId::new).collect() },
        TargetType::Ip => Call::DescribeInstancesByAddress { addresses: others.to_vec() },
    }
}

/// Tells whether one of the other healthy targets stays. An address that no instance of this VPC holds is something
/// else, and nobody knows that it leaves.
pub(crate) fn one_stays(target_type: TargetType, ours: &InstanceId, others: &[String], instances: &[Instance]) -> bool {
    let mut alive = instances.iter().filter(|it| it.state.is_alive() && it.instance_id != *ours);
    let is_held =
        |address: &String| instances.iter().any(|it| it.addresses.iter().any(|held| is_same_id(held, address)));
    let by_address = target_type == TargetType::Ip;
    alive.any(|it| !it.tags.contains_key(LEAVING_TAG)) || (by_address && !others.iter().all(is_held))
}

/// Tells whether the owner takes this instance out of the group. Owners register instances, not addresses.
pub(super) fn is_taken_out(registration: &Registration, goes_out_of: &[TargetGroupArn]) -> bool {
    registration.target_type == TargetType::Instance && goes_out_of.contains(&registration.target_group)
}

impl OtherTargets {
    /// Keeps one duty for every registration, also for those found late.
    pub(super) fn keep(other_targets: &mut Vec<OtherTargets>, situation: &Situation<'_>) {
        for registration in situation.registrations().iter().skip(other_targets.len()) {
            let seed = seed(situation.incident, &format!("other targets in {}", registration.target_group));
            other_targets.push(OtherTargets {
                registration: registration.clone(),
                stage: Stage::Health,
                attempts: Attempts::new(DutyId::OtherTargets(other_targets.len()), situation.now, seed),
                asked_at: situation.now,
                serves: None,
                is_taken_out: false,
                was_never_there: false,
                is_back: false,
                did_not_serve: BTreeSet::new(),
                another_is_back: false,
                is_last: None,
            });
        }
    }

    /// Tells whether others serve in every target group; `None` while that is unknown.
    pub(super) fn others_serve(other_targets: &[OtherTargets], registrations: &[Registration]) -> Option<bool> {
        let known = |index: usize| other_targets.get(index).and_then(|one| one.serves);
        let each: Vec<Option<bool>> = (0..registrations.len()).map(known).collect();
        if each.contains(&Some(false)) {
            return Some(false);
        }
        each.into_iter().try_fold(true, |all, one| one.map(|one| all && one))
    }

    /// Tells whether an instance that leaves at once stops waiting for the look: no answer came within
    /// [`LOOKED_AT_MOST`], or AWS throttles a crowd, of which some very probably serve.
    pub(super) fn is_unanswered(other_targets: &[OtherTargets], now: BootInstant, crowd: Crowd) -> bool {
        let asked_at = other_targets.iter().map(|one| one.asked_at).max();
        let is_late = asked_at.is_some_and(|asked_at| now >= asked_at + LOOKED_AT_MOST);
        is_late || (!crowd.is_small() && other_targets.iter().any(|one| one.attempts.was_throttled()))
    }

    /// Tells whether nobody else serves this group.
    pub(super) fn is_alone(&self) -> bool {
        self.serves == Some(false)
    }

    /// Tells whether this instance serves on until another is back: of the healthy targets that leave together the last
    /// one by name does. While its place is unknown it serves on for a moment.
    pub(super) fn waits_for_another(&self, now: BootInstant) -> bool {
        let is_last = self.is_last.unwrap_or(now < self.asked_at + LOOKED_AT_MOST);
        is_last && self.serves != Some(true) && !self.another_is_back
    }

    /// Tells whether the tags of others decide: then they have to see this instance's tag, too.
    pub(super) fn asks_for_tags(&self) -> bool {
        matches!(self.stage, Stage::Tags(..))
    }

    /// Tells whether this instance has registered itself again in this group, after its owner had taken it out.
    pub(super) fn is_back_in(&self, target_group: &TargetGroupArn) -> bool {
        self.is_back && self.registration.target_group == *target_group
    }

    fn looked(&mut self, situation: &Situation<'_>, rows: &[TargetHealth]) {
        let (now, identity) = (situation.now, &situation.incident.start.identity);
        let (ours, others) = self.registration.divide(identity, rows);
        let in_service = ours.iter().any(|row| !row.has_left());
        // A draining target may be the work of the previous process, or of a handover that was called off.
        let start = &situation.incident.start;
        let is_first = !start.is_resumed() && start.arrival_lands_by.is_none();
        let is_out = ours.is_empty() || (!in_service && is_first);
        self.was_never_there |= self.serves.is_none() && is_out && !situation.may_be_taken_out;
        let begun_at = situation.incident.begun;
        let is_early = now < begun_at + BACK_WITHIN;
        let comes_back = (is_early && others.is_empty())
            || others.iter().any(|row| match row.state {
                TargetState::Draining => is_early,
                ref state => matches!(state, TargetState::Healthy | TargetState::Initial),
            });
        let (healthy, unhealthy): (Vec<_>, Vec<_>) = others.into_iter().partition(|row| row.gets_requests());
        let is_last = |ours: &&TargetHealth| {
            ours.state == TargetState::Healthy && healthy.iter().all(|row| row.target.id < ours.target.id)
        };
        self.is_last = Some(comes_back && ours.iter().any(is_last));
        let mut others: Vec<&str> = healthy.iter().map(|row| row.target.id.as_str()).collect();
        self.another_is_back = others.iter().any(|id| self.did_not_serve.contains(*id));
        self.did_not_serve.extend(unhealthy.iter().map(|row| row.target.id.clone()));
        others.sort_unstable();
        others.dedup();
        if others.is_empty() || others.len() > FEW {
            return self.decide(now, in_service, !others.is_empty());
        }
        let tagged_at = begun_at + TAGGED_WITHIN;
        // The others may get their notices a moment later, and EC2 shows a tag some time after it was set.
        if self.is_taken_out && now < tagged_at {
            self.asked_at = tagged_at;
            return self.attempts.succeeded(tagged_at);
        }
        self.stage = Stage::Tags(in_service, others.into_iter().map(str::to_owned).collect());
        self.attempts.succeeded(now.max(tagged_at));
    }

    fn decide(&mut self, now: BootInstant, in_service: bool, serves: bool) {
        let leaving_costs_nothing =
            if self.is_taken_out { !in_service && self.was_never_there } else { !in_service || self.is_back };
        self.serves = Some(serves || leaving_costs_nothing);
        self.stage = if serves || in_service || leaving_costs_nothing { Stage::Health } else { Stage::Return };
        self.attempts.succeeded(match self.stage {
            Stage::Return => now,
            _ if self.is_taken_out && !self.is_back => now + AGAIN_WHILE_TAKEN_OUT,
            _ => now + AGAIN,
        });
    }
}

impl Duty<HandingOver> for OtherTargets {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        let known = situation.registrations().iter().find(|it| it.target_group == self.registration.target_group);
        if let Some(known) = known.filter(|known| known.targets != self.registration.targets) {
            self.registration.targets.clone_from(&known.targets);
        }
        self.is_taken_out = is_taken_out(&self.registration, &situation.goes_out_of);
        // The owner no longer has the group.
        if matches!(self.stage, Stage::Return) && !self.is_taken_out && !self.attempts.in_flight {
            self.stage = Stage::Health;
            self.attempts.succeeded(situation.now);
        }
        match self.stage {
            Stage::Tags(..) if situation.is_marked && self.attempts.failures == 0 => self.attempts.next = situation.now,
            Stage::Return => situation.crowd.hold_back(&mut self.attempts),
            Stage::Tags(..) | Stage::Health => situation.crowd.space_out(&mut self.attempts, Bucket::ELB_LOOKS),
        }
    }

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        let (target_group, zone) = (self.registration.target_group.clone(), TargetZone::Implied);
        match &self.stage {
            _ if self.serves == Some(true) => None,
            Stage::Health => Some(Call::DescribeTargetHealth { target_group, targets: Vec::new(), zone }),
            Stage::Tags(_, others) => Some(tags_of(self.registration.target_type, others)),
            Stage::Return => {
                Some(Call::RegisterTargets { target_group, targets: self.registration.targets.clone(), zone })
            }
        }
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let now = situation.now;
        if !matches!(answer, Answer::Failed(_)) {
            self.asked_at = now;
        }
        match (&self.stage, answer) {
            (Stage::Health, Answer::Health(rows)) => self.looked(situation, &rows),
            (Stage::Tags(in_service, others), Answer::Instances(instances)) => {
                let (in_service, ours) = (*in_service, &situation.incident.start.identity.instance_id);
                let one_stays = one_stays(self.registration.target_type, ours, others, &instances);
                self.decide(now, in_service, one_stays);
            }
            (Stage::Return, Answer::Accepted) => {
                self.is_back = true;
                self.stage = Stage::Health;
                self.attempts.succeeded(now + AGAIN_WHILE_TAKEN_OUT);
            }
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => self.decide(now, true, true),
            // IAM denies the call, so nothing more can be found out.
            (Stage::Health | Stage::Tags(..), Answer::Failed(failure)) if failure.kind == FailureKind::Denied => {
                self.decide(now, true, true);
            }
            (_, other) => return Err(other),
        }
        Ok(News::None)
    }

    fn wake(&self, since: BootInstant) -> Option<BootInstant> {
        let next = self.attempts.wake().filter(|_| self.serves != Some(true));
        next.into_iter().chain([self.asked_at + LOOKED_AT_MOST]).filter(|instant| *instant > since).min()
    }
}
