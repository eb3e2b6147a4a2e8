//! The duty to keep the light on: before this instance leaves without a successor that serves, it looks whether another
//! target of each group does. Where none does, it stays until the reserve, because a request that is cut at the end is better
//! than every request refused before. Where its Auto Scaling group has taken it out meanwhile, it registers itself again.
//!
//! Invariant: one DescribeTargetHealth a group decides, after everything that asks for a successor. An answer that does not
//! come holds up an instance that leaves at once for [`LOOKED_AT_MOST`], and no instance longer than to the last moment that
//! leaves time to drain.

use std::time::Duration;

use super::crowd::{Bucket, Crowd};
use super::{Answer, Call, Pace, Terms, seed};
use crate::core::model::{
    BootInstant, InstanceId, Registration, TargetGroupArn, TargetHealth, TargetState, TargetType, TargetZone,
};
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::FailureKind;

/// The look begins so long before its answer is needed.
pub(super) const AHEAD: Duration = Duration::from_secs(5);
/// Between two looks while nobody else serves.
const AGAIN: Duration = Duration::from_secs(5);
/// And while this instance is being taken out of the group by its owner.
const AGAIN_WHILE_TAKEN_OUT: Duration = Duration::from_secs(1);
/// An instance that leaves at once waits no longer for an answer, since it began to look or since the last answer came.
pub(super) const LOOKED_AT_MOST: Duration = Duration::from_millis(2_500);
/// Others that were noticed together with this instance have set their tag by then. Where this instance's own tag is set, no
/// time has to pass: of several that look after they have set theirs, the last one sees all the others'.
const TAGGED_WITHIN: Duration = Duration::from_secs(3);
/// Of more others than this some stay; they are not asked for their tags.
pub(super) const FEW: usize = 10;

#[derive(Default)]
pub(super) struct Light {
    groups: Vec<Group>,
    /// When this instance began to look, or got its last answer.
    asked_at: Option<BootInstant>,
}

/// The facts that a look depends on.
pub(super) struct Look<'a> {
    pub(super) now: BootInstant,
    pub(super) terms: &'a Terms,
    pub(super) registrations: &'a [Registration],
    /// Target groups that the owner takes this instance out of, because it was asked for a successor.
    pub(super) taken_out_of: &'a [TargetGroupArn],
    /// This instance bears its tag, or cannot be given it.
    pub(super) is_marked: bool,
    pub(super) crowd: Crowd,
}

struct Group {
    stage: Stage,
    pace: Pace,
    /// Tells whether another target serves that is not itself leaving; unknown before the first answer.
    serves: Option<bool>,
    /// The owner takes this instance out of the group, which takes it back at once.
    is_taken_out: bool,
    /// This instance has registered itself again.
    is_back: bool,
}

enum Stage {
    Health,
    /// The other healthy targets: whether they bear the tag of one that goes. Before that, whether this instance is in service.
    Tags(bool, Vec<InstanceId>),
    /// Nobody else serves, and the owner has taken this instance out.
    Return,
}

impl Light {
    /// The look at every registration, also at those found late.
    pub(super) fn due(&mut self, look: &Look<'_>) -> Vec<(usize, Call)> {
        self.asked_at.get_or_insert(look.now);
        for registration in look.registrations.iter().skip(self.groups.len()) {
            let seed = seed(look.terms, &format!("light in {}", registration.target_group));
            self.groups.push(Group::new(look.now, seed));
        }
        let groups = self.groups.iter_mut().zip(look.registrations).enumerate();
        groups.filter_map(|(index, (group, registration))| Some((index, group.due(look, registration)?))).collect()
    }

    pub(super) fn answered(
        &mut self,
        now: BootInstant,
        index: usize,
        terms: &Terms,
        registrations: &[Registration],
        answer: Answer,
    ) {
        if !matches!(answer, Answer::Failed(_)) {
            self.asked_at = Some(now);
        }
        if let (Some(group), Some(registration)) = (self.groups.get_mut(index), registrations.get(index)) {
            group.answered(now, terms, registration, answer);
        }
    }

    /// Tells whether this instance is the last one somewhere: known, unknown.
    pub(super) fn others_serve(&self, registrations: &[Registration]) -> Option<bool> {
        let known = |index: usize| self.groups.get(index).and_then(|group| group.serves);
        let each: Vec<Option<bool>> = (0..registrations.len()).map(known).collect();
        if each.contains(&Some(false)) {
            return Some(false);
        }
        each.into_iter().try_fold(true, |all, one| one.map(|one| all && one))
    }

    /// Tells whether nobody else serves this group.
    pub(super) fn is_alone_in(&self, index: usize) -> bool {
        self.groups.get(index).is_some_and(|group| group.serves == Some(false))
    }

    /// Tells whether an instance that leaves at once waits no longer for what is not known: an answer takes long, or many
    /// ask at once and some of them serve by all likelihood.
    pub(super) fn is_unanswered(&self, now: BootInstant, crowd: Crowd) -> bool {
        let is_late = self.asked_at.is_some_and(|asked_at| now >= asked_at + LOOKED_AT_MOST);
        is_late || (!crowd.is_small() && self.groups.iter().any(|group| group.pace.was_throttled()))
    }

