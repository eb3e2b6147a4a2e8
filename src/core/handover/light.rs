//! The duty to keep the light on: before this instance leaves without a successor that serves, it looks whether another
//! target of each group does. Where none does, it stays until the reserve, because a request that is cut at the end is better
//! than every request refused before.
//!
//! Invariant: one DescribeTargetHealth a group decides, after everything that asks for a successor. What is not known holds
//! this instance no longer than to the last moment that leaves time to drain.

use std::time::Duration;

use super::{Answer, Call, Pace, Terms, seed};
use crate::core::model::{BootInstant, InstanceId, Registration, TargetHealth, TargetState, TargetZone};
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::FailureKind;

/// The look begins so long before its answer is needed.
pub(super) const AHEAD: Duration = Duration::from_secs(5);
/// Between two looks while nobody else serves.
const AGAIN: Duration = Duration::from_secs(5);
/// Others that were noticed together with this instance have set their tag by then.
const TAGGED_WITHIN: Duration = Duration::from_secs(3);
/// Of more others than this some stay; they are not asked for their tags.
const FEW: usize = 10;

#[derive(Default)]
pub(super) struct Light {
    groups: Vec<Group>,
}

struct Group {
    stage: Stage,
    pace: Pace,
    /// Tells whether another target serves that is not itself leaving; unknown before the first answer.
    serves: Option<bool>,
}

enum Stage {
    Health,
    /// The other healthy targets: whether they bear the tag of one that goes.
    Tags(Vec<InstanceId>),
}

impl Light {
    /// The look at every registration, also at those found late.
    pub(super) fn due(
        &mut self,
        now: BootInstant,
        terms: &Terms,
        registrations: &[Registration],
    ) -> Vec<(usize, Call)> {
        for registration in registrations.iter().skip(self.groups.len()) {
            let seed = seed(terms, &format!("light in {}", registration.target_group));
            self.groups.push(Group { stage: Stage::Health, pace: Pace::new(now, seed), serves: None });
        }
        let groups = self.groups.iter_mut().zip(registrations).enumerate();
        groups.filter_map(|(index, (group, registration))| Some((index, group.due(now, registration)?))).collect()
    }

    pub(super) fn answered(&mut self, now: BootInstant, index: usize, terms: &Terms, answer: Answer) {
        if let Some(group) = self.groups.get_mut(index) {
            group.answered(now, terms, answer);
        }
    }

    /// Tells whether this instance is the last one somewhere: known, unknown.
    pub(super) fn others_serve(&self, registrations: &[Registration]) -> Option<bool> {
        let known = |index: usize| self.groups.get(index).and_then(|group| group.serves);
        let mut each = (0..registrations.len()).map(known);
        each.try_fold(true, |all, one| one.map(|one| all && one))
    }

    pub(super) fn pace(&self, index: usize) -> Option<&Pace> {
        self.groups.get(index).map(|group| &group.pace)
    }

    pub(super) fn wakes(&self) -> impl Iterator<Item = BootInstant> {
        self.groups.iter().filter(|group| group.serves != Some(true)).filter_map(|group| group.pace.wake())
    }
}

impl Group {
    fn due(&mut self, now: BootInstant, registration: &Registration) -> Option<Call> {
        if self.serves == Some(true) || !self.pace.begin(now) {
            return None;
        }
        Some(match &self.stage {
            Stage::Health => Call::DescribeTargetHealth {
                target_group: registration.target_group.clone(),
                targets: Vec::new(),
                zone: TargetZone::Implied,
            },
            Stage::Tags(others) => Call::DescribeInstances { instance_ids: others.clone() },
        })
    }

    fn answered(&mut self, now: BootInstant, terms: &Terms, answer: Answer) {
        match (&self.stage, answer) {
            (Stage::Health, Answer::Health(rows)) => self.saw(now, terms, &rows),
            (Stage::Tags(_), Answer::Instances(instances)) => {
                let stays = |tags: &std::collections::BTreeMap<String, String>| !tags.contains_key(LEAVING_TAG);
                self.decide(now, instances.iter().any(|it| it.state.is_alive() && stays(&it.tags)));
            }
            (_, Answer::Failed(failure)) if failure.has_code(&["TargetGroupNotFound"]) => self.decide(now, true),
            // IAM lets nobody read the tags: the others are healthy, and that is all there is to know.
            (Stage::Tags(_), Answer::Failed(failure)) if failure.kind == FailureKind::Denied => self.decide(now, true),
            (_, other) => self.pace.failed_by(now, other),
        }
    }

    fn saw(&mut self, now: BootInstant, terms: &Terms, rows: &[TargetHealth]) {
        let identity = &terms.identity;
        let is_ours = |id: &str| id == identity.instance_id.as_str() || id == identity.private_ip;
        let healthy = rows.iter().filter(|row| row.state == TargetState::Healthy && !is_ours(&row.target.id));
        let mut others: Vec<&str> = healthy.map(|row| row.target.id.as_str()).collect();
        others.sort_unstable();
        others.dedup();
        // The tags of an address are not to be asked for.
        let has_tags = others.iter().all(|id| id.starts_with("i-"));
        if others.is_empty() || others.len() > FEW || !has_tags {
            return self.decide(now, !others.is_empty());
        }
        self.stage = Stage::Tags(others.into_iter().map(InstanceId::new).collect());
        let begun_at = terms.clocks.1;
        self.pace.succeeded(now.max(begun_at + TAGGED_WITHIN));
    }

    fn decide(&mut self, now: BootInstant, serves: bool) {
        self.serves = Some(serves);
        self.stage = Stage::Health;
        self.pace.succeeded(now + AGAIN);
    }
}