    /// The tags of others decide, and this instance's own is to be seen by them.
    pub(super) fn asks_for_tags(&self) -> bool {
        self.groups.iter().any(|group| matches!(group.stage, Stage::Tags(..)))
    }

    /// This instance has registered itself again where its owner had taken it out.
    pub(super) fn is_back_in(&self, index: usize) -> bool {
        self.groups.get(index).is_some_and(|group| group.is_back)
    }

    pub(super) fn pace(&self, index: usize) -> Option<&Pace> {
        self.groups.get(index).map(|group| &group.pace)
    }

    pub(super) fn wakes(&self) -> impl Iterator<Item = BootInstant> {
        let late = self.asked_at.map(|asked_at| asked_at + LOOKED_AT_MOST);
        let groups = self.groups.iter().filter(|group| group.serves != Some(true));
        groups.filter_map(|group| group.pace.wake()).chain(late)
    }
}

impl Group {
    fn new(now: BootInstant, seed: u64) -> Group {
        let pace = Pace::new(now, seed);
        Group { stage: Stage::Health, pace, serves: None, is_taken_out: false, is_back: false }
    }

    fn due(&mut self, look: &Look<'_>, registration: &Registration) -> Option<Call> {
        let target_group = &registration.target_group;
        // Owners register instances, not addresses.
        self.is_taken_out =
            registration.target_type == TargetType::Instance && look.taken_out_of.contains(target_group);
        match self.stage {
            Stage::Tags(..) if look.is_marked && self.pace.failures == 0 => self.pace.next = look.now,
            Stage::Return => look.crowd.hold_back(&mut self.pace),
            Stage::Tags(..) | Stage::Health => look.crowd.space_out(&mut self.pace, Bucket::ELB_LOOKS),
        }
        if self.serves == Some(true) || !self.pace.begin(look.now) {
            return None;
        }
        let target_group = target_group.clone();
        Some(match &self.stage {
            Stage::Health => {
                Call::DescribeTargetHealth { target_group, targets: Vec::new(), zone: TargetZone::Implied }
            }
            Stage::Tags(_, others) => Call::DescribeInstances { instance_ids: others.clone() },
            Stage::Return => {
                let targets = registration.targets.clone();
                Call::RegisterTargets { target_group, targets, zone: TargetZone::Implied }
            }
        })
    }

    fn answered(&mut self, now: BootInstant, terms: &Terms, registration: &Registration, answer: Answer) {
        match (&self.stage, answer) {
            (Stage::Health, Answer::Health(rows)) => self.saw(now, terms, registration, &rows),
            (Stage::Tags(in_service, _), Answer::Instances(instances)) => {
                let stays = |tags: &std::collections::BTreeMap<String, String>| !tags.contains_key(LEAVING_TAG);
                let serves = instances.iter().any(|it| it.state.is_alive() && stays(&it.tags));
                self.decide(now, *in_service, serves);
            }
            (Stage::Return, Answer::Accepted) => {
                self.is_back = true;
                self.stage = Stage::Health;
                self.pace.succeeded(now + AGAIN_WHILE_TAKEN_OUT);
            }
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => self.decide(now, true, true),
            // IAM lets nobody read it: nothing more is to be known.
            (Stage::Health | Stage::Tags(..), Answer::Failed(failure)) if failure.kind == FailureKind::Denied => {
                self.decide(now, true, true);
            }
            (_, other) => self.pace.failed_by(now, other),
        }
    }

    fn saw(&mut self, now: BootInstant, terms: &Terms, registration: &Registration, rows: &[TargetHealth]) {
        let identity = &terms.identity;
        let by_name = |id: &str| id == identity.instance_id.as_str() || id == identity.private_ip;
        let is_ours = |id: &str| by_name(id) || registration.targets.iter().any(|target| target.id == id);
        let in_service = rows.iter().any(|row| is_ours(&row.target.id) && !row.has_left());
        let healthy = rows.iter().filter(|row| row.state == TargetState::Healthy && !is_ours(&row.target.id));
        let mut others: Vec<&str> = healthy.map(|row| row.target.id.as_str()).collect();
        others.sort_unstable();
        others.dedup();
        // The tags of an address are not to be asked for.
        let has_tags = others.iter().all(|id| id.starts_with("i-"));
        if others.is_empty() || others.len() > FEW || !has_tags {
            return self.decide(now, in_service, !others.is_empty());
        }
        self.stage = Stage::Tags(in_service, others.into_iter().map(InstanceId::new).collect());
        let begun_at = terms.clocks.1;
        self.pace.succeeded(now.max(begun_at + TAGGED_WITHIN));
    }

    fn decide(&mut self, now: BootInstant, in_service: bool, serves: bool) {
        let has_no_light = !in_service && !self.is_taken_out;
        self.serves = Some(serves || has_no_light);
        self.stage = if serves || in_service || has_no_light { Stage::Health } else { Stage::Return };
        self.pace.succeeded(match self.stage {
            Stage::Return => now,
            _ if self.is_taken_out && !self.is_back => now + AGAIN_WHILE_TAKEN_OUT,
            _ => now + AGAIN,
        });
    }
}
